"""Answers to the handshake: repeated fields, odd spelling, refusals and their words."""

import contextlib
import time
import tracemalloc

import pytest
import websocket
from support import loopback
from support.connecting import connected, fail_to_open, failure_to_open, hold, receive
from support.loopback import frame, raw

from shmfeed.wire.asked_wait import DEFAULT_WAIT
from shmfeed.wire.connect import ConnectPolicy
from shmfeed.wire.errors import RefusedUpgradeError


@contextlib.contextmanager
def answering(edit):
    """Yield the URL of a server that edits the answer which accepts."""

    def handler(connection):
        reply = loopback.answer(loopback.read_head(connection)).decode()
        connection.sendall(edit(reply).encode("latin-1") + frame(b"hello"))
        hold(connection)

    with raw(handler) as url:
        yield url


def swap(old, new):
    """Return an edit that replaces a line of the answer by others."""

    def edit(reply):
        assert old in reply
        return reply.replace(old, new)

    return edit


UPGRADE, CONNECTION = "Upgrade: websocket\r\n", "Connection: Upgrade\r\n"
KEEP = "Connection: keep-alive\r\n"
ACCEPT = "Sec-WebSocket-Accept: "


def twice_accepted(reply):
    line = reply[reply.index(ACCEPT) :].split("\r\n")[0] + "\r\n"
    return reply.replace(line, line * 2)


@pytest.mark.parametrize(
    "edit",
    [
        swap(CONNECTION, CONNECTION + KEEP),
        swap(CONNECTION, KEEP + CONNECTION),
        swap(CONNECTION, KEEP + "X: y\r\n" + CONNECTION + KEEP),
        swap(CONNECTION, "cOnNeCtIoN:keep-alive,\tUPGRADE ,\r\n"),
        swap(CONNECTION, "Connection: keep-alive,\r\n  Upgrade\r\n"),
        swap(CONNECTION, "Connection:\r\n\tUpgrade\r\n"),
        swap(CONNECTION, "Connection : Upgrade\r\n"),
        swap(UPGRADE, UPGRADE * 2),
        swap(UPGRADE, "upgrade:WebSocket\t \r\n"),
        swap(ACCEPT, "SEC-WEBSOCKET-ACCEPT:   "),
        twice_accepted,
        lambda reply: reply.replace("\r\n", "\n"),
        lambda reply: "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + reply,
        lambda reply: "HTTP/1.1 100 Continue\r\n\r\n" * 3 + reply,
        swap(" Switching Protocols", ""),
        swap("HTTP/1.1", "HTTP/1.0"),
    ],
)
def test_an_answer_in_any_spelling_of_the_standard_is_accepted(edit):
    with answering(edit) as url, connected(url) as connection:
        assert receive(connection, 1) == [b"hello"]


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (swap(CONNECTION, KEEP), "does not upgrade the connection"),
        (swap(CONNECTION, "Connection: not-upgrade\r\n"), "upgrade the connection"),
        (swap(CONNECTION, "Connection: upgraded\r\n"), "upgrade the connection"),
        (swap(CONNECTION, "X: y\r\n"), "does not upgrade the connection"),
        (swap(UPGRADE, UPGRADE + "Upgrade: h2c\r\n"), "not upgrade to websocket"),
        (swap(UPGRADE, "Upgrade: websockets\r\n"), "not upgrade to websocket"),
        (
            swap(ACCEPT, ACCEPT + "dGhlIHNhbXBsZSBub25jZQ==\r\n" + ACCEPT),
            "the answer has several sec-websocket-accept fields that differ",
        ),
        (swap(ACCEPT, ACCEPT + "x"), "wrong Sec-WebSocket-Accept"),
        (swap(ACCEPT, "X: "), "wrong Sec-WebSocket-Accept"),
        (swap(UPGRADE, UPGRADE + "Sec-WebSocket-Protocol: x\r\n"), "not offered"),
        (swap(" 101 ", " 101x "), "the answer is not HTTP"),
        (lambda _: "HTTP/1.1 100 Continue\r\n\r\n" * 700, "longer than 16384 bytes"),
        (lambda _: "\r\n\r\n", "the answer is not HTTP"),
    ],
)
def test_an_answer_that_contradicts_or_lacks_something_is_refused(edit, words):
    with answering(edit) as url:
        assert words in fail_to_open(url)


