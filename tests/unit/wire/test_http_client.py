"""The client of REST takes the way of the WebSocket, and gives up in time."""

import gzip
import re
import socket
import threading
import time
from contextlib import closing

import pytest
from support.authority import Authority
from support.loopback import Proxy, proxy, raw, read_head
from support.proxies import SocksProxy
from support.rest_venue import Reply, as_json, rest_venue

from shmfeed.settings.model import Settings
from shmfeed.wire.connect import policy_of
from shmfeed.wire.errors import ConnectionLostError
from shmfeed.wire.http_client import HttpClient

CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


def client_of(url, **settings):
    return closing(HttpClient(url, lambda: policy_of(Settings(**settings))))


def fails(url, *, resource="/", limit=1 << 20, timeout=5.0, **settings):
    with client_of(url, **settings) as client:
        with pytest.raises(ConnectionLostError) as caught:
            client.get(resource, limit, timeout)
    return str(caught.value)


class TestTheWay:
    def test_an_authority_of_its_own(self, authority):
        with rest_venue(lambda _asked: as_json([1]), authority.server_context()) as one:
            with client_of(one.url, ca_file=str(authority.file)) as client:
                assert client.get("/").body == b"[1]"
            assert "certificate is refused" in fails(one.url)

    def test_another_hosts_certificate(self, authority):
        context = authority.server_context()
        context.load_cert_chain(authority.issue("other.example"))
        with rest_venue(lambda _asked: as_json([]), context) as venue:
            text = fails(venue.url, ca_file=str(authority.file))
        assert "certificate is refused" in text

    def test_tls_at_a_plain_port(self):
        with rest_venue(lambda _asked: as_json([])) as venue:
            assert "TLS" in fails(venue.url.replace("http:", "https:"))

    def test_a_client_certificate(self, authority):
        context = authority.server_context(asks_client=True)
        with rest_venue(lambda _asked: as_json([1]), context) as venue:
            known = {"ca_file": str(authority.file)}
            with client_of(
                venue.url, client_cert=[str(authority.client)], **known
            ) as client:
                assert client.get("/").body == b"[1]"
            fails(venue.url, **known)

    def test_an_http_proxy(self, authority):
        with rest_venue(lambda _asked: as_json([1]), authority.server_context()) as one:
            with proxy() as (asked, way):
                settings = {"ca_file": str(authority.file), "proxy": way}
                with client_of(one.url, **settings) as client:
                    assert client.get("/").body == b"[1]"
            assert asked.asked[0].startswith("CONNECT 127.0.0.1:")

    def test_a_tls_proxy_to_a_tls_service(self, authority):
        tunnels = Proxy()
        context = authority.server_context()

        def over_tls(connection):
            with context.wrap_socket(connection, server_side=True) as secure:
                tunnels(secure)

        body = b"x" * 300_000
        with rest_venue(lambda _asked: Reply(200, body), context) as venue:
            with raw(over_tls) as url:
                settings = {
                    "ca_file": str(authority.file),
                    "proxy": "https://" + url.split("/")[2],
                }
                with client_of(venue.url, **settings) as client:
                    for _ in range(2):
                        assert client.get("/").body == body
        assert len(tunnels.asked) == 1

    def test_a_socks_proxy_with_a_password(self, tmp_path):
        password = tmp_path / "password"
        password.write_text("canary-secret")
        password.chmod(0o600)
        tunnels = SocksProxy(("me", "canary-secret"))
        with rest_venue(lambda _asked: as_json([1])) as venue, raw(tunnels) as url:
            settings = {
                "proxy": "socks5h://me@" + url.split("/")[2],
                "proxy_password_file": str(password),
            }
            with client_of(venue.url, **settings) as client:
                assert client.get("/").body == b"[1]"
        assert tunnels.asked

    def test_a_proxy_that_refuses(self):
        refusal = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
        with proxy(refusal) as (_, way):
            text = fails("http://127.0.0.1:1", proxy=way)
        assert text == f"proxy {way}: the proxy answered 403 Forbidden"

    def test_no_environment_variable_matters(self, monkeypatch, tmp_path):
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")
        monkeypatch.setenv("no_proxy", "")
        with rest_venue(lambda _asked: as_json([1])) as venue:
            with client_of(venue.url) as client:
                assert client.get("/").body == b"[1]"

    def test_session_keys_go_to_no_file(self, authority, monkeypatch, tmp_path):
        keys = tmp_path / "keys"
        monkeypatch.setenv("SSLKEYLOGFILE", str(keys))
        with rest_venue(lambda _asked: as_json([1]), authority.server_context()) as one:
            with client_of(one.url, ca_file=str(authority.file)) as client:
                client.get("/")
        assert not keys.exists()

    def test_nothing_secret_is_sent(self):
        settings = {
            "csrf_token": "canary-token",
            "headers": {"X-Key": "canary-header"},
        }
        with rest_venue(lambda _asked: as_json([])) as venue:
            with client_of(venue.url, **settings) as client:
                client.get("/x")
            assert "canary" not in str(venue.asked[0].headers.items())


