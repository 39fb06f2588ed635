"""T22: the servers of the other tests, met by a client with secrets that logs it all.

The client runs in a process of its own at DEBUG, shows every object that it has, and
dumps its threads at the end. All that it has printed is searched, and its arguments.
"""

import json
from pathlib import Path

import pytest
from support import loopback
from support.loopback import bar, frame, raw
from support.spoiling import dump, wealthai_messages
from test_cuts import SCRIPT, SIZE
from test_hostile_server import KEY, TOKEN, silenced_client
from test_nasty_server import ACKNOWLEDGED, CASES, Nasty

HEADER = "canary-of-the-header-5d20"
PASSWORD = "canary-of-the-proxy-e1b7"
ECHO = f"{TOKEN} {KEY} {HEADER}"
EACH = 40  # a session is cut at each so many bytes
QUICK = {
    "connect_timeout": 2.0,
    "ack_timeout": 2.0,
    "heartbeat_interval": 0.1,
    "heartbeat_timeout": 0.3,
    "headers": {"Authorization": f"Bearer {HEADER}"},
}


@pytest.fixture
def meet(tmp_path):
    """Return a function that lets the client meet a server; search its words later."""
    with silenced_client(tmp_path) as client:
        yield lambda url, **more: client.do(f"{url}?key={KEY}", **QUICK, **more)
        arguments = Path(f"/proc/{client.process.pid}/cmdline").read_bytes()
    said = (tmp_path / "errors").read_text()
    assert "Settings(" in said  # it has shown its objects
    for secret in (TOKEN, KEY, HEADER, PASSWORD):
        assert secret not in said
        assert secret.encode() not in arguments


def test_misdeeds(meet):
    for case in CASES.values():
        with raw(Nasty(case)) as url:
            meet(url)


def test_cuts(meet):
    def cut(connection):
        whole = loopback.answer(loopback.read_head(connection)) + SCRIPT
        connection.sendall(whole[: next(places)])

    places = iter(range(0, SIZE, EACH))
    with raw(cut) as url:
        for _ in range(0, SIZE, EACH):
            meet(url)


def test_malformed_messages_that_repeat_them(meet):
    spoilt = [
        frame(
            dump([*message[:at], (key, json.dumps(ECHO)), *message[at + 1 :]]).encode()
        )
        for number in range(2)
        for message in wealthai_messages(number)
        for at, (key, _) in enumerate(message)
    ]

    def send(connection):
        loopback.upgrade(connection)
        loopback.read_frame(connection)
        connection.sendall(ACKNOWLEDGED + b"".join(spoilt) + frame(bar(0).encode()))
        connection.recv(4096)

    with raw(send) as url:
        found = meet(url)
    assert found["kinds"]["Malformed"] > 20


def test_silence(meet):
    def fall_silent(connection):
        loopback.upgrade(connection)
        loopback.read_frame(connection)
        connection.sendall(ACKNOWLEDGED + frame(bar(0).encode())[:9])
        while connection.recv(4096):
            pass

    with raw(fall_silent) as url:
        assert "0.3 s" in meet(url)["error"]


def test_certificates_and_no_tls(meet, authority):
    def greet(connection):
        with authority.server_context().wrap_socket(connection, server_side=True):
            pass

    with raw(greet) as url:
        secure = url.replace("ws://127.0.0.1", "wss://localhost")
        assert "certificate is refused" in meet(secure)["error"]
        trusted = {"ca_file": str(authority.file)}
        assert "certificate is refused" not in meet(secure, **trusted)["error"]
    with raw(lambda connection: connection.sendall(b"HTTP/1.1 400 Bad\r\n\r\n")) as url:
        assert "TLS: " in meet(url.replace("ws:", "wss:"))["error"]


def test_a_proxy_that_repeats_them(meet, tmp_path):
    password = tmp_path / "password"
    password.write_text(PASSWORD)
    password.chmod(0o600)
    answer = f"HTTP/1.1 407 No {PASSWORD}\r\nX: y\r\n\r\nnot {PASSWORD} {ECHO}".encode()
    with loopback.proxy(answer) as (_, address):
        proxy = address.replace("://", "://someone@")
        more = {"proxy": proxy, "proxy_password_file": str(password)}
        error = meet("wss://venue.invalid/x", **more)["error"]
        assert "the proxy refuses the user or the password" in error


REST = {
    "words of a refusal": b'HTTP/1.1 400 %s\r\nX: y\r\n\r\n{"code":-1,"msg":"not %s"}',
    "a page": b"HTTP/1.1 502 No\r\nX: y\r\n\r\n<html><title>Not %s or %s</title>",
    "a header": b"HTTP/1.1 429 No\r\nRetry-After: %s\r\n\r\nbanned: %s",
    "another place": b"HTTP/1.1 302 No\r\nLocation: /?%s\r\n\r\n%s",
    "rubbish": b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n[[0,%s,%s]]",
    "no HTTP": b"%s %s\r\n\r\n",
}


def test_rest_services_that_repeat_them(meet):
    for what, answer in REST.items():

        def send(connection, answer=answer):
            loopback.read_head(connection)
            connection.sendall(answer % ((f'"{ECHO}"'.encode(),) * 2))

        with raw(send) as url:
            base = url.replace("ws:", "http:")
            more = {"protocol": "binance", "market_type": "spot", "way": "rest"}
            assert meet(base, **more)["error"], what


def test_control_a_session_that_tells_is_found(tmp_path):
    with pytest.raises(AssertionError, match="canary"):
        with silenced_client(tmp_path) as client:
            client.do(f"ws://127.0.0.1/?{TOKEN}", way="plant")