def test_control_websocket_client_looks_at_the_last_field_alone():
    # Control of both tests above.
    with answering(swap(CONNECTION, CONNECTION + KEEP)) as url:
        with pytest.raises(websocket.WebSocketException):
            websocket.WebSocket().connect(url, timeout=2, http_no_proxy=["*"])


# Refusals


def refuse(status, *fields, body=b"", pause=0.0, closes=False):
    """Return a server that refuses, and sends the body's bytes with pauses between."""

    def handler(connection):
        loopback.read_head(connection)
        head = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", *fields, ""))
        connection.sendall(head.encode())
        for piece in [bytes([b]) for b in body] if pause else [body]:
            connection.sendall(piece)
            time.sleep(pause)
        if not closes:
            hold(connection)

    return handler


BAN = b'{"code":-1003,"msg":"IP banned until 9999999999999"}'


@pytest.mark.parametrize(
    ("server", "text"),
    [
        (
            refuse("418 teapot", f"Content-Length: {len(BAN)}", body=BAN),
            f"the server answered 418 teapot: {BAN.decode()}",
        ),
        (
            refuse("403 Forbidden", body=b"no\nsuch\tkey\x00!", closes=True),
            "the server answered 403 Forbidden: no such key !",
        ),
        (
            refuse(
                "429 Slow",
                "Transfer-Encoding: chunked",
                body=b"4;x=y\r\nwait\r\n3\r\n a \r\n5 \r\nwhile\r\n0\r\n\r\n",
            ),
            "the server answered 429 Slow: wait a while",
        ),
        (
            refuse("503 Away", "Transfer-Encoding: chunked", body=b"zz\r\nx\r\n"),
            "the server answered 503 Away",
        ),
        (refuse("401", "Content-Length: 0"), "the server answered 401"),
        (
            refuse("403 No", "Content-Length: 5", "Content-Length: 5", body=b"never"),
            "the server answered 403 No: never",
        ),
        (
            refuse("403 No", "Content-Length: 999", body=b"cut", closes=True),
            "the server answered 403 No: cut",
        ),
        (
            refuse("403 No", "Content-Length: -1", body=b"odd", closes=True),
            "the server answered 403 No: odd",
        ),
        (
            refuse("403 No", "Content-Encoding: gzip", body=b"\x1f\x8b", closes=True),
            "the server answered 403 No",
        ),
        (
            refuse(
                "502 Bad Gateway",
                body=b"<html>\r\n<head><title>502 Bad Gateway</title></head>",
                closes=True,
            ),
            "the server answered 502 Bad Gateway",
        ),
        (
            refuse(
                "403 Forbidden",
                body=b"<!DOCTYPE html><html><title>Blocked in your country</title>",
                closes=True,
            ),
            "the server answered 403 Forbidden: Blocked in your country",
        ),
        (
            refuse("403 No", body=b"<html><p>Go <b>away</b></p>", closes=True),
            "the server answered 403 No: Go away",
        ),
        (refuse("404 Not Found", "Content-Length: 9", body=b"not found"), None),
    ],
)
def test_a_refusal_is_reported_with_the_words_of_its_body(server, text):
    with raw(server) as url:
        started = time.monotonic()
        reason = fail_to_open(url)
        assert time.monotonic() - started < 0.8
    assert reason == (text or "the server answered 404 Not Found")