class TestConnections:
    def test_one_is_used_again(self):
        with rest_venue(lambda _asked: as_json([])) as venue:
            with client_of(venue.url) as client:
                for _ in range(3):
                    client.get("/")
                assert len(client._idle) == 1

    def test_one_that_the_server_has_closed_is_replaced(self):
        def serve(connection):
            read_head(connection)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")
            # The end comes with the next request, not before.
            connection.recv(1)

        with raw(serve) as url:
            with client_of(url.replace("ws:", "http:").rsplit("/", 1)[0]) as client:
                for _ in range(3):
                    assert client.get("/").body == b"[]"

    def test_a_new_policy_gets_a_new_connection(self):
        now = Settings()
        with rest_venue(lambda _asked: as_json([])) as venue, proxy() as (one, way):
            with closing(HttpClient(venue.url, lambda: policy_of(now))) as client:
                client.get("/")
                now = Settings(proxy=way)
                client.get("/")
                assert len(one.asked) == 1
                client.get("/")
                assert len(one.asked) == 1

    def test_an_answer_of_unknown_length(self):
        def serve(connection):
            read_head(connection)
            connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n[1, 2]")

        with raw(serve) as url:
            with client_of(url.replace("ws:", "http:")) as client:
                assert client.get("/").body == b"[1, 2]"

    def test_chunks(self):
        def serve(connection):
            read_head(connection)
            head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            connection.sendall(head + b"2\r\n[1\r\n1\r\n]\r\n0\r\n\r\n")
            connection.recv(1)

        with raw(serve) as url:
            with client_of(url.replace("ws:", "http:")) as client:
                assert client.get("/").body == b"[1]"


class TestHostileServers:
    def of(self, answer, *, hang=False, **options):
        def serve(connection):
            read_head(connection)
            connection.sendall(answer)
            if hang:
                connection.recv(1)

        with raw(serve) as url:
            return fails(url.replace("ws:", "http:"), **options)

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (b"", "the server closed the connection without an answer"),
            (b"SSH-2.0-OpenSSH\r\n", "the answer is not HTTP"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[]", "ended too early"),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
                "the answer's body is not HTTP|ended too early",
            ),
            (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 1000, "the answer is not HTTP"),
            (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000, "the answer is not HTTP"),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n[]",
                "the answer is not HTTP",
            ),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nxx",
                "the answer's body is not HTTP",
            ),
            (
                b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\n\r\nxx",
                "packed as 'br', which was not asked for",
            ),
            (
                b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nxx",
                "the answer's gzip is damaged",
            ),
            (
                b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n"
                + gzip.compress(b"[]", mtime=0)[:-9],
                "ended too early",
            ),
        ],
    )
    def test_each_is_an_error(self, answer, words):
        assert re.search(words, self.of(answer))

    def test_an_endless_body(self):
        def serve(connection):
            read_head(connection)
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                connection.sendall(b"x" * 65536)

        with raw(serve) as url:
            text = fails(url.replace("ws:", "http:"))
        assert text == "the answer is longer than 1048576 bytes"

    @pytest.mark.parametrize(
        ("head", "more"),
        [
            (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
            (b"HTTP/1.1 200 OK\r\n" + CHUNKED, b"1;" + b"a" * 9000 + b"\r\nx\r\n"),
            (b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"0\r\n", b"a: " + b"b" * 99 + b"\r\n"),
            (b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"-1\r\n", b"x" * 999),
        ],
        ids=["interim answers", "chunk extensions", "trailers", "negative chunk"],
    )
    def test_an_endless_frame(self, head, more):
        def serve(connection):
            read_head(connection)
            connection.sendall(head)
            while True:
                connection.sendall(more * 1000)

        with raw(serve) as url:
            text = fails(url.replace("ws:", "http:"))
        assert text == "the answer's header or body does not end"

    def test_an_endless_frame_ends_at_the_deadline(self):
        def serve(connection):
            read_head(connection)
            while True:
                connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)

        with raw(serve) as url:
            text = fails(url.replace("ws:", "http:"), limit=1 << 40, timeout=0.2)
        assert text == "the request timed out after 0.2 s"

    def test_a_bomb(self):
        bomb = gzip.compress(b"0" * (64 << 20), mtime=0)
        head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n"
        assert "longer than 1048576 bytes" in self.of(head + bomb)

    def test_a_drip_ends_at_the_deadline(self):
        def serve(connection):
            read_head(connection)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
            while True:
                time.sleep(0.02)
                connection.sendall(b"x")

        begun = time.monotonic()
        with raw(serve) as url:
            text = fails(url.replace("ws:", "http:"), timeout=0.3)
        assert "the request timed out" in text
        assert time.monotonic() - begun < 2

    def test_silence_ends_at_the_deadline(self):
        text = self.of(b"HTTP/1.1 200", hang=True, timeout=0.2)
        assert "the request timed out after 0.2 s" in text

    def test_closing_ends_a_wait(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            url = f"http://127.0.0.1:{server.getsockname()[1]}"
            client = HttpClient(url, lambda: policy_of(Settings()))
            errors = []

            def ask():
                with pytest.raises(ConnectionLostError) as caught:
                    client.get("/")
                errors.append(str(caught.value))

            thread = threading.Thread(target=ask)
            thread.start()
            connection, _ = server.accept()
            with connection:
                connection.recv(1)
                client.close()
                thread.join(5)
            assert errors == ["the client was closed"]
            errors.clear()
