"""`shmfeed audit`: what differs, what it prints, and its exit codes."""

import json
import math
import time
from collections.abc import Callable

import numpy as np
import pytest

import shmfeed
from shmfeed.bar import BACKFILLED, CLOSED_BY_VENUE, REVISED, UNCONFIRMED
from shmfeed.cli import audit_rows
from shmfeed.cli.main import main
from shmfeed.control.messages import ControlRequest
from shmfeed.control.server import ControlServer
from shmfeed.feeder.audit_bars import serve_bars
from shmfeed.feeder.row_events import RowVersion
from shmfeed.history.blocks import cut_to
from shmfeed.history.interface import (
    HistoryError,
    HistoryPage,
    HistoryRequest,
    RateLimitError,
)
from shmfeed.identity import make_identity
from shmfeed.segment.mapping import place
from shmfeed.settings.loading import load
from shmfeed.store.file import StoreFile

pytest_plugins = ["support.command_process"]
pytestmark = pytest.mark.usefixtures("no_settings")

MINUTE, HOUR = 60_000, 3_600_000
KEY, HOURLY = ("BTCUSDT", "1m"), ("BTCUSDT", "1h")
IDENTITY = make_identity("binance", "spot", ["venue"])
PAGE = 50  # bars
NEWEST = 29_500_000  # the number of the newest minute that has closed, long ago
VENUE_NOW = (NEWEST + 1) * MINUTE + 30_000


def values(number: int) -> tuple[float, ...]:
    return number % 100 + 5.0, number % 100 + 9.0, 1.0, number % 100 + 7.0, 3.0, 30.0


class Venue:
    """History of every minute, and of each hour of them, as a source."""

    name, is_own = "REST of a test", True

    def __init__(self) -> None:
        self.lacks: set[int] = set()  # open times
        # Open time: field, value. Of minutes, and of hours.
        self.changed: dict[int, tuple[int, float]] = {}
        self.hours: dict[int, tuple[int, float]] = {}
        self.error: HistoryError | None = None
        self.waits: list[float] = []
        self.requests: list[HistoryRequest] = []

    def fetch(self, request: HistoryRequest) -> HistoryPage:
        if self.waits:
            raise RateLimitError("not now", self.waits.pop())
        if self.error is not None:
            raise self.error
        self.requests.append(request)
        length = shmfeed.bar.TIMEFRAMES[request.key[1]]
        opens = range(request.first, request.last + 1, length)
        rows = [self.row(at, length) for at in opens if at not in self.lacks]
        block = block_of(rows)
        last = request.first + (PAGE - 1) * length
        follows = request._replace(first=last + length)
        more = follows if last < request.last else None
        return HistoryPage(cut_to(block, request.first, last), 0, more)

    def row(self, opened: int, length: int) -> list[float]:
        minutes = range(opened // MINUTE, (opened + length) // MINUTE)
        parts = [values(number) for number in minutes]
        row = [
            *(parts[0][0], max(part[1] for part in parts), 1.0, parts[-1][3]),
            *(3.0 * len(parts), 30.0 * len(parts)),
        ]
        changed = self.changed if length == MINUTE else self.hours
        field, value = changed.get(opened, (0, row[0]))
        row[field] = value
        return [opened, opened + length, *row, CLOSED_BY_VENUE]

    def symbols(self, wanted: object) -> None:
        return None

    def close(self) -> None:
        pass


def block_of(rows: list[list[float]]) -> np.ndarray:
    block = np.array(rows, np.float64).reshape(-1, 9).T.copy()
    for column in (0, 1, 8):
        block[column] = block[column].astype(np.int64).view(np.float64)
    return block


@pytest.fixture
def venue() -> Venue:
    return Venue()


@pytest.fixture
def writer(feed_name):
    with shmfeed.create(
        feed_name, history=500, streams=[KEY], identity=IDENTITY
    ) as writer:
        set_venue_now(writer, VENUE_NOW)
        yield writer
        writer.close(unlink=True)


def set_venue_now(writer: shmfeed.FeedWriter, now: int) -> None:
    writer.set_clock_offset(now - time.time_ns() / 1e6)


@pytest.fixture
def settings():
    return load({"protocol": "binance", "market_type": "spot", "rest_settle": 10.0})


@pytest.fixture
def feeder(feed_name, writer, venue, settings):
    def serve(request: ControlRequest) -> dict[str, object]:
        return serve_bars(venue, settings, request)

    with ControlServer(place(feed_name).socket, serve):
        yield


def publish(writer, venue, count: int, key=KEY, flags=CLOSED_BY_VENUE) -> list[int]:
    """Close the newest bars of the venue; return their open times."""
    length = shmfeed.bar.TIMEFRAMES[key[1]]
    newest = NEWEST * MINUTE // length
    if length > MINUTE:
        newest -= 1
    opens = [(newest - count + 1 + n) * length for n in range(count)]
    ring = writer.add_stream(*key)
    for at in opens:
        ring.append(at, *venue.row(at, length)[2:8], flags)
    return opens


@pytest.fixture
def audit(feed_name, capsys) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["audit", *arguments, "--feed", feed_name])
        return code, *capsys.readouterr()

    return run


