"""Tunnels through proxies, with and without TLS, users and passwords."""

import base64
import contextlib
import socket
import threading
import time

import pytest
from support import loopback
from support.authority import Authority
from support.connecting import (
    connected,
    fail_to_open,
    failure_to_open,
    hold,
    lose,
    receive,
)
from support.loopback import raw, venue
from support.proxies import SocksProxy

from shmfeed.wire.connect import ConnectPolicy
from shmfeed.wire.nested_tls import NestedTls
from shmfeed.wire.proxies import parse_proxy

PASSWORD = "p\u00e4ss w0rd:x"


@pytest.fixture
def password_file(tmp_path):
    path = tmp_path / "password"
    path.write_text(f"{PASSWORD}\n")
    path.chmod(0o600)
    return path


def stream(ws):
    """Serve a venue that sends much, and then echoes."""
    for number in range(300):
        ws.send(f"{number} ".encode() + b"x" * 1000)
    for text in ws:
        ws.send(text)


def use(connection):
    """Read all of it, and send much."""
    messages = receive(connection, 300)
    assert [int(m.split()[0]) for m in messages] == list(range(300))
    connection.send("y" * 300_000)
    assert receive(connection, 1) == [b"y" * 300_000]


@contextlib.contextmanager
def http_proxy(context=None, answer=None):
    """Yield an HTTP proxy, over TLS if it has a context, and its host and port."""
    one = loopback.Proxy(answer)

    def handler(connection):
        if context is not None:
            connection = context.wrap_socket(connection, server_side=True)
        with connection:
            one(connection)

    with raw(handler) as url:
        yield one, f"localhost:{url.split(':')[2].split('/')[0]}"


@contextlib.contextmanager
def socks_proxy(**options):
    one = SocksProxy(**options)
    with raw(one) as url:
        yield one, f"127.0.0.1:{url.split(':')[2].split('/')[0]}"


def test_a_proxy_is_parsed_and_its_repr_has_no_password():
    proxy = parse_proxy("socks5h://a%40b@h:1", "hunter2")
    assert (proxy.user, proxy.host, proxy.port) == ("a@b", "h", 1)
    assert "hunter2" not in repr(proxy)
    assert proxy.label == "socks5h://h:1"


# HTTP


def test_user_and_password_are_sent_as_basic(password_file):
    with venue(stream) as url, http_proxy() as (seen, place):
        policy = ConnectPolicy(
            proxy=f"http://m%40e@{place}", proxy_password_file=str(password_file)
        )
        with connected(url, policy=policy) as connection:
            use(connection)
    given = base64.b64encode(f"m@e:{PASSWORD}".encode()).decode()
    assert f"\r\nProxy-Authorization: Basic {given}\r\n" in seen.asked[0]


def test_the_password_is_read_at_each_connect(password_file):
    with venue(stream) as url, http_proxy() as (seen, place):
        policy = ConnectPolicy(
            proxy=f"http://me@{place}", proxy_password_file=str(password_file)
        )
        for password in ("one", "two"):
            password_file.write_text(password)
            with connected(url, policy=policy):
                pass
        password_file.unlink()
        reason = fail_to_open(url, policy=policy)
    assert "me" not in reason.split("proxy_password_file")[0]
    assert reason == (
        f"proxy http://{place}: proxy_password_file {str(password_file)!r} cannot be"
        " read: No such file or directory"
    )
    for asked, password in zip(seen.asked, ("one", "two"), strict=True):
        assert base64.b64encode(f"me:{password}".encode()).decode() in asked


@pytest.mark.parametrize("leak", ["plain", "basic"])
def test_a_proxy_that_repeats_the_password_does_not_leak_it(password_file, leak):
    basic = base64.b64encode(f"me:{PASSWORD}".encode())
    words = PASSWORD.encode() if leak == "plain" else basic
    answer = b"HTTP/1.1 403 No\r\nRetry-After: 7\r\n\r\nnot with " + words
    with http_proxy(answer=answer) as (_, place):
        policy = ConnectPolicy(
            proxy=f"http://me@{place}", proxy_password_file=str(password_file)
        )
        error = failure_to_open("ws://127.0.0.1:1/", policy=policy)
    assert (
        str(error) == f"proxy http://{place}: the proxy answered 403 No: not with ***"
    )
    assert error.retry_after == 7


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ("", "the proxy asks for a user and a password; name the user in proxy"),
        ("me@", "the proxy refuses the user or the password"),
    ],
)
def test_a_proxy_that_wants_another_login_says_so(user, words):
    answer = b"HTTP/1.1 407 Login\r\nProxy-Authenticate: Basic\r\n\r\n"
    with http_proxy(answer=answer) as (_, place):
        policy = ConnectPolicy(proxy=f"http://{user}{place}")
        assert words in fail_to_open("ws://127.0.0.1:1/", policy=policy)


