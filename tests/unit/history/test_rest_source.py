"""A source of history against a real HTTP server."""

import json
import socket
import time
from contextlib import closing, contextmanager, suppress

import pytest
from support.loopback import refused_port
from support.rest_venue import Reply, as_json, kline, rest_venue

from shmfeed.codecs import get_codec
from shmfeed.history.blocks import times_of
from shmfeed.history.interface import HistoryError, HistoryRequest, RateLimitError
from shmfeed.history.registry import make_source
from shmfeed.settings.model import Settings

MINUTE = 60_000
START = 1_700_000_040_000
KEY = ("BTCUSDT", "1m")


@pytest.fixture(autouse=True)
def own_budget(monkeypatch, tmp_path):
    """Keep waits in a file of this test: ports are used again."""
    monkeypatch.setattr("shmfeed.history.registry._locks", lambda _settings: tmp_path)


class Market:
    """A venue with a bar each minute, as Binance's REST shows it.

    `now` is its clock in ms; bars open from `first` on.
    """

    def __init__(self, now: int, first: int = 0, span: int = 0) -> None:
        self.now = now
        self.first = first
        self.span = span

    def __call__(self, asked):
        assert asked.path.endswith("/klines")
        limit = int(asked.fields["limit"])
        end = int(asked.fields.get("endTime", self.now))
        begin = int(asked.fields.get("startTime", 0))
        last = min(end, self.now) // MINUTE * MINUTE
        lowest = max(self.first, begin or last - (limit - 1) * MINUTE)
        if self.span:
            lowest = max(lowest, last - self.span)
        opened = -(-lowest // MINUTE) * MINUTE
        times = range(opened, last + 1, MINUTE)[:limit]
        return as_json([kline(t) for t in times], date=self.now / 1000)


@contextmanager
def source_of(handler, market="spot", **settings):
    with rest_venue(handler) as venue:
        settings = {"rest_endpoint": [venue.url], **settings}
        known = Settings(protocol="binance", market_type=market, **settings)
        source = make_source(known, get_codec("binance", market))
        with closing(source):
            yield source, venue


def fetch_all(source, request):
    """Return the open times of each page, in the order in which they came."""
    times = []
    while request is not None:
        page = source.fetch(request)
        times.append(times_of(page.block).tolist())
        request = page.follows
    return times


def joined(pages):
    return [time for page in pages for time in page]


def minutes(first, count):
    return [first + n * MINUTE for n in range(count)]


class TestRanges:
    def test_a_page(self):
        with source_of(Market(START + 100 * MINUTE)) as (source, _):
            page = source.fetch(HistoryRequest(KEY, START, START + 4 * MINUTE))
            assert times_of(page.block).tolist() == minutes(START, 5)
            assert page.follows is None
            assert page.venue_now == START + 100 * MINUTE
            assert source.is_own
            assert source.name == "REST of binance spot"

    def test_several_pages_oldest_first(self):
        with source_of(Market(START + 5000 * MINUTE)) as (source, _):
            pages = fetch_all(source, HistoryRequest(KEY, START, START + 2400 * MINUTE))
            assert [len(page) for page in pages] == [1000, 1000, 401]
            assert joined(pages) == minutes(START, 2401)

    def test_a_hole_of_the_venue_ends_nothing(self):
        market = Market(START + 5000 * MINUTE, first=START + 1500 * MINUTE)
        with source_of(market) as (source, _):
            pages = fetch_all(source, HistoryRequest(KEY, START, START + 2400 * MINUTE))
            assert joined(pages) == minutes(START + 1500 * MINUTE, 901)

    def test_the_last_row_has_not_closed(self):
        with source_of(Market(START + 4 * MINUTE + 59_000)) as (source, _):
            page = source.fetch(HistoryRequest(KEY, START, START + 10 * MINUTE))
            assert times_of(page.block).tolist() == minutes(START, 4)

    def test_no_row_that_has_not_closed_is_taken(self):
        """A venue may list the next bar before the present one has closed."""
        times = minutes(START, 7)  # the venue is within the fifth minute
        date = (START + 4 * MINUTE + 30_000) / 1000

        def ahead(_asked):
            return as_json([kline(t) for t in times[:6]], date=date)

        with source_of(ahead) as (source, _):
            page = source.fetch(HistoryRequest(KEY, START, times[-1]))
            assert times_of(page.block).tolist() == times[:4]

    def test_a_bar_that_closed_before_the_request_is_had(self):
        with source_of(Market(START + 5 * MINUTE + 3000)) as (source, _):
            page = source.fetch(HistoryRequest(KEY, START, START + 4 * MINUTE))
            assert times_of(page.block).tolist() == minutes(START, 5)

    def test_nothing_is_asked_for_an_empty_range(self):
        with source_of(Market(START)) as (source, venue):
            page = source.fetch(HistoryRequest(KEY, START, START - MINUTE))
            assert page.block.shape == (9, 0)
            assert not venue.asked


class TestNewest:
    def test_the_count_is_exact_and_the_forming_bar_is_not_among_them(self):
        with source_of(Market(START + 3000 * MINUTE + 30_000)) as (source, _):
            pages = fetch_all(source, HistoryRequest(KEY, 0, 0, newest=2500))
            assert sorted(joined(pages)) == minutes(START + 500 * MINUTE, 2500)
            assert pages[0][-1] > pages[1][-1] > pages[2][-1]

    def test_once_the_clock_is_known_a_full_page_is_one_request(self):
        with source_of(Market(START + 3000 * MINUTE + 30_000)) as (source, venue):
            fetch_all(source, HistoryRequest(KEY, 0, 0, newest=1000))
            before = len(venue.asked)
            (times,) = fetch_all(source, HistoryRequest(KEY, 0, 0, newest=1000))
            assert times == minutes(START + 2000 * MINUTE, 1000)
            assert len(venue.asked) == before + 1

    def test_fewer_than_asked_for(self):
        market = Market(START + 10 * MINUTE, first=START)
        with source_of(market) as (source, _):
            pages = fetch_all(source, HistoryRequest(KEY, 0, 0, newest=1000))
            assert joined(pages) == minutes(START, 10)

    def test_a_page_that_ends_at_the_longest_span_is_followed(self):
        market = Market(START + 300 * MINUTE, first=START, span=100 * MINUTE)
        with source_of(market, "coinm") as (source, _):
            pages = fetch_all(source, HistoryRequest(KEY, 0, 0, newest=250))
            assert sorted(joined(pages)) == minutes(START + 50 * MINUTE, 250)


def fails(reply, request=None, **settings):
    with source_of(lambda _asked: reply, **settings) as (source, _):
        with pytest.raises(HistoryError) as caught:
            source.fetch(request or HistoryRequest(KEY, START, START + 9 * MINUTE))
    return caught.value


class TestAnswersThatAreNone:
    @pytest.mark.parametrize(
        ("reply", "kind", "wait", "words"),
        [
            (Reply(429), "blocked", 30.0, "429"),
            (Reply(429, headers={"Retry-After": "7"}), "blocked", 7.0, "429"),
            (Reply(418, headers={"Retry-After": "300"}), "blocked", 300.0, "418"),
            (Reply(418), "blocked", 120.0, "418"),
            (Reply(503, headers={"Retry-After": "9"}), "blocked", 9.0, "503"),
            (Reply(500, b"oops"), "away", 0.0, "500 Internal Server Error: oops"),
            (
                Reply(502, b"<html><title>502 Bad Gateway</title></html>"),
                "away",
                0.0,
                "502 Bad Gateway",
            ),
            (
                Reply(400, b'{"code":-1100,"msg":"Illegal characters"}'),
                "refused",
                0.0,
                "Illegal characters (code -1100)",
            ),
            (Reply(403, b"no"), "away", 0.0, "403 Forbidden: no"),
            (
                Reply(302, headers={"Location": "http://example.com/"}),
                "away",
                0.0,
                "redirects (302)",
            ),
            (Reply(200, b"<html>hi</html>"), "malformed", 0.0, "HTML or XML, not JSON"),
            (Reply(200, b'[[1700000040000,"1'), "malformed", 0.0, "truncated"),
            (Reply(200, b"x" * (2 << 20)), "away", 0.0, "longer than"),
        ],
    )
    def test_each_is_a_clear_error(self, reply, kind, wait, words):
        error = fails(reply)
        assert words in str(error)
        assert (error.kind, error.retry_after) == (kind, pytest.approx(wait, abs=0.2))

    def test_an_answer_that_is_no_history_names_its_address(self):
        html = Reply(200, b"<html>hi</html>")
        with rest_venue(lambda _asked: html) as venue:
            known = Settings(
                protocol="binance", market_type="spot", rest_endpoint=[venue.url]
            )
            with closing(make_source(known, get_codec("binance", "spot"))) as source:
                asked = HistoryRequest(KEY, START, START)
                for call in (
                    lambda: source.fetch(asked),
                    lambda: source.bar_at(KEY, START),
                    lambda: source.symbols([KEY[0]]),
                ):
                    with pytest.raises(HistoryError) as caught:
                        call()
                    assert str(caught.value).startswith(f"{venue.url}: the answer is")
                    assert caught.value.kind == "malformed"

    def test_a_wait_is_said(self):
        assert str(fails(Reply(429, b"{}"))).endswith("; the next request in 30 s")

    def test_an_empty_answer_is_an_answer(self):
        with source_of(lambda _asked: as_json([])) as (source, _):
            page = source.fetch(HistoryRequest(KEY, START, START + 9 * MINUTE))
            assert page.block.shape == (9, 0)
            assert page.follows is None

    @pytest.mark.parametrize(
        ("rows", "words"),
        [
            ([kline(START + MINUTE), kline(START)], "not after the row before it"),
            ([kline(START), kline(START)], "not after the row before it"),
            ([kline(START + 1)], "off the grid"),
            ([kline(START, 300_000)], "not as long as 1m"),
            ([kline(START, low=200.0)], "values that no bar can have"),
            (
                [kline(START), kline(START + 5000 * MINUTE)],
                "after the venue's own time",
            ),
        ],
    )
    def test_rows_that_are_no_history(self, rows, words):
        error = fails(as_json(rows, date=START / 1000 + 9 * 60))
        assert words in str(error)
        assert error.kind == "malformed"

    def test_rows_before_the_range_are_left_out(self):
        rows = [kline(START - n * MINUTE) for n in (3, 2, 1)]
        with source_of(lambda _asked: as_json(rows)) as (source, _):
            page = source.fetch(HistoryRequest(KEY, START, START + 9 * MINUTE))
            assert page.block.shape == (9, 0)

    def test_rows_beyond_the_page_are_left_out(self):
        rows = [kline(START + n * MINUTE) for n in range(50)]
        with source_of(lambda _asked: as_json(rows)) as (source, _):
            page = source.fetch(HistoryRequest(KEY, START, START + 9 * MINUTE))
            assert times_of(page.block).tolist() == minutes(START, 10)
            page = source.fetch(HistoryRequest(KEY, 0, 0, newest=3))
            assert times_of(page.block).tolist() == minutes(START + 47 * MINUTE, 3)

    def test_a_symbol_that_the_venue_cannot_have(self):
        error = fails(Reply(), HistoryRequest(("BTC/USDT", "1m"), START, START))
        assert error.kind == "refused"
        assert "'BTC/USDT' is not accepted by Binance" in str(error)

    def test_words_of_the_server_hold_no_secret(self):
        with rest_venue(lambda asked: Reply(500, str(asked.fields).encode())) as venue:
            url = f"{venue.url}?key=canary-token"
            known = Settings(
                protocol="binance", market_type="spot", rest_endpoint=[url]
            )
            with closing(make_source(known, get_codec("binance", "spot"))) as source:
                with pytest.raises(HistoryError) as caught:
                    source.fetch(HistoryRequest(KEY, START, START))
            assert venue.asked[0].fields["key"] == "canary-token"
        assert "canary" not in str(caught.value)
        assert "key" in str(caught.value)


class TestLimits:
    REQUEST = HistoryRequest(KEY, START, START)

    def test_a_wait_that_is_asked_for_is_kept(self):
        answers = [Reply(429, headers={"Retry-After": "28"})]

        def handle(_asked):
            return answers.pop()  # a second request fails

        with source_of(handle) as (source, venue):
            for _ in range(3):
                with pytest.raises(HistoryError) as caught:
                    source.fetch(self.REQUEST)
                assert caught.value.kind == "blocked"
                assert caught.value.retry_after == pytest.approx(28, abs=1)
            assert not isinstance(caught.value, RateLimitError)
            assert "the venue asked to wait, for 28 s from now" in str(caught.value)
            assert len(venue.asked) == 1

    def test_the_share_is_kept_and_nothing_is_asked_beyond_it(self):
        market = Market(START + 10 * MINUTE)
        with source_of(market, rest_share=0.01) as (source, venue):  # 60: 30 pages
            for _ in range(30):
                source.fetch(self.REQUEST)
            with pytest.raises(RateLimitError) as caught:
                source.fetch(self.REQUEST)
            assert 55 < caught.value.retry_after <= 61.2
            assert len(venue.asked) == 30

    @pytest.mark.parametrize("answers", [True, False])
    def test_a_slow_request_counts_from_its_end_on(self, monkeypatch, answers):
        now = 1000.0
        monkeypatch.setattr("shmfeed.history.rest_budget.boot_seconds", lambda: now)

        def handle(_asked):
            nonlocal now
            now += 3.0  # the connect and the request took so long
            if answers:
                return as_json([])
            return Reply(500)

        with source_of(handle, rest_share=0.001) as (source, venue):  # 6: 3 pages
            for _ in range(3):
                with suppress(HistoryError):
                    source.fetch(self.REQUEST)
            now = 1061.5  # the first was permitted a minute ago, and ended at 1003
            with pytest.raises(RateLimitError) as caught:
                source.fetch(self.REQUEST)
            assert caught.value.retry_after == pytest.approx(2.5, abs=0.3)
            assert len(venue.asked) == 3

    def test_the_venues_own_count_is_heeded(self):
        def handle(_asked):
            return as_json([], headers={"X-MBX-USED-WEIGHT-1M": "3000"})

        with source_of(handle) as (source, venue):
            source.fetch(self.REQUEST)
            with pytest.raises(RateLimitError):
                source.fetch(self.REQUEST)
            assert len(venue.asked) == 1

    def test_feeds_of_one_user_share_the_budget(self):
        market = Market(START + 10 * MINUTE)
        with rest_venue(market) as venue:
            for number in range(2):
                known = Settings(
                    protocol="binance",
                    market_type="spot",
                    rest_endpoint=[venue.url],
                    rest_share=0.01,
                    feed=f"feed{number}",
                )
                with closing(make_source(known, get_codec("binance", "spot"))) as one:
                    for _ in range(15):
                        one.fetch(self.REQUEST)
            with closing(make_source(known, get_codec("binance", "spot"))) as one:
                with pytest.raises(RateLimitError):
                    one.fetch(self.REQUEST)


class TestBases:
    @pytest.mark.parametrize(
        "end", ["", "/", "/api/v3", "/api/v3/", "/proxy/api/v3", "/api/v3/?key=x"]
    )
    def test_the_path_of_the_service_may_stand_in_it(self, end):
        with rest_venue(lambda _asked: as_json([])) as venue:
            known = Settings(
                protocol="binance", market_type="spot", rest_endpoint=[venue.url + end]
            )
            with closing(make_source(known, get_codec("binance", "spot"))) as source:
                source.fetch(HistoryRequest(KEY, START, START))
            front = "/proxy" if "proxy" in end else ""
            assert venue.asked[0].path == f"{front}/api/v3/klines"

    def test_the_next_one_is_tried(self):
        away = f"http://127.0.0.1:{refused_port()}"
        with rest_venue(Market(START + 10 * MINUTE)) as venue:
            known = Settings(
                protocol="binance", market_type="spot", rest_endpoint=[away, venue.url]
            )
            with closing(make_source(known, get_codec("binance", "spot"))) as source:
                for _ in range(2):
                    page = source.fetch(HistoryRequest(KEY, START, START))
                    assert page.block.shape[1] == 1
            assert len(venue.asked) == 2

    @pytest.mark.parametrize("status", [301, 403, 451, 500, 503])
    def test_the_next_one_is_tried_where_this_one_does_not_serve(self, status):
        bad = rest_venue(lambda _asked: Reply(status, b"<html>no</html>"))
        with bad as first, rest_venue(Market(START + 10 * MINUTE)) as second:
            known = Settings(
                protocol="binance",
                market_type="spot",
                rest_endpoint=[first.url, second.url],
            )
            with closing(make_source(known, get_codec("binance", "spot"))) as source:
                for _ in range(2):
                    page = source.fetch(HistoryRequest(KEY, START, START))
                    assert page.block.shape[1] == 1
            assert (len(first.asked), len(second.asked)) == (1, 2)

    @pytest.mark.parametrize("reply", [Reply(429), Reply(400, b'{"code":-1100}')])
    def test_the_services_own_refusal_is_not_carried_to_the_next(self, reply):
        with rest_venue(lambda _asked: reply) as first, rest_venue(None) as second:
            known = Settings(
                protocol="binance",
                market_type="spot",
                rest_endpoint=[first.url, second.url],
            )
            with closing(make_source(known, get_codec("binance", "spot"))) as source:
                with pytest.raises(HistoryError):
                    source.fetch(HistoryRequest(KEY, START, START))
            assert not second.asked

    def test_none_answers(self):
        away = f"http://127.0.0.1:{refused_port()}"
        error = fails(Reply(), rest_endpoint=[away])
        assert error.kind == "away"
        assert str(error) == f"{away}: connection refused"


class TestSymbols:
    LISTED = ("BTCUSDT", "ETHUSDT", "LUNAUSDT")

    def answer(self, asked):
        assert asked.path == "/api/v3/exchangeInfo"
        names = json.loads(asked.fields.get("symbols", json.dumps(self.LISTED)))
        if not set(names) <= set(self.LISTED):
            return Reply(400, b'{"code":-1121,"msg":"Invalid symbol."}')
        states = {"LUNAUSDT": "BREAK"}
        listed = [{"symbol": n, "status": states.get(n, "TRADING")} for n in names]
        return as_json({"symbols": listed})

    def test_the_wanted_ones_alone_are_asked_for(self):
        with source_of(self.answer) as (source, venue):
            states = source.symbols(["LUNAUSDT", "BTCUSDT"])
            assert states["BTCUSDT"] == (True, True, "")
            assert states["LUNAUSDT"] == (True, False, "status BREAK")
            (asked,) = venue.asked
            assert json.loads(asked.fields["symbols"]) == ["BTCUSDT", "LUNAUSDT"]

    def test_a_venue_that_is_not_the_feeds_own_tells_none(self):
        with source_of(self.answer) as (source, venue):
            source.is_own = False
            assert source.symbols(["BTCUSDT"]) is None
            assert not venue.asked

    def test_a_venues_words_are_short_and_of_one_line(self):
        hostile = "BTCUSDTX\n\x1b[2J" + "Y" * 5000
        listed = [{"symbol": hostile, "status": "TRADING"}]
        listed.append({"symbol": "ETHUSDT", "status": "BREAK\n" + "x" * 5000})
        with source_of(lambda _asked: as_json({"symbols": listed})) as (source, _):
            states = source.symbols(["BTCUSDT", "ETHUSDT"])
        for state in states.values():
            assert state.text.isprintable()
            assert len(state.text) < 120

    def test_a_venue_that_lists_none_tells_none(self):
        empty = as_json({"symbols": []})
        with source_of(lambda _asked: empty) as (source, _):
            assert source.symbols(["BTCUSDT"]) is None

    def test_an_unknown_one_comes_with_the_nearest(self):
        with source_of(self.answer) as (source, _):
            states = source.symbols(["BTCUSTD", "ETHUSDT"])
            assert states["ETHUSDT"].is_known
            assert states["BTCUSTD"] == (
                False,
                False,
                "the venue has no such symbol; the nearest is BTCUSDT",
            )


class TestDeadline:
    def test_a_server_that_drips_is_left(self, monkeypatch):
        monkeypatch.setattr("shmfeed.history.rest_source.TIMEOUT", 0.3)

        def drip(_asked):
            time.sleep(1.0)
            return as_json([])

        begun = time.monotonic()
        with source_of(drip) as (source, _):
            with pytest.raises(HistoryError, match=r"timed out after 0\.3 s$"):
                source.fetch(HistoryRequest(KEY, START, START))
            assert time.monotonic() - begun < 0.9

    def test_closing_ends_a_request(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            url = f"http://127.0.0.1:{server.getsockname()[1]}"
            known = Settings(
                protocol="binance", market_type="spot", rest_endpoint=[url]
            )
            source = make_source(known, get_codec("binance", "spot"))
            source.close()
            with pytest.raises(HistoryError, match="the client was closed"):
                source.fetch(HistoryRequest(KEY, START, START))
