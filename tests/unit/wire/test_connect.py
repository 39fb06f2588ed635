"""On the way to an open connection: proxies, redirects, TLS."""

import contextlib
import socket
import ssl
import subprocess
import threading
import time
import warnings

import pytest
import websocket
from hypothesis import given
from hypothesis import strategies as st
from support import loopback
from support.connecting import connected, fail_to_open, hold, receive
from support.loopback import proxy, raw, venue

from shmfeed.settings.headers import SecretHeaders
from shmfeed.wire import handshake, tls
from shmfeed.wire.answers import parse_answer
from shmfeed.wire.connect import ConnectPolicy, check_target
from shmfeed.wire.connection import Connection, ConnectionLostError
from shmfeed.wire.errors import HandshakeError, RedirectedError
from shmfeed.wire.handshake import Request
from shmfeed.wire.opening import follow_redirect
from shmfeed.wire.proxies import tunnel_refusal

# Proxies


def test_no_proxy_of_the_environment_is_used(monkeypatch):
    visits = []

    def decoy(connection):
        visits.append(connection.recv(100))

    def handler(ws):
        ws.send("direct")
        ws.recv()

    with raw(decoy) as proxy_url, venue(handler) as url:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy_url.replace("ws:", "http:"))
            monkeypatch.setenv(name.upper(), proxy_url.replace("ws:", "http:"))
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        with connected(url) as connection:
            assert receive(connection, 1) == [b"direct"]
        assert not visits
        # Control: websocket-client goes there, although it is told not to.
        with pytest.raises(websocket.WebSocketException):
            websocket.WebSocket().connect(url, timeout=2, http_no_proxy=["*"])
        assert visits


def greet(ws):
    """Serve a venue that sends hello, and then echoes."""
    ws.send("hello")
    for text in ws:
        ws.send(text)


def test_a_proxy_gets_a_tunnel_request_and_nothing_else():
    with venue(greet) as url, proxy() as (seen, address):
        with connected(
            url + "?key=canary", policy=ConnectPolicy(proxy=address)
        ) as connection:
            assert receive(connection, 1) == [b"hello"]
            connection.send("x" * 100_000)
            assert receive(connection, 1) == [b"x" * 100_000]
    [asked] = seen.asked
    place = url.split("/")[2]
    lines = asked.split("\r\n")
    assert lines[:2] == [f"CONNECT {place} HTTP/1.1", f"Host: {place}"]
    assert "canary" not in asked
    assert "market_data" not in asked


def test_the_proxy_looks_up_the_hosts_name(monkeypatch):
    real = socket.getaddrinfo
    looked_up = []

    def look_up(host, *rest, **options):
        looked_up.append(host)
        return real(host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    places = {"venue.invalid": "127.0.0.1"}
    with venue(greet) as url, proxy(**places) as (_, address):
        url = url.replace("127.0.0.1", "venue.invalid")
        policy = ConnectPolicy(allow_insecure=True, proxy=address)
        with connected(url, policy=policy) as connection:
            assert receive(connection, 1) == [b"hello"]
    assert "venue.invalid" not in looked_up


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            b"HTTP/1.1 407 Authenticate\r\n\r\n",
            "the proxy asks for a user and a password",
        ),
        (b"HTTP/1.1 503 No way\r\n\r\n", "the proxy answered 503 No way"),
        (
            b"HTTP/1.1 302 Found\r\nLocation: ws://x/\r\n\r\n",
            "the proxy answered 302 Found",
        ),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "the answer is not HTTP"),
        (b"HTTP/1.1 200 OK\r\n\r\nmore", "the proxy sent more than its answer"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000, "longer than 16384 bytes"),
        (b"", "the server closed the connection during the handshake"),
    ],
)
def test_a_proxys_refusal_is_reported_with_its_answer(answer, words):
    with proxy(answer) as (_, address):
        policy = ConnectPolicy(proxy=address, max_redirects=5)
        reason = fail_to_open("ws://127.0.0.1:1/x", policy=policy)
    assert reason.startswith(f"proxy {address}: ")
    assert words in reason