def only_stream(output: str) -> dict:
    (found,) = json.loads(output)["streams"]
    return found


@pytest.mark.usefixtures("feeder")
class TestAudit:
    def test_a_clean_feed(self, audit, writer, venue, feed_name) -> None:
        publish(writer, venue, 120)
        code, output, errors = audit()
        assert (code, errors) == (0, "")
        head, line, _, summary = output.splitlines()
        assert head.split()[:5] == ["SYMBOL", "TIMEFRAME", "ROWS", "HOLES", "REVISIONS"]
        cells = ["BTCUSDT", "1m", "120", "0", "0", "0", "venue", "120", "-", "-", "0"]
        assert line.split() == cells
        assert summary == (
            f"feed {feed_name}: nothing differs; 120 rows compared with REST of a test"
        )
        assert len(venue.requests) == 3

    def test_a_value_that_differs(self, audit, writer, venue) -> None:
        opens = publish(writer, venue, 60)
        venue.changed = {opens[3]: (3, 4.25), opens[50]: (4, 9.0)}
        code, output, _ = audit()
        assert code == 1
        shown = shmfeed.text.format_ms(opens[3])
        closed = values(opens[3] // MINUTE)[3]
        assert f"{shown}: close {closed!r}, 4.25 in history" in output
        assert "volume 3.0, 9.0 in history" in output
        assert "2 bars differ; 60 rows compared" in output
        found = only_stream(audit("--json")[1])
        assert [one["field"] for one in found["differences"]] == ["close", "volume"]
        assert (found["differing"], found["compared"]) == (2, 60)

    def test_a_bar_that_was_not_published(self, audit, writer, venue) -> None:
        *_, later = publish(writer, venue, 5)
        writer.cut_rows(*KEY, later)
        code, output, _ = audit("--json")
        assert code == 1
        assert only_stream(output)["missing"] == [later]

    def test_a_hole_that_the_venue_has_too(self, audit, writer, venue) -> None:
        at = (NEWEST - 3) * MINUTE
        venue.lacks = {at + MINUTE}
        ring = writer.add_stream(*KEY)
        for opened in (at, at + 2 * MINUTE, at + 3 * MINUTE):
            ring.append(opened, *venue.row(opened, MINUTE)[2:8], 1)
        code, output, _ = audit("--json")
        found = only_stream(output)
        assert (code, found["holes"], found["differing"]) == (0, 1, 0)
        venue.lacks = set()
        assert audit()[0] == 1

    def test_a_bar_that_the_venue_does_not_have(self, audit, writer, venue) -> None:
        opens = publish(writer, venue, 5)
        venue.lacks = {opens[2]}
        code, output, _ = audit()
        assert code == 1
        assert "published, and history does not have it" in output

    def test_bars_that_have_not_settled_are_left_out(
        self, audit, writer, venue
    ) -> None:
        publish(writer, venue, 3)
        venue.changed = {NEWEST * MINUTE: (0, 0.5)}
        set_venue_now(writer, (NEWEST + 1) * MINUTE + 5_000)
        code, output, _ = audit("--json")
        assert (code, only_stream(output)["compared"]) == (0, 2)
        set_venue_now(writer, (NEWEST + 1) * MINUTE + 15_000)
        assert audit()[0] == 1

    def test_since(self, audit, writer, venue) -> None:
        opens = publish(writer, venue, 60)
        venue.changed = {opens[10]: (0, 0.5)}
        since = str(opens[20] + MINUTE)
        code, output, _ = audit("--since", since, "--json")
        assert (code, only_stream(output)["rows"]) == (0, 40)
        assert audit("--since", str(opens[10] + MINUTE))[0] == 1

    def test_rows_are_counted_by_their_closers(self, audit, writer, venue) -> None:
        newest = NEWEST
        ring = writer.add_stream(*KEY)
        flags = [1, 1, 2, 4, BACKFILLED, 256, 1 | REVISED, 2 | UNCONFIRMED]
        for number, flag in enumerate(flags):
            at = (newest - len(flags) + 1 + number) * MINUTE
            ring.append(at, *venue.row(at, MINUTE)[2:8], flag)
        found = only_stream(audit("--json")[1])
        closed_by = {"venue": 3, "next": 2, "clock": 1, "rest": 1, "history": 1}
        assert found["closed_by"] == closed_by
        assert (found["revisions"], found["unconfirmed"]) == (1, 1)

    def test_minutes_are_rolled_up(self, audit, writer, venue) -> None:
        publish(writer, venue, 300)
        publish(writer, venue, 4, HOURLY)
        code, output, _ = audit("--json")
        assert code == 0
        hourly = json.loads(output)["streams"][1]
        assert hourly["rolled_1m"] >= 3
        assert hourly["rolled_differences"] == []

    def test_an_hour_that_its_minutes_do_not_make(self, audit, writer, venue) -> None:
        publish(writer, venue, 300)
        at = (NEWEST // 60 - 1) * HOUR
        venue.hours = {at: (1, 500.0)}
        publish(writer, venue, 4, HOURLY)
        code, output, _ = audit()
        assert code == 1
        assert f"{shmfeed.text.format_ms(at)}: high 500.0, " in output
        assert "in the 1m bars\n" in output
        assert "in history" not in output

    def test_a_repair_meanwhile_is_no_difference(
        self, audit, writer, venue, monkeypatch
    ) -> None:
        opens = publish(writer, venue, 5)
        right = writer.add_stream(*KEY).reader.snapshot(5).block
        wrong = right.copy()
        wrong[5, 2] = 4.25
        writer.replace_rows(*KEY, wrong)
        fetch = venue.fetch

        def repair_and_fetch(request: HistoryRequest) -> HistoryPage:
            writer.replace_rows(*KEY, right)
            return fetch(request)

        monkeypatch.setattr(venue, "fetch", repair_and_fetch)
        assert audit()[0] == 0
        assert len(opens) == 5

    def test_rows_that_leave_the_ring_meanwhile_were_published(
        self, audit, writer, venue, monkeypatch
    ) -> None:
        opens = publish(writer, venue, 500)
        venue.changed[opens[250]] = (3, 4.25)
        fetch, ring = venue.fetch, writer.add_stream(*KEY)
        newer = iter(range(opens[-1] + MINUTE, opens[-1] + 99 * MINUTE, MINUTE))

        def close_and_fetch(request: HistoryRequest) -> HistoryPage:
            at = next(newer)
            ring.append(at, *venue.row(at, MINUTE)[2:8], CLOSED_BY_VENUE)
            return fetch(request)

        monkeypatch.setattr(venue, "fetch", close_and_fetch)
        code, output, _ = audit("--json")
        found = only_stream(output)
        assert (code, found["missing"], found["differing"]) == (1, [], 1)
        assert ring.reader.count > 500

    def test_the_rate_limit_is_waited_for(
        self, audit, writer, venue, monkeypatch
    ) -> None:
        waited: list[float] = []
        monkeypatch.setattr(
            audit_rows.fetch_all, "__defaults__", (lambda _: None, waited.append)
        )
        publish(writer, venue, 60)
        venue.waits = [0.5, 90.0]
        assert audit()[0] == 0
        assert waited == [30.0, 0.5]

    def test_history_that_fails_is_exit_2(self, audit, writer, venue) -> None:
        publish(writer, venue, 5)
        venue.error = HistoryError("the server answered HTTP 503", "away")
        code, output, _ = audit()
        assert code == 2
        assert "history cannot be asked: the server answered HTTP 503" in output
        assert "history of 1 stream not asked" in output
        assert "nothing differs" not in output

    def test_a_time_in_the_future(self, audit, writer, venue) -> None:
        publish(writer, venue, 5)
        code, output, errors = audit("--since", str(VENUE_NOW + HOUR))
        assert (code, output, venue.requests) == (2, "", [])
        later = shmfeed.text.format_ms(VENUE_NOW + HOUR)
        assert f"--since is {later}, which is later than now" in errors

    def test_a_stream_without_rows(self, audit, writer, venue) -> None:
        """Nothing was compared; history says whether there was something to."""
        code, output, _ = audit()
        assert code == 1
        said = "BTCUSDT 1m: there are no rows, and history has bars; 1 bar not compared"
        assert said in output
        assert "nothing could be compared; 0 rows compared" in output
        assert "nothing differs" not in output
        found = only_stream(audit("--json")[1])
        assert (found["rows"], found["begins"], found["uncompared"]) == (0, None, 1)
        since = "--since", str(NEWEST * MINUTE)
        assert only_stream(audit(*since, "--json")[1])["uncompared"] == 2
        venue.lacks = {NEWEST * MINUTE}
        code, output, _ = audit()
        assert (code, "there are no rows, and history has none\n" in output) == (
            0,
            True,
        )

    def test_bars_before_the_first_row(self, audit, writer, venue) -> None:
        first = publish(writer, venue, 20)[0]
        since = "--since", str(first - 40 * MINUTE)
        code, output, _ = audit(*since)
        assert code == 1
        begin = shmfeed.text.format_ms(first)
        said = f"the ring begins at {begin}; 41 bars before it are not compared"
        assert f"BTCUSDT 1m: {said}\n" in output
        assert (
            "nothing differs; 20 rows compared with REST of a test; 41 bars" in output
        )
        assert only_stream(audit(*since, "--json")[1])["uncompared"] == 41
        # A symbol's history may begin with the ring.
        venue.lacks = set(range(first - 41 * MINUTE, first, MINUTE))
        assert audit(*since)[0] == 0
        assert audit("--since", str(first + MINUTE))[0] == 0

    def test_rows_that_end_before_the_range(self, audit, writer, venue) -> None:
        """The bars of the range were not published: that is a difference."""
        opens = publish(writer, venue, 5)
        writer.cut_rows(*KEY, opens[-2])
        code, output, _ = audit("--since", str(opens[-1]), "--json")
        found = only_stream(output)
        assert (code, found["rows"], found["missing"]) == (1, 0, opens[-2:])
        assert (found["uncompared"], found["begins"]) == (0, opens[-2])

    def test_holes_and_their_bars_are_counted(self, audit, writer, venue) -> None:
        ring = writer.add_stream(*KEY)
        for number in (20, 10, 9, 5, 0):
            at = (NEWEST - number) * MINUTE
            ring.append(at, *venue.row(at, MINUTE)[2:8], 1)
        found = only_stream(audit("--json")[1])
        assert (found["holes"], found["missing_bars"]) == (3, 9 + 3 + 4)

    def test_another_venue_is_named(self, audit, writer, venue) -> None:
        venue.is_own = False
        opens = publish(writer, venue, 5)
        venue.changed = {opens[2]: (4, 99.0)}
        code, output, _ = audit()
        assert (code, "compared with REST of a test, another venue's" in output) == (
            0,
            True,
        )


@pytest.mark.usefixtures("feeder")
class TestStore:
    @pytest.fixture
    def path(self, tmp_path, feed_name, writer, venue):
        """Return a store of 30 bars, the last 10 of which the ring has too."""
        path, newest = tmp_path / "bars.sqlite", NEWEST
        ring = writer.add_stream(*KEY)
        with shmfeed.attach(feed_name) as feed:
            offset = round((feed.status()["clock_offset"] or 0.0) * 1000)
        versions = []
        for number in range(30):
            row = venue.row((newest - 29 + number) * MINUTE, MINUTE)
            bar = shmfeed.Bar(*map(int, row[:2]), *row[2:8], 1)
            published = bar.close_time + 100 + number - offset
            published *= 1_000_000
            versions.append(RowVersion(KEY, bar, published, published, "closed"))
            if number >= 20:
                ring.append(bar.open_time, *bar[2:8], 1)
        old = versions[25]
        before = old._replace(bar=old.bar._replace(close=2.5))
        with StoreFile(str(path), IDENTITY, replace=False) as file:
            file.write([*versions[:25], before, *versions[26:]])
            file.write([old._replace(cause="revised")])
        return str(path)

    def test_lateness_and_old_values(self, audit, path) -> None:
        code, output, _ = audit("--store", path, "--json")
        found = only_stream(output)
        assert code == 0
        assert found["lateness_p50"] == pytest.approx(0.1245, abs=1e-4)
        assert found["lateness_p99"] == pytest.approx(0.12891, abs=1e-4)
        (change,) = found["changes"]
        assert change["causes"] == ["closed", "revised"]
        assert change["values"]["close"][0] == 2.5
        output = audit("--store", path)[1]
        assert "was close 2.5, now " in output
        assert "0.1 s" in output

    def test_bars_before_the_ring_s_first(self, audit, path, venue) -> None:
        first = (NEWEST - 29) * MINUTE
        since = "--since", str(first + MINUTE), "--json"
        assert only_stream(audit(*since, "--store", path)[1])["rows"] == 30
        assert only_stream(audit(*since)[1])["rows"] == 10
        venue.changed = {first + 5 * MINUTE: (3, 4.25)}
        assert audit(*since, "--store", path)[0] == 1
        assert "20 bars before it are not compared" in audit(*since[:2])[1]
        earlier = "--since", str(first - 4 * MINUTE), "--store", path
        begin = shmfeed.text.format_ms(first)
        said = f"the store begins at {begin}; 5 bars before it are not compared"
        code, output, _ = audit(*earlier)
        assert (code, said in output) == (1, True)

    def test_the_store_of_another_market(self, audit, tmp_path) -> None:
        other = str(tmp_path / "other.sqlite")
        identity = make_identity("binance", "usdm", ["venue"])
        StoreFile(other, identity, replace=False).close()
        code, _, errors = audit("--store", other)
        assert code == 2
        assert "holds bars of binance/usdm/venue, and the feed's rows come" in errors

    def test_no_such_store(self, audit, path) -> None:
        code, _, errors = audit("--store", path + "x")
        assert code == 2
        assert "bars.sqlitex" in errors


class TestUnasked:
    def test_no_feeder_is_exit_2(self, audit, writer, venue) -> None:
        publish(writer, venue, 5)
        code, output, errors = audit()
        assert (code, output) == (2, "")
        assert "history cannot be asked: no feeder of feed" in errors

    def test_no_source_is_exit_2(self, audit, writer, feed_name, settings) -> None:
        def serve(request: ControlRequest) -> dict[str, object]:
            return serve_bars(None, settings, request)

        with ControlServer(place(feed_name).socket, serve):
            code, output, errors = audit()
        assert (code, output) == (2, "")
        assert "history cannot be asked: this feeder has no source of history" in errors

    def test_no_feed_is_exit_2(self, audit) -> None:
        assert audit()[0] == 2

    def test_the_settings_of_another_feed(self, audit, writer, tmp_path) -> None:
        path = tmp_path / "other.json"
        path.write_text(json.dumps({"protocol": "binance", "market_type": "usdm"}))
        code, _, errors = audit("--config", str(path))
        assert code == 2
        assert "the settings are those of binance/usdm" in errors

    def test_settings_without_a_source(self, audit, feed_name, tmp_path) -> None:
        path = tmp_path / "own.json"
        path.write_text(json.dumps({"protocol": "wealthai"}))
        with shmfeed.create(feed_name, streams=[KEY]) as writer:
            code, _, errors = audit("--config", str(path))
            writer.close(unlink=True)
        assert code == 2
        assert "these settings name no source of history" in errors


class TestServeBars:
    def test_a_busy_feeder_comes_first(self, venue, settings) -> None:
        named = {"symbols": ("BTCUSDT",), "resolutions": ("1m",), "last": MINUTE}
        request = ControlRequest(v=1, id=1, op="bars", **named)
        found = serve_bars(venue, settings, request, is_busy=lambda: True)
        assert found == {"wait": 0.5}
        assert venue.requests == []
        assert "rows" in serve_bars(venue, settings, request)

    @pytest.mark.parametrize(
        "named",
        [
            {"symbols": ("B C",), "resolutions": ("1m",)},
            {"symbols": ("BTCUSDT",), "resolutions": ("7m",)},
        ],
    )
    def test_a_stream_that_cannot_be(self, venue, settings, named) -> None:
        with pytest.raises(shmfeed.BadArgumentError):
            serve_bars(venue, settings, ControlRequest(v=1, id=1, op="bars", **named))

    def test_nan_survives_the_way(self, venue, settings) -> None:
        venue.changed = {0: (5, math.nan)}
        named = {"symbols": ("BTCUSDT",), "resolutions": ("1m",)}
        request = ControlRequest(v=1, id=1, op="bars", **named)
        rows = np.frombuffer(serve_bars(venue, settings, request)["rows"])
        assert math.isnan(rows.reshape(9, 1)[7, 0])
