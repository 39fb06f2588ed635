"""A handshake's own words and proofs: headers, origin, subprotocols, certificates."""

import contextlib
import os
import time

import pytest
from support import loopback
from support.authority import Authority
from support.connecting import connected, fail_to_open, hold, receive
from support.loopback import frame, raw, venue

from shmfeed.settings.headers import SecretHeaders
from shmfeed.settings.loading import load
from shmfeed.wire import tls
from shmfeed.wire.connect import ConnectPolicy, policy_of
from shmfeed.wire.handshake import Request


def asking(**request):
    return ConnectPolicy(request=Request(**request))


@contextlib.contextmanager
def listening(extra=""):
    """Yield the heads of requests, and the URL of a server that accepts them."""
    heads = []

    def handler(connection):
        heads.append(loopback.read_head(connection))
        reply = loopback.answer(heads[-1])
        connection.sendall(reply[:-2] + extra.encode() + b"\r\n" + frame(b"hello"))
        hold(connection)

    with raw(handler) as url:
        yield heads, url


def test_headers_origin_and_subprotocols_are_sent_as_given():
    policy = policy_of(
        load(
            {
                "headers": {
                    "X-Key": "caf\u00e9 1",
                    "Cookie": "a=1; b=2",
                    "X-Empty": "",
                },
                "origin": "https://example.com",
                "subprotocols": ["v2.json", "v1.json"],
            },
            {},
        )
    )
    with listening() as (heads, url), connected(url, policy=policy):
        pass
    lines = heads[0].decode("latin-1").split("\r\n")
    for line in (
        "X-Key: caf\u00e9 1",
        "Cookie: a=1; b=2",
        "X-Empty: ",
        "Origin: https://example.com",
        "Sec-WebSocket-Protocol: v2.json, v1.json",
    ):
        assert lines.count(line) == 1
    assert lines[0] == "GET /market_data HTTP/1.1"
    assert "x-key" not in repr(policy).lower() or "caf" not in repr(policy)


def test_a_user_agent_of_its_own_replaces_ours():
    policy = asking(headers=SecretHeaders((("user-agent", "mine/1"),)))
    with listening() as (heads, url), connected(url, policy=policy):
        pass
    assert heads[0].lower().count(b"user-agent:") == 1
    assert b"user-agent: mine/1\r\n" in heads[0]


@pytest.mark.parametrize("chosen", ["", "v1.json", "v2.json"])
def test_a_subprotocol_that_was_offered_is_accepted(chosen):
    extra = f"Sec-WebSocket-Protocol: {chosen}\r\n" if chosen else ""
    policy = asking(subprotocols=("v2.json", "v1.json"))
    with listening(extra) as (_, url), connected(url, policy=policy) as connection:
        assert receive(connection, 1) == [b"hello"]


@pytest.mark.parametrize("chosen", ["v3.json", "V1.JSON", "v1.json, v2.json"])
def test_another_subprotocol_is_refused(chosen):
    policy = asking(subprotocols=("v2.json", "v1.json"))
    with listening(f"Sec-WebSocket-Protocol: {chosen}\r\n") as (_, url):
        assert "sec-websocket-protocol that was not offered" in fail_to_open(
            url, policy=policy
        )


# Certificates


def greet(ws):
    ws.send("hello")
    ws.recv()


@contextlib.contextmanager
def secured(authority, **options):
    with venue(greet, ssl=authority.server_context(**options)) as url:
        yield url.replace("127.0.0.1", "localhost")


def test_an_authority_of_ones_own_is_trusted_and_no_other(authority, tmp_path):
    other = Authority(tmp_path)
    with secured(authority) as url:
        policy = ConnectPolicy(ca_file=str(authority.file))
        with connected(url, policy=policy) as connection:
            assert receive(connection, 1) == [b"hello"]
        for stranger in (ConnectPolicy(), ConnectPolicy(ca_file=str(other.file))):
            assert fail_to_open(url, policy=stranger).startswith(
                "the server's certificate is refused: unable to get local issuer"
            )


def test_an_authority_of_ones_own_replaces_the_systems(
    authority, tmp_path, monkeypatch
):
    other = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    tls._context.cache_clear()
    with secured(authority) as url:
        with connected(url):  # control: the system's authorities suffice
            pass
        policy = ConnectPolicy(ca_file=str(other.file))
        assert "certificate is refused" in fail_to_open(url, policy=policy)
    tls._context.cache_clear()


def test_a_server_that_asks_gets_the_clients_certificate(authority, tmp_path):
    stranger = Authority(tmp_path)
    with secured(authority, asks_client=True) as url:
        policy = ConnectPolicy(
            ca_file=str(authority.file), client_cert=(str(authority.client),)
        )
        with connected(url, policy=policy) as connection:
            assert receive(connection, 1) == [b"hello"]
        for paths in ((), (str(stranger.client),)):
            fail_to_open(url, policy=policy._replace(client_cert=paths))


def test_a_context_is_made_once_and_again_when_its_file_changes(authority, tmp_path):
    path = tmp_path / "ca.pem"
    path.write_bytes(authority.file.read_bytes())
    first = tls.tls_context(str(path))
    assert tls.tls_context(str(path)) is first
    assert tls.tls_context(str(path), (str(authority.client),)) is not first
    os.utime(path, (time.time(), time.time() + 5))
    assert tls.tls_context(str(path)) is not first
    assert tls.tls_context() is tls.tls_context()


def test_a_file_that_went_bad_fails_the_attempt_and_heals(authority, tmp_path):
    path = tmp_path / "ca.pem"
    with secured(authority) as url:
        for content, words in (
            (None, f"file {str(path)!r} cannot be read: No such file or directory"),
            (b"x", "holds no certificate in PEM form"),
            (authority.file.read_bytes(), ""),
        ):
            if content is not None:
                path.write_bytes(content)
            policy = ConnectPolicy(ca_file=str(path))
            if words:
                assert words in fail_to_open(url, policy=policy)
            else:
                with connected(url, policy=policy) as connection:
                    assert receive(connection, 1) == [b"hello"]