def test_a_missing_or_silent_proxy_is_named():
    address = f"http://127.0.0.1:{loopback.refused_port()}"
    reason = fail_to_open("wss://venue.invalid/x", policy=ConnectPolicy(proxy=address))
    assert reason == f"proxy {address}: connection refused"
    with raw(hold) as url:
        address = "http://" + url.split("/")[2]
        policy = ConnectPolicy(proxy=address)
        reason = fail_to_open("wss://venue.invalid/x", 0.2, policy=policy)
    assert reason == f"proxy {address}: the handshake timed out after 0.2 s"


def test_a_server_behind_a_proxy_cannot_be_reached():
    port = loopback.refused_port()
    with proxy() as (_, address):
        reason = fail_to_open(
            f"ws://127.0.0.1:{port}/x", policy=ConnectPolicy(proxy=address)
        )
    assert (
        reason
        == f"proxy {address}: the server closed the connection during the handshake"
    )


# Redirects


def turn(location, code="302 Found"):
    """Return a server that redirects every request, and keeps them in `asked`."""

    def handler(connection):
        handler.asked.append(loopback.read_head(connection).decode())
        reply = f"HTTP/1.1 {code}\r\nLocation: {location}\r\n\r\n"
        connection.sendall(reply.encode())

    handler.asked = []
    return handler


def test_no_redirect_is_followed_by_default():
    visits = []
    with raw(visits.append) as other, raw(turn(other)) as url:
        assert fail_to_open(url) == (
            "the server redirects (302), which max_redirects does not allow"
        )
    assert not visits


@pytest.mark.parametrize(
    "code", ["301 Moved", "302 Found", "303 See", "307 Temporary", "308 Permanent"]
)
def test_a_redirect_is_followed_if_the_policy_allows_it(code):
    with venue(greet) as other:
        for location in (other, other.replace("ws:", "http:")):
            with raw(turn(location, code)) as url:
                with connected(
                    url, policy=ConnectPolicy(max_redirects=1)
                ) as connection:
                    assert receive(connection, 1) == [b"hello"]


def test_redirects_in_a_row_are_counted():
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(venue(greet))
        for _ in range(3):
            url = stack.enter_context(raw(turn(url)))
        with connected(url, policy=ConnectPolicy(max_redirects=3)) as connection:
            assert receive(connection, 1) == [b"hello"]
        reason = fail_to_open(url, policy=ConnectPolicy(max_redirects=2))
        assert reason.startswith("redirected to ws://127.0.0.1:")
        assert reason.endswith("which max_redirects does not allow")


def test_a_circle_of_redirects_ends_at_the_limit():
    asked = []

    def handler(connection):
        head = loopback.read_head(connection).decode()
        asked.append(head.split()[1])
        reply = "HTTP/1.1 307 On\r\nLocation: ./next?round=1\r\n\r\n"
        connection.sendall(reply.encode())

    with raw(handler) as url:
        reason = fail_to_open(url, policy=ConnectPolicy(max_redirects=5))
    assert "max_redirects" in reason
    assert asked == ["/market_data"] + ["/next?round=1"] * 5


def test_all_redirects_share_one_deadline():
    def handler(connection):
        loopback.read_head(connection)
        if not stop.wait(0.15):
            connection.sendall(b"HTTP/1.1 302 On\r\nLocation: /again\r\n\r\n")

    stop = threading.Event()
    with raw(handler) as url:
        started = time.monotonic()
        reason = fail_to_open(url, 0.4, policy=ConnectPolicy(max_redirects=5))
        took = time.monotonic() - started
        stop.set()
    assert reason.endswith("timed out after 0.4 s")
    assert 0.4 <= took < 0.75 + 1


@pytest.mark.parametrize(
    "policy", [ConnectPolicy(max_redirects=1), ConnectPolicy(True, None, 1)]
)
def test_a_redirect_elsewhere_gets_no_secret(policy):
    visits = []
    with raw(visits.append) as other, raw(turn(other)) as url:
        shown = other.split("?")[0]
        for place, private in (
            (url + "?key=canary", policy),
            (url, policy._replace(has_token=True)),
            (url, policy._replace(request=Request(SecretHeaders((("X", "canary"),))))),
        ):
            reason = fail_to_open(place, policy=private)
            assert reason == (
                f"the server redirects (302) to {shown}, which must not get the"
                " feeder's token, headers or query; if it is the venue's, give it as"
                " endpoint"
            )
    assert not visits


