"""The page's server: what it tells, whom it refuses, and what it cuts off."""

import asyncio
import base64
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from support.command_line import MINUTE, START, append
from support.page_server import Answer, Served, serving
from support.waiting import until

from shmfeed.bar import BACKFILLED
from shmfeed.observe.listening import listen, resolve
from shmfeed.observe.page import app, hub, server
from shmfeed.ringbuf import RingWriter
from shmfeed.status import FeedStatus
from shmfeed.text import format_ms
from shmfeed.writer import FeedWriter, create

pytest_plugins = ["support.command_process"]

TOKEN = "correct-horse-battery"
FOREIGN = (
    "evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1",
    "", "[::2]", "[::1", "evil.example:80@127.0.0.1", "localhostx", "[]:1",
    "[::1]x", "[::1].evil.example", "127.0.0.1]", "[127.0.0.1", "x[::1]",
)  # fmt: skip
HALF = b"GET / HTTP/1.1\r\nHost:"  # a request's head that does not end
BARS = "/api/bars?feed={}&symbol=BTCUSDT&timeframe=1m"


@pytest.fixture
def writer(cli_writer: FeedWriter) -> FeedWriter:
    return cli_writer


@pytest.fixture
def ring(cli_ring: RingWriter) -> RingWriter:
    return cli_ring


@pytest.fixture
def page(feed_name: str, ring: RingWriter) -> Iterator[Served]:
    with serving([feed_name]) as served:
        yield served


@pytest.fixture(scope="module")
def shared_feed() -> Iterator[str]:
    """Return the name of a feed for the tests that change nothing."""
    name = f"t{os.getpid()}x-page"
    with create(name, history=100, guard=16, max_streams=8) as one:
        append(one.add_stream("BTCUSDT", "1m"), *range(5))
        yield name
        one.close(unlink=True)


@pytest.fixture(scope="module")
def door(shared_feed: str) -> Iterator[Served]:
    with serving([shared_feed]) as served:
        served.get("/")  # its thread begins
        yield served


@pytest.fixture(scope="module")
def locked(shared_feed: str) -> Iterator[Served]:
    with serving([shared_feed], token=TOKEN) as served:
        served.get("/healthz")
        yield served


def beaten(writer: FeedWriter, page: Served, path: str, text: str) -> Answer:
    """Return the answer that has this text, of a feed that is kept alive."""
    found: list[Answer] = []

    def is_there() -> bool:
        writer.beat()
        found.append(page.get(path))
        return text in found[-1].text

    until(is_there)
    return found[-1]


class TestTheDocument:
    def test_it_has_each_stream_as_text(
        self, page: Served, feed_name: str, writer: FeedWriter
    ) -> None:
        answer = beaten(writer, page, "/", ">live<")
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        (row,) = re.findall("<tr><td>.*?</tr>", answer.text)
        cells = re.sub("<[^>]*>", "|", row).split("|")
        texts = [cell for cell in cells if cell]
        closed = format_ms(START + 5 * MINUTE)
        assert texts[:6] == [feed_name, "BTCUSDT", "1m", "live", "5.125", closed]
        assert re.fullmatch(r"\d+\.\d s", texts[6])

    def test_it_has_no_inline_script_or_style(self, page: Served) -> None:
        text = page.get("/").text
        assert re.findall(r"<script(?![^>]*src=)", text) == []
        assert re.findall(r"<style| style=| on\w+=", text) == []

    def test_its_files_are_there(self, page: Served) -> None:
        text = page.get("/").text
        paths = re.findall(r'"(/static/[^"]+)"', text)
        assert len(paths) == 8
        for path in paths:
            answer = page.get(path)
            assert answer.status == 200
            assert "immutable" in answer.headers["Cache-Control"]
            tag = answer.headers["ETag"]
            assert page.get(path, if_none_match=tag).status == 304

    def test_it_names_the_makers_of_the_charts(self, page: Served) -> None:
        text = page.get("/").text
        assert 'href="https://www.tradingview.com/"' in text
        assert "TradingView, Inc." in text

    def test_all_feeds_without_a_choice(self, ring: RingWriter, feed_name: str) -> None:
        with serving(None) as served:
            feeds = [status["feed"] for status in served.get("/api/feeds").json]
            assert feed_name in feeds
            assert feed_name in served.get("/").text