# HTTPS


@pytest.mark.parametrize("is_secure", [False, True])
def test_a_proxy_may_be_spoken_to_by_tls(authority, is_secure):
    options = {"ssl": authority.server_context()} if is_secure else {}
    with venue(stream, **options) as url:
        with http_proxy(authority.server_context()) as (seen, place):
            policy = ConnectPolicy(
                proxy=f"https://{place}", ca_file=str(authority.file)
            )
            url = url.replace("127.0.0.1", "localhost")
            with connected(url, policy=policy) as connection:
                assert isinstance(connection._sock, NestedTls) == is_secure
                use(connection)
    assert seen.asked[0].startswith("CONNECT localhost:")


def test_the_proxys_certificate_is_verified_and_the_servers_too(authority, tmp_path):
    stranger = Authority(tmp_path)
    for proxys, servers, words in (
        (stranger, authority, "proxy https://"),
        (authority, stranger, ""),
    ):
        with venue(stream, ssl=servers.server_context()) as url:
            with http_proxy(proxys.server_context()) as (_, place):
                policy = ConnectPolicy(
                    proxy=f"https://{place}", ca_file=str(authority.file)
                )
                url = url.replace("127.0.0.1", "localhost")
                reason = fail_to_open(url, policy=policy)
        assert reason.startswith(words)
        assert "the server's certificate is refused: unable to get local" in reason


def test_a_server_inside_two_layers_is_heard_to_its_last_message(authority):
    def handler(ws):
        for number in range(50):
            ws.send(b"%d" % number)
        ws.close(1001, "bye")

    with venue(handler, ssl=authority.server_context()) as url:
        with http_proxy(authority.server_context()) as (_, place):
            policy = ConnectPolicy(
                proxy=f"https://{place}", ca_file=str(authority.file)
            )
            url = url.replace("127.0.0.1", "localhost")
            with connected(url, policy=policy) as connection:
                assert receive(connection, 50) == [b"%d" % n for n in range(50)]


def test_a_connection_inside_two_layers_that_is_cut_is_reported_as_any_other(
    authority,
):
    with venue(stream, ssl=authority.server_context()) as url:
        there = ("127.0.0.1", int(url.split(":")[2].split("/")[0]))
        with raw(loopback.Tampered(there, 100_000, flip=False)) as cut:
            with http_proxy(authority.server_context()) as (_, place):
                policy = ConnectPolicy(
                    proxy=f"https://{place}", ca_file=str(authority.file)
                )
                cut = cut.replace("ws://127.0.0.1", "wss://localhost")
                with connected(cut, policy=policy) as connection:
                    ended = lose(connection)
    assert str(ended) == "the server closed the connection without a close frame"


def test_a_plain_proxy_in_the_place_of_one_with_tls_fails():
    def handler(connection):
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        hold(connection)

    with raw(handler) as url:
        proxy = f"https://{url.split('/')[2]}"
        reason = fail_to_open("wss://venue.invalid/", policy=ConnectPolicy(proxy=proxy))
    assert reason.startswith(f"proxy {proxy}: TLS: ")


# SOCKS