def test_control_without_a_secret_the_redirect_is_followed():
    # Control of the test above.
    visits = []
    with raw(visits.append) as other, raw(turn(other)) as url:
        fail_to_open(url, policy=ConnectPolicy(max_redirects=1))
    assert visits


def test_a_redirect_within_the_host_keeps_the_token_but_not_the_query():
    def handler(connection):
        head = loopback.read_head(connection).decode()
        asked.append(head.split()[1])
        if asked[-1].startswith("/market_data"):
            connection.sendall(b"HTTP/1.1 308 On\r\nLocation: /v2\r\n\r\n")
        else:
            connection.sendall(loopback.answer(head.encode()))
            hold(connection)

    asked = []
    policy = ConnectPolicy(max_redirects=1, has_token=True)
    with (
        raw(handler) as url,
        connected(url + "?key=canary", policy=policy) as connection,
    ):
        assert connection.label == url + "?..."
    assert asked == ["/market_data?key=canary", "/v2"]


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("", "to nowhere"),
        ("ws://192.0.2.1/x", "is not encrypted and not on this host"),
        ("http://192.0.2.1/x", "is not encrypted and not on this host"),
        ("ftp://127.0.0.1/x", "its scheme is not ws:// or wss://"),
        ("wss://user:hunter2@127.0.0.1/x", "it names a user or a password"),
        ("ws://127.0.0.1:99999/x", "its host or port cannot be read"),
        ("wss://a..b/x", "its host"),
        ("ws://127.0.0.1/x#y", "a fragment"),
        ("ws://127.0.0.1/x?a b", "a character that has to be percent-encoded"),
        ("ws://127.0.0.1/\x01\x7f", "a character that no address has"),
        (
            "ws://127.0.0.1/" + "x" * 9000,
            "to an address that is not accepted: 'ws://127.0.0.1/xxx",
        ),
        ("ws://[::1/", "to no valid address"),
        ("//192.0.2.1/x", "is not encrypted and not on this host"),
    ],
)
def test_a_redirect_to_a_forbidden_address_is_refused(location, words):
    with raw(turn(location)) as url:
        reason = fail_to_open(url, policy=ConnectPolicy(max_redirects=5))
    assert reason.startswith("the server redirects (302) ")
    assert words in reason
    assert "hunter2" not in reason


def test_a_redirect_uses_the_proxy_too():
    with venue(greet) as other, raw(turn(other)) as url, proxy() as (seen, address):
        policy = ConnectPolicy(proxy=address, max_redirects=1)
        with connected(url, policy=policy) as connection:
            assert receive(connection, 1) == [b"hello"]
    places = [asked.split()[1] for asked in seen.asked]
    assert places == [url.split("/")[2], other.split("/")[2]]


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Files of a key and its self-signed certificate for localhost."""
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
    command += f" -keyout {key} -out {cert} -days 2 -subj /CN=localhost"
    command += " -addext subjectAltName=DNS:localhost"
    try:
        subprocess.run(command.split(), check=True, capture_output=True)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs the openssl command: {error}")
    return key, cert


@pytest.fixture(scope="module")
def expired(certificate, tmp_path_factory):
    """Files of a key and its certificate for localhost, which expired yesterday."""
    folder = tmp_path_factory.mktemp("expired")
    key, request, cert, names = (folder / name for name in ("key", "csr", "crt", "ext"))
    names.write_text("subjectAltName=DNS:localhost\n")
    key.write_bytes(certificate[0].read_bytes())
    sign = f"openssl x509 -req -in {request} -signkey {key} -extfile {names}"
    for command in (
        f"openssl req -new -key {key} -out {request} -subj /CN=localhost",
        f"{sign} -days -1 -out {cert}",
    ):
        done = subprocess.run(command.split(), capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"this openssl makes no expired certificate: {done.stderr}")
    return key, cert


def server_context(files):
    """Return the TLS context of a server with these files."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files[1], files[0])
    return context