class TestTheData:
    def test_feeds_have_the_keys_of_a_status(
        self, page: Served, feed_name: str
    ) -> None:
        answer = page.get("/api/feeds")
        assert answer.headers["Content-Type"] == "application/json"
        (status,) = answer.json
        optional = FeedStatus.__optional_keys__
        assert status.keys() >= FeedStatus.__annotations__.keys() - optional
        assert status["feed"] == feed_name
        assert status["streams"][0]["symbol"] == "BTCUSDT"
        assert page.get(f"/api/feeds?feed={feed_name}").json[0]["feed"] == feed_name
        assert page.get("/api/feeds?feed=other").status == 404

    def test_bars(self, page: Served, feed_name: str, ring: RingWriter) -> None:
        ring.update_forming(START + 5 * MINUTE, 6.0, 7.0, 5.0, 6.5, float("nan"))
        found = page.get(f"{BARS.format(feed_name)}&n=2").json
        assert found["count"] == 5
        last = [START + 4 * MINUTE, 5.0, 6.25, 4.5, 5.125, 4.0, 1, START + 5 * MINUTE]
        assert found["bars"][1] == last
        assert found["forming"][:6] == [START + 5 * MINUTE, 6.0, 7.0, 5.0, 6.5, None]
        assert found["holes"] == []

    def test_holes(self, page: Served, feed_name: str, ring: RingWriter) -> None:
        append(ring, 8, flags=BACKFILLED)
        found = page.get(BARS.format(feed_name)).json
        assert found["bars"][-1][6] & BACKFILLED
        (hole,) = found["holes"]
        assert hole["opens"] == [START + number * MINUTE for number in (5, 6, 7)]
        assert (hole["missing"], hole["state"]) == (3, "given_up")
        assert hole["reason"] == "no feeder repairs these rows"

    @pytest.mark.parametrize(
        ("query", "code", "error"),
        [
            ("symbol=BTCUSDT&timeframe=1m", 400, "feed is missing in the query"),
            ("feed={}&symbol=BTCUSDT&timeframe=7m", 400, "timeframe '7m' is not acc"),
            ("feed={}&symbol=ETHUSDT&timeframe=1m", 404, "ETHUSDT"),
            ("feed={}&symbol=BTCUSDT&timeframe=1m&n=0", 400, "n is '0'; give a numb"),
            ("feed={}&symbol=BTCUSDT&timeframe=1m&n=x", 400, "n is 'x'; give a numb"),
            ("feed={}&symbol=BTCUSDT&timeframe=1m&n=-1", 400, "n is '-1'; give a nu"),
            ("feed=other&symbol=BTCUSDT&timeframe=1m", 404, "not show feed 'other'"),
            ("feed=..%2Fx&symbol=BTCUSDT&timeframe=1m", 400, "../x"),
        ],
    )
    def test_bad_queries(
        self, page: Served, feed_name: str, query: str, code: int, error: str
    ) -> None:
        answer = page.get(f"/api/bars?{query.format(feed_name)}")
        assert answer.status == code
        assert error in answer.json["error"]

    def test_more_bars_than_are_served(self, page: Served, feed_name: str) -> None:
        answer = page.get(f"{BARS.format(feed_name)}&n=999999999")
        assert len(answer.json["bars"]) == 5

    def test_health(self, page: Served, feed_name: str, writer: FeedWriter) -> None:
        answer = beaten(writer, page, "/healthz", "live")
        assert (answer.status, answer.text) == (200, f"ok\n{feed_name}: live\n")
        writer.close()
        until(lambda: page.get("/healthz").status == 503)
        assert page.get("/healthz").text == f"not ok\n{feed_name}: dead\n"
        assert page.get("/livez").status == 200

    def test_health_of_one_feed_tells_that_feed_alone(
        self, page: Served, feed_name: str, writer: FeedWriter
    ) -> None:
        beaten(writer, page, "/healthz", "live")
        answer = page.get("/healthz?feed=other")
        assert answer.status == 503
        assert answer.text == "not ok\n'other': this page does not show such a feed\n"
        answer = page.get(f"/healthz?feed={feed_name}&feed={feed_name}")
        assert answer.text.splitlines()[1:] in (
            [f"{feed_name}: live"],
            [f"{feed_name}: quiet"],
        )

    def test_no_feed_is_not_healthy(self, feed_name: str) -> None:
        with serving([feed_name]) as served:
            assert served.get("/healthz").status == 503
            assert served.get("/livez").text == "ok\n"
            assert "no stream" in served.get("/").text