@pytest.mark.parametrize(
    ("server", "wait"),
    [
        (refuse("429 x", "Retry-After: 60", "Content-Length: 0"), 60),
        (refuse("429 x", "Content-Length: 0"), DEFAULT_WAIT),
        (refuse("418 x", "Content-Length: 0"), DEFAULT_WAIT),
        (refuse("403 x", "Content-Length: 0"), 0),
        (refuse("503 x", "Retry-After: 5", "Content-Length: 0"), 5),
        (
            # Both dates are the venue's: a wrong clock of this host changes nothing.
            refuse(
                "429 x",
                "Date: Wed, 01 Jan 2020 00:00:00 GMT",
                "Retry-After: Wed, 01 Jan 2020 00:01:00 GMT",
                "Content-Length: 0",
            ),
            60,
        ),
        (
            refuse(
                "418 x",
                "Date: Wed, 01 Jan 2020 00:00:00 GMT",
                body=b"banned until 1577836920000",
                closes=True,
            ),
            120,
        ),
    ],
)
def test_a_refusal_carries_the_wait_that_the_venue_asks_for(server, wait):
    with raw(server) as url:
        error = failure_to_open(url)
    assert isinstance(error, RefusedUpgradeError)
    assert error.retry_after == wait
    assert error.code in {403, 418, 429, 503}


def test_a_redirected_refusal_keeps_its_wait():
    with raw(refuse("429 x", "Retry-After: 60", "Content-Length: 0")) as there:
        with raw(refuse("302 x", f"Location: {there}")) as url:
            error = failure_to_open(url, policy=ConnectPolicy(max_redirects=1))
    assert str(error).startswith(f"redirected to {there}: the server answered 429")
    assert error.retry_after == 60


def test_a_proxys_refusal_has_words_and_wait():
    answer = b"HTTP/1.1 503 Busy\r\nRetry-After: 9\r\nContent-Length: 5\r\n\r\nlater"
    with loopback.proxy(answer) as (_, address):
        error = failure_to_open(
            "ws://127.0.0.1:1/", policy=ConnectPolicy(proxy=address)
        )
    assert str(error) == f"proxy {address}: the proxy answered 503 Busy: later"
    assert error.retry_after == 9


def test_a_slow_body_costs_its_own_limit_and_what_came_counts():
    words = b"wait 5 minutes, please. " * 100
    with raw(refuse("429 x", body=words, pause=0.02)) as url:
        started = time.monotonic()
        error = failure_to_open(url)
        took = time.monotonic() - started
    assert 0.9 <= took < 2.5
    assert str(error).startswith("the server answered 429 x: wait 5 minutes, please.")
    assert error.retry_after == 300


def test_a_slow_body_never_exceeds_the_deadline_of_the_connection():
    with raw(refuse("403 x", body=b"x" * 999, pause=0.02)) as url:
        started = time.monotonic()
        reason = fail_to_open(url, timeout=0.3)
        assert time.monotonic() - started < 0.9
    assert reason.startswith("the server answered 403 x: xx")


@pytest.mark.parametrize("field", ["X: y", "Transfer-Encoding: chunked"])
def test_an_endless_body_costs_neither_memory_nor_cpu(field):
    def handler(connection):
        loopback.read_head(connection)
        connection.sendall(f"HTTP/1.1 403 x\r\n{field}\r\n\r\n".encode())
        while True:
            connection.sendall(b"1\r\nx\r\n" * 10_000)

    with raw(handler) as url:
        tracemalloc.start()
        started = time.thread_time()
        reason = fail_to_open(url)
        took = time.thread_time() - started
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert reason.startswith("the server answered 403 x: ")
    assert len(reason) < 400
    assert took < 0.3
    assert peak < 1 << 20


# The server's time


def test_the_connection_has_the_time_that_the_handshake_states():
    edit = swap(UPGRADE, UPGRADE + "Date: Sat, 30 Jul 2022 02:00:00 GMT\r\n")
    before = time.monotonic()
    with answering(edit) as url, connected(url) as connection:
        assert connection.server_time is not None
        stated, read_at = connection.server_time
    assert stated == 1_659_146_400_000
    assert before <= read_at <= time.monotonic()


@pytest.mark.parametrize(
    "date",
    [
        "",
        "Date: now\r\n",
        "Date: Sat, 30 Jul 2022 02:00:00 GMT\r\n" + "Date: now\r\n",
    ],
)
def test_without_one_valid_date_there_is_no_time(date):
    with answering(swap(UPGRADE, UPGRADE + date)) as url, connected(url) as connection:
        assert connection.server_time is None