@pytest.fixture
def tls_venue(certificate):
    context = server_context(certificate)

    def handler(ws):
        for number in range(200):
            ws.send(f"{number} ".encode() + b"x" * 1000)
        ws.send(ws.recv())
        ws.recv()

    with venue(handler, ssl=context) as url:
        yield url.replace("127.0.0.1", "localhost")


@pytest.fixture
def trusting(monkeypatch, certificate):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[1]))
    tls._context.cache_clear()
    yield
    tls._context.cache_clear()


def test_a_self_signed_certificate_is_refused(tls_venue):
    assert fail_to_open(tls_venue).startswith(
        "the server's certificate is refused: self"
    )


@pytest.mark.usefixtures("trusting")
def test_a_certificate_of_another_host_is_refused(tls_venue):
    reason = fail_to_open(tls_venue.replace("localhost", "127.0.0.1"))
    assert reason.startswith("the server's certificate is refused: ")


@pytest.mark.usefixtures("trusting")
def test_every_record_of_a_trusted_server_is_read(tls_venue):
    with connected(tls_venue) as connection:
        messages = receive(connection, 200)
        assert [int(m.split()[0]) for m in messages] == list(range(200))
        connection.send("y" * 50_000)
        assert receive(connection, 1) == [b"y" * 50_000]


def test_an_expired_certificate_is_refused_though_it_is_trusted(expired, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(expired[1]))
    tls._context.cache_clear()
    with venue(greet, ssl=server_context(expired)) as url:
        reason = fail_to_open(url.replace("127.0.0.1", "localhost"))
    tls._context.cache_clear()
    assert reason == "the server's certificate is refused: certificate has expired"