class TestEvents:
    def test_the_first_message_has_all_and_the_next_what_changed(
        self, page: Served, feed_name: str, writer: FeedWriter, ring: RingWriter
    ) -> None:
        append(writer.add_stream("ETHUSDT", "1m"), 0)
        with page.events() as events:
            first = events.next()
            assert first["all"] is True
            assert [row[0] for row in first["rows"][feed_name]] == [
                "BTCUSDT",
                "ETHUSDT",
            ]
            append(ring, 5)
            news: list[Any] = []
            while not news:
                message = events.next()
                assert message["all"] is False
                rows = message["rows"].get(feed_name, [])
                news = [row for row in rows if row[7] == 6]
            assert [(row[0], row[4]) for row in news] == [("BTCUSDT", 6.125)]

    def test_a_page_that_goes_is_noticed(self, page: Served) -> None:
        model = page.server._hub
        with page.events() as events:
            assert events.next()
            assert model.pages == 1
        until(lambda: model.pages == 0)

    def test_many_pages_share_one_sampler(
        self, page: Served, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(hub, "PERIOD", 0.05)
        monkeypatch.setattr(hub, "MAX_AGE", 0.04)
        model, began = page.server._hub.model, time.monotonic()
        streams = [page.events() for _ in range(50)]
        opened = [stream.__enter__() for stream in streams]
        try:
            for _ in range(4):
                assert all(events.next() for events in opened)
            assert model.version <= (time.monotonic() - began) / 0.04 + 1
        finally:
            for stream in streams:
                stream.__exit__(None, None, None)

    def test_a_page_too_many_is_refused(
        self, page: Served, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(app, "MAX_PAGES", 1)
        with page.events() as events:
            assert events.next()
            answer = page.get("/events")
            assert answer.status == 503
            assert answer.headers["Retry-After"] == "10"

    def test_the_server_stops_with_pages_open(
        self, feed_name: str, ring: RingWriter
    ) -> None:
        with serving([feed_name]) as served:
            stream = served.events()
            events = stream.__enter__()
            assert events.next()
        while events.next():
            pass  # it ends
        stream.__exit__(None, None, None)

    def test_a_sampler_that_fails_ends_the_server(self, feed_name: str) -> None:
        one = server.make_server(hub.Hub([feed_name]), is_local=True)

        def fail() -> None:
            raise RuntimeError("no more")

        one._hub._take = fail  # type: ignore[assignment,method-assign]
        one._hub.open_page()
        with listen(resolve("127.0.0.1", 0)) as listener:
            with pytest.raises(RuntimeError, match="no more"):
                asyncio.run(one.run_until_stopped(listener))

    def test_head(self, page: Served) -> None:
        for path in ("/", "/events", "/api/feeds", "/livez"):
            answer = page.get(path, "HEAD")
            assert (answer.status, answer.body) == (200, b"")
        assert page.get("/healthz", "HEAD").body == b""


class TestTheDoor:
    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
    def test_other_methods(self, door: Served, method: str) -> None:
        answer = door.get("/", method)
        assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")

    @pytest.mark.parametrize("host", FOREIGN)
    def test_a_foreign_name_is_refused(self, door: Served, host: str) -> None:
        for path in ("/", "/api/feeds", "/events", "/healthz", "/livez"):
            answer = door.get(path, host=host)
            assert answer.status == 403, path
            assert b"BTCUSDT" not in answer.body

    @pytest.mark.parametrize(
        "host", ["localhost", "LOCALHOST:1", "127.0.0.1:99", "127.0.0.9", "[::1]:8"]
    )
    def test_a_name_of_loopback_is_accepted(self, door: Served, host: str) -> None:
        assert door.get("/livez", host=host).status == 200

    def test_a_name_that_is_allowed(self, feed_name: str) -> None:
        """Control: the same name passes where it is on the list."""
        with serving([feed_name], names=["evil.example"]) as served:
            assert served.get("/livez", host="Evil.example:80").status == 200

    def test_addresses_in_numbers_where_others_reach_it(self, feed_name: str) -> None:
        with serving([feed_name], is_local=False, token=TOKEN) as served:
            assert served.get("/livez", host="10.0.0.1").status == 200
            assert served.get("/livez", host="evil.example").status == 403

    def test_no_host(self, door: Served) -> None:
        assert door.send(b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 403 ")

    def test_two_hosts(self, door: Served) -> None:
        hosts = b"Host: localhost\r\nHost: evil.example\r\n"
        assert door.send(b"GET / HTTP/1.1\r\n%b\r\n" % hosts).startswith(
            b"HTTP/1.1 400 "
        )

    @pytest.mark.parametrize("path", [b"/", b"/api/feeds", b"/livez"])
    def test_a_body_that_is_not_http_is_not_logged(
        self, door: Served, caplog: pytest.LogCaptureFixture, path: bytes
    ) -> None:
        head = b"Host: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        request = b"GET %b HTTP/1.1\r\n%b" % (path, head)
        assert door.send(request + b"zzz\r\n").startswith(b"HTTP/1.1 400 ")
        assert door.get("/livez").status == 200
        assert caplog.records == []

    @pytest.mark.parametrize(
        ("site", "mode", "status"),
        [
            ("cross-site", "no-cors", 403),
            ("same-site", "cors", 403),
            ("cross-site", "navigate", 200),
            ("same-origin", "cors", 200),
        ],
    )
    def test_another_site(
        self, door: Served, site: str, mode: str, status: int
    ) -> None:
        answer = door.get("/livez", sec_fetch_site=site, sec_fetch_mode=mode)
        assert answer.status == status

    @pytest.mark.parametrize("size", [2048, 10_000])
    def test_a_long_query(self, door: Served, size: int) -> None:
        assert door.get(f"/?{'q' * size}").status == 414
        assert door.get("/livez").status == 200

    def test_a_query_without_end(self, door: Served) -> None:
        answer = door.send(b"GET /?" + b"q" * 60_000)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert door.get("/livez").status == 200

    @pytest.mark.parametrize(
        "path",
        [
            "/static/../server.py",
            "/static/..%2fserver.py",
            "/static/%2e%2e/server.py",
            "/static//etc/passwd",
            "/static/....//server.py",
            "/../../etc/passwd",
            "//etc/passwd",
            "/static/",
            "/static",
            "/static/server.py",
            "/static/page.css%00.js",
            "/nothing",
        ],
    )
    def test_no_path_leads_elsewhere(self, door: Served, path: str) -> None:
        answer = door.get(path)
        assert (answer.status, len(answer.body) < 100) == (404, True)

    def test_each_answer_has_the_policy(self, door: Served) -> None:
        paths = [
            "/",
            "/api/feeds",
            "/api/bars",
            "/healthz",
            "/nothing",
            "/static/page.js",
        ]
        answers = [door.get(path) for path in paths]
        answers += [door.get("/", "POST"), door.get("/", host="evil.example")]
        for answer in answers:
            policy = answer.headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'none'; script-src 'self';")
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert answer.headers["X-Content-Type-Options"] == "nosniff"

    def test_garbage(self, door: Served) -> None:
        assert door.send(b"\x16\x03\x01\x02\x00garbage\r\n\r\n").startswith(
            b"HTTP/1.1 400"
        )
        assert door.get("/livez").status == 200

    def test_an_upgrade_is_an_ordinary_request(self, door: Served) -> None:
        answer = door.get("/livez", connection="upgrade", upgrade="websocket")
        assert answer.status == 200


class TestTheToken:
    def test_without_it(self, locked: Served) -> None:
        for path in ("/", "/events", "/api/feeds", "/api/bars", "/static/page.js"):
            answer = locked.get(path)
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"].startswith("Basic ")
            assert b"BTCUSDT" not in answer.body

    @pytest.mark.parametrize(
        "given",
        [
            f"Bearer {TOKEN[:-1]}",
            f"Bearer {TOKEN}x",
            TOKEN,
            "Bearer",
            "Basic",
            "Basic ????",
            "Basic " + base64.b64encode(b"\xff\xfe").decode(),
            "Basic " + base64.b64encode(TOKEN.encode()).decode(),
            "Basic " + base64.b64encode(f"{TOKEN}:wrong".encode()).decode(),
            "Bearer \u00e9",
        ],
    )
    def test_a_wrong_one(self, locked: Served, given: str) -> None:
        header = given.encode("latin-1").decode("latin-1")
        assert locked.get("/", authorization=header).status == 401

    def test_in_the_address_it_counts_for_nothing(self, locked: Served) -> None:
        assert locked.get(f"/?token={TOKEN}").status == 401

    @pytest.mark.parametrize(
        "given",
        [
            f"Bearer {TOKEN}",
            f"bearer  {TOKEN} ",
            "Basic " + base64.b64encode(f"me:{TOKEN}".encode()).decode(),
        ],
    )
    def test_the_right_one(self, locked: Served, given: str) -> None:
        assert "BTCUSDT" in locked.get("/", authorization=given).text

    def test_probes_need_none_and_learn_little(
        self, locked: Served, shared_feed: str
    ) -> None:
        assert locked.get("/livez").text == "ok\n"
        assert locked.get("/healthz").text in ("ok\n", "not ok\n")
        answer = locked.get("/healthz", authorization=f"Bearer {TOKEN}")
        assert f"\n{shared_feed}: " in answer.text


class TestClientsThatHoldOn:
    def test_half_a_request_is_cut_off(
        self, page: Served, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(server, "REQUEST_SECONDS", 0.1)
        assert page.send(b"GET / HTTP/1.1\r\nHost:") == b""
        assert page.send(b"") == b""

    def test_half_a_second_request_too(self, page: Served) -> None:
        with page.connect() as client:
            client.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            told = b""
            while not told.endswith(b"ok\n"):
                told += client.recv(65536)
            (connection,) = page.server.server_state.connections
            connection._request_is_due._seconds = 0.1
            client.sendall(b"GET / HT")
            with suppress(ConnectionResetError):
                assert client.recv(1) == b""

    def test_a_page_that_reads_nothing_is_cut_off(
        self, page: Served, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(server, "STALLED_SECONDS", 0.2)
        with page.connect() as client:
            request = b"GET /static/charts.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
            client.sendall(request * 200)  # 40 MB of answers
            connections = page.server.server_state.connections
            until(lambda: len(connections) == 1)
            assert page.get("/livez").status == 200
            until(lambda: not connections)

    @pytest.fixture
    def narrow(
        self, feed_name: str, ring: RingWriter, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[Served]:
        """Return a page that has room for 4 connections."""
        monkeypatch.setattr(server, "MAX_CONNECTIONS", 4)
        monkeypatch.setattr(server, "REQUEST_SECONDS", 600.0)
        with serving([feed_name]) as served:
            yield served

    @staticmethod
    def hold(
        page: Served, count: int, source: str = "", head: bytes = HALF
    ) -> list[socket.socket]:
        """Return connections of a client that are held, the oldest first."""
        held = []
        for _ in range(count):
            held.append(page.connect(source))
            held[-1].sendall(head)
            place = held[-1].getsockname()
            until(lambda place=place: place in places(page), what="a connection")
        return held

    @staticmethod
    def is_open(client: socket.socket) -> bool:
        """Return True if the server has not cut a connection off."""
        client.settimeout(0)
        try:
            return client.recv(1) != b""
        except BlockingIOError:
            return True
        except ConnectionResetError:
            return False

    def test_slow_clients_keep_nobody_out(self, narrow: Served) -> None:
        held = self.hold(narrow, 4)
        assert narrow.get("/livez", source="127.0.0.2").status == 200
        until(lambda: not self.is_open(held[0]), what="the end of the oldest one")
        assert [self.is_open(client) for client in held[1:]] == [True] * 3
        # They are more than there is room for, and from the same address.
        held += self.hold(narrow, 12)
        assert narrow.get("/livez").status == 200
        close_all(held)

    def test_the_client_that_holds_most_gives_way(self, narrow: Served) -> None:
        """Though another one has waited longer."""
        (first,) = self.hold(narrow, 1, "127.0.0.2")
        held = self.hold(narrow, 10)
        until(lambda: [self.is_open(client) for client in held].count(True) == 3)
        assert self.is_open(first)
        close_all([first, *held])

    def test_an_open_page_stays(self, narrow: Served) -> None:
        with narrow.events() as events:
            assert events.next() is not None
            held = self.hold(narrow, 20)
            assert events.next() is not None
            close_all(held)

    def test_clients_that_read_no_answer_keep_nobody_out(self, narrow: Served) -> None:
        request = b"GET /static/charts.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
        held = self.hold(narrow, 4, head=request * 200)
        connections = narrow.server.server_state.connections
        until(lambda: all(one.waiting_since is not None for one in connections))
        assert narrow.get("/livez", source="127.0.0.2").status == 200
        close_all(held)

    def test_room_that_is_left_is_free_again(self, narrow: Served) -> None:
        held = self.hold(narrow, 4)
        close_all(held)
        until(lambda: not narrow.server.server_state.connections)
        held = self.hold(narrow, 4)
        assert [self.is_open(client) for client in held] == [True] * 4
        close_all(held)


def places(page: Served) -> set[tuple[str, int]]:
    """Return the addresses of all clients that are connected."""
    connections = set(page.server.server_state.connections)
    return {one.client for one in connections}


def close_all(clients: list[socket.socket]) -> None:
    for client in clients:
        client.close()