@pytest.mark.parametrize("user", ["", "m%40e@"])
def test_socks_looks_names_up_remotely_and_takes_a_login(
    user, password_file, monkeypatch
):
    real = socket.getaddrinfo
    looked_up = []

    def look_up(host, *rest, **options):
        looked_up.append(host)
        return real(host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    login = ("m@e", PASSWORD) if user else None
    places = {"venue.invalid": "127.0.0.1"}
    with venue(stream) as url, socks_proxy(login=login, places=places) as (seen, place):
        policy = ConnectPolicy(
            allow_insecure=True,
            proxy=f"socks5h://{user}{place}",
            proxy_password_file=str(password_file) if user else None,
        )
        url = url.replace("127.0.0.1", "venue.invalid")
        with connected(url, policy=policy) as connection:
            use(connection)
    assert seen.asked == [("venue.invalid", int(url.split(":")[2].split("/")[0]))]
    assert "venue.invalid" not in looked_up


def test_socks_takes_addresses_of_both_kinds_and_any_reply(authority):
    with venue(stream, ssl=authority.server_context()) as url:
        for bound in (b"\x01" + bytes(4), b"\x04" + bytes(16), b"\x03\x05local"):
            with socks_proxy(bound=bound) as (seen, place):
                policy = ConnectPolicy(
                    proxy=f"socks5h://{place}", ca_file=str(authority.file)
                )
                with connected(url, policy=policy) as connection:
                    use(connection)
            assert seen.asked[0][0] == "127.0.0.1"
    with socks_proxy() as (seen, place):
        policy = ConnectPolicy(proxy=f"socks5h://{place}")
        fail_to_open("wss://[::1]:9/", policy=policy)
    assert seen.asked == [("::1", 9)]


@pytest.mark.parametrize(
    ("options", "user", "words"),
    [
        ({"login": ("me", "other")}, "me@", "refuses the user or the password"),
        ({"login": ("me", "x")}, "", "asks for a user and a password; name the user"),
        ({"method": 1}, "", "asks for a kind of login that is not supported"),
        ({"method": 255}, "me@", "asks for a kind of login that is not supported"),
        ({"code": 2}, "", "the proxy cannot connect: not allowed by its rules"),
        ({"code": 5}, "", "the proxy cannot connect: connection refused"),
        ({"code": 99}, "", "the proxy cannot connect: error 99"),
        ({"version": 4}, "", "the proxy does not speak SOCKS version 5"),
        ({"bound": b"\x09"}, "", "the proxy does not speak SOCKS version 5"),
        ({"bound": b"\x01\x00"}, "", "closed the connection during the handshake"),
    ],
)
def test_a_socks_proxys_refusal_is_reported(options, user, words, password_file):
    with venue(stream) as url, socks_proxy(**options) as (_, place):
        policy = ConnectPolicy(
            proxy=f"socks5h://{user}{place}",
            proxy_password_file=str(password_file) if user else None,
        )
        reason = fail_to_open(url, policy=policy)
    assert reason.startswith(f"proxy socks5h://{place}: ")
    assert words in reason


def test_a_password_too_long_for_socks_is_refused(password_file):
    password_file.write_text("x" * 256)
    with socks_proxy(login=("me", "x" * 256)) as (_, place):
        policy = ConnectPolicy(
            proxy=f"socks5h://me@{place}", proxy_password_file=str(password_file)
        )
        reason = fail_to_open("wss://venue.invalid/", policy=policy)
    assert "the password for the proxy is longer than 255 bytes" in reason
    assert "xxx" not in reason


@pytest.mark.parametrize("scheme", ["http", "https", "socks5h"])
def test_a_silent_proxy_ends_with_the_deadline(scheme):
    with raw(hold) as url:
        policy = ConnectPolicy(proxy=f"{scheme}://{url.split('/')[2]}")
        begun = time.monotonic()
        reason = fail_to_open("wss://venue.invalid/x", 0.2, policy=policy)
        assert time.monotonic() - begun < 1
    assert "handshake timed out after 0.2 s" in reason


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
def test_a_proxy_that_sends_one_byte_at_a_time_is_understood(scheme):
    # A proxy in its own thread, behind a relay that cuts everything into bytes.
    kind = SocksProxy() if scheme == "socks5h" else loopback.Proxy()

    def drip(source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(1):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)

    with venue(lambda ws: (ws.send("hello"), ws.recv())) as url, raw(kind) as inner:
        port = int(inner.split(":")[2].split("/")[0])

        def relay(connection):
            with socket.create_connection(("127.0.0.1", port)) as there:
                there.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                back = threading.Thread(target=drip, args=(there, connection))
                back.start()
                drip(connection, there)
                back.join()

        with raw(relay) as outer:
            policy = ConnectPolicy(proxy=f"{scheme}://{outer.split('/')[2]}")
            with connected(url, policy=policy) as connection:
                assert receive(connection, 1) == [b"hello"]