@contextlib.contextmanager
def old(context, maximum=None):
    """Let a context use only versions before TLS 1.2."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it is what is tested
        context.minimum_version = ssl.TLSVersion.TLSv1
        if maximum:
            context.maximum_version = maximum
    context.set_ciphers("ALL:@SECLEVEL=0")
    yield context


@pytest.mark.usefixtures("trusting")
def test_tls_before_1_2_is_refused(certificate):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        version = ssl.TLSVersion.TLSv1_1
    with old(server_context(certificate), version) as context:
        with venue(greet, ssl=context) as url:
            url = url.replace("127.0.0.1", "localhost")
            assert fail_to_open(url) == "TLS: the server does not support TLS 1.2"
            # Control: with our own limit gone, it connects.
            with old(tls.tls_context()), connected(url) as connection:
                assert receive(connection, 1) == [b"hello"]


@pytest.mark.usefixtures("trusting")
def test_a_server_behind_a_proxy_is_verified_as_any_other(tls_venue):
    with proxy() as (seen, address):
        policy = ConnectPolicy(proxy=address)
        with connected(tls_venue, policy=policy) as connection:
            assert len(receive(connection, 200)) == 200
        wrong = tls_venue.replace("localhost", "127.0.0.1")
        reason = fail_to_open(wrong, policy=policy)
        assert reason.startswith(
            "the server's certificate is refused: IP address mismatch"
        )
    assert all(asked.startswith("CONNECT") for asked in seen.asked)
    assert len(seen.asked) == 2


@pytest.mark.usefixtures("trusting")
def test_a_redirect_never_leaves_tls(certificate):
    visits = []
    with raw(visits.append) as plain:

        def send_on(connection, request):
            reply = connection.respond(302, "")
            reply.headers["Location"] = plain
            return reply

        tls = {"ssl": server_context(certificate), "process_request": send_on}
        with venue(greet, **tls) as url:
            url = url.replace("127.0.0.1", "localhost")
            for policy in (
                ConnectPolicy(max_redirects=5),
                ConnectPolicy(True, None, 5),
            ):
                reason = fail_to_open(url, policy=policy)
                assert reason == (f"the server redirects (302) from wss:// to {plain}")
    assert not visits


def test_tls_to_a_server_without_tls_fails():
    def handler(connection):
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        hold(connection)

    with raw(handler) as url:
        assert fail_to_open(url.replace("ws:", "wss:")).startswith("TLS: ")


def test_a_tls_handshake_that_is_never_answered_times_out():
    with raw(hold) as url:
        reason = fail_to_open(url.replace("ws:", "wss:"), timeout=0.2)
    assert reason == "the TLS handshake timed out after 0.2 s"


def test_nothing_in_the_environment_weakens_or_records_tls(
    monkeypatch, certificate, tls_venue, tmp_path
):
    monkeypatch.setenv("WEBSOCKET_CLIENT_CA_BUNDLE", str(certificate[1]))
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    tls._context.cache_clear()
    assert "the server's certificate is refused" in fail_to_open(tls_venue)
    tls._context.cache_clear()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[1]))
    with connected(tls_venue):
        pass
    tls._context.cache_clear()
    keys = tmp_path / "keys"
    assert not keys.exists() or "SECRET" not in keys.read_text()


def test_the_tls_context_asks_for_a_verified_host_and_tls_1_2():
    context = tls.tls_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION


@pytest.mark.usefixtures("trusting")
@pytest.mark.parametrize("flip", [False, True])
def test_a_tls_connection_cut_or_changed_anywhere_hands_out_whole_messages_only(
    certificate, flip
):
    texts = [b"%d " % n + b"x" * 100 for n in range(20)]

    def handler(ws):
        for text in texts:
            ws.send(text)
        ws.recv()

    with venue(handler, ssl=server_context(certificate)) as url:
        there = ("127.0.0.1", int(url.split(":")[2].split("/")[0]))
        for place in range(0, 4600, 113 if flip else 61):
            line = loopback.Tampered(there, place, flip=flip)
            with raw(line) as tampered:
                found = []
                place_url = tampered.replace("ws://127.0.0.1", "wss://localhost")
                connection = Connection(place_url, max_frame_bytes=1 << 20)
                with pytest.raises(ConnectionLostError):
                    connection.open(5)
                    while len(found) < len(texts) or connection.wait(0.01) != "idle":
                        connection.wait(1)
                        found += connection.receive()
                    raise ConnectionLostError("all of it came through")
                connection.close()
            assert found == texts[: len(found)]
        assert len(found) == len(texts)  # the last places lie behind all of them


def test_without_tls_a_changed_byte_would_arrive():
    # Control of the test above.
    with venue(lambda ws: (ws.send(b"x" * 1000), ws.recv())) as url:
        there = ("127.0.0.1", int(url.split(":")[2].split("/")[0]))
        with raw(loopback.Tampered(there, 600, flip=True)) as tampered:
            with connected(tampered) as connection:
                [text] = receive(connection, 1)
    assert sorted(set(text)) == [ord("x") ^ 0x55, ord("x")]


# Whatever a server says before there is a connection

HEADS = st.binary(max_size=80).map(lambda some: b"HTTP/1.1 302 x\r\nLocation: " + some)


@given(st.one_of(HEADS, st.binary(max_size=80)))
def test_any_answer_is_an_acceptance_a_refusal_or_a_redirect(head):
    with contextlib.suppress(HandshakeError):
        answer = parse_answer(head)
        tunnel_refusal(answer, "", False)
        handshake.refusal(answer, "")
        handshake.check_upgrade(answer, handshake.new_key())


PLACES = st.one_of(
    st.text(st.characters(max_codepoint=255), max_size=60),
    st.builds(
        "".join,
        st.lists(
            st.sampled_from([*"/:@?#[].\\ ", "ws", "wss", "http", "//", "a", "::1"])
        ),
    ),
)


@given(location=PLACES, secure=st.booleans(), private=st.booleans())
def test_no_redirect_leads_to_a_forbidden_address(location, secure, private):
    policy = ConnectPolicy(max_redirects=1, has_token=private)
    target = check_target(f"ws{'s' * secure}://localhost/market_data", policy)
    redirect = RedirectedError(302, location)
    try:
        found = follow_redirect(redirect, target, policy)
    except HandshakeError:
        return
    assert found.is_secure >= target.is_secure
    assert found.is_secure or found.host in {"localhost", "127.0.0.1", "::1"}
    assert not private or (found.host, found.port) == (target.host, target.port)
    assert handshake.upgrade_request(found, "key").count(b"\r\n") == 8
