"""`shmfeed run --check`: a look at the venue that writes nothing."""

import time

import pytest
from support.feeding import settings

from shmfeed.bar import Bar
from shmfeed.cli.main import main
from shmfeed.cli.run import format_check
from shmfeed.codecs.interface import BarEvent, Malformed, Refused
from shmfeed.feeder import rest_check
from shmfeed.feeder.rest_check import FirstBar, difference
from shmfeed.feeder.venue_check import VenueCheck, check_venue
from shmfeed.segment.mapping import place
from shmfeed.settings.model import Settings
from shmfeed.simulator import Venue
from shmfeed.wire.events import (
    Connected,
    Received,
    SessionStatus,
    StatusChanged,
    StreamsRefused,
    Subscribed,
    VenueTime,
)

pytestmark = pytest.mark.usefixtures("no_settings")
pytest_plugins = ["support.command_process"]

A, B = ("BTCUSDT", "1m"), ("ETHUSDT", "1m")
MINUTE = 60_000
TOKEN = "canary-of-the-token"


def bar(key=A, shift=0, **changes):
    opened = time.time_ns() // 60_000_000_000 * MINUTE + shift
    given = {"low": 1.0, **changes}
    return BarEvent(*key, opened, 0, 2.0, 3.0, given["low"], 2.5, 7.0)


@pytest.fixture
def found():
    return VenueCheck((A, B), now=100.0)


class TestWhatWasFound:
    def test_a_bar_of_each(self, found) -> None:
        found.take(Connected(False, endpoint="wss://x/"), 100.2)
        found.take(Subscribed((A, B)), 100.25)
        found.take(Received([bar(A)]), 100.5)
        assert not found.is_complete
        found.take(Received([bar(("ethusdt", "1m")), bar(B)]), 101.5)
        assert found.is_complete
        assert found.is_good
        lines = format_check(found).splitlines()
        opened = lines[3].split()[4]
        assert lines == [
            "endpoint: wss://x/",
            "connection: subscribed after 0.2 s",
            "clock: the venue does not say its time",
            f"BTCUSDT 1m: bar of {opened} close 2.5, after 0.5 s",
            f"ETHUSDT 1m: bar of {opened} close 2.5, after 1.5 s",
            "ok",
        ]

    def test_no_word_of_the_venue_shows_a_secret(self) -> None:
        redact = Settings(csrf_token=TOKEN).redact
        found = VenueCheck((A, B), now=0.0, redact=redact)
        found.take(StreamsRefused((B,), f"not with {TOKEN}"), 0.0)
        found.take(Received([bar((TOKEN, "1m")), Refused(None, TOKEN)]), 0.0)
        text = format_check(found)
        assert TOKEN not in text
        assert text.count("***") == 3

    def test_what_is_missing_has_a_reason(self, found) -> None:
        found.take(StreamsRefused((B,), "no such\nsymbol"), 100.0)
        found.take(Received([bar(A, low=9.0)]), 100.0)
        found.take(Received([bar(A, shift=30_001)]), 100.0)
        found.take(Received([bar(("XRP", "1m"))]), 100.0)
        found.take(Received([Malformed("not UTF-8"), Refused(None, "slow down")]), 0.0)
        assert not found.is_complete  # a right bar of the first may still come
        lines = format_check(found).splitlines()
        assert lines[0] == "connection: none"
        assert lines[2].startswith("BTCUSDT 1m: no bar; a bar was dropped, malformed ")
        assert lines[3:] == [
            r"ETHUSDT 1m: no bar; refused: no such\nsymbol",
            "error: not subscribed: a bar of XRP 1m",
            "error: malformed message: not UTF-8",
            "error: slow down",
            "FAILED: 2 of 2 streams without a bar",
        ]

    def test_no_connection_ends_it(self, found) -> None:
        error = SessionStatus("error", last_error="could not connect")
        found.take(StatusChanged(SessionStatus(), error), 100.0)
        assert found.is_complete
        assert not found.is_good
        assert "error: could not connect" in format_check(found)

    @pytest.mark.parametrize(("shift", "side"), [(9, "ahead of"), (-9, "behind")])
    def test_the_clock(self, found, shift, side) -> None:
        stated = time.time_ns() // 1_000_000 + shift * 1000
        found.take(VenueTime(stated, time.monotonic()), 100.0)
        assert found.offset == pytest.approx(shift, abs=1.0)
        assert f" s {side} this host's" in format_check(found)

    def test_the_wait_counts_from_the_acknowledgement(self, found) -> None:
        assert found.waited(500.0) == 0
        found.take(Subscribed((A, B)), 110.0)
        assert found.waited(140.0) == 30

    def test_a_bar_is_a_bar(self, found) -> None:
        found.take(Received([bar(A)]), 100.0)
        assert isinstance(found.bars[A][0], Bar)


@pytest.fixture
def venue():
    options = {"resolutions": ["1s", "1m"], "history": 5, "token": TOKEN}
    with Venue(symbols=["BTCUSDT", "ETHUSDT"], **options) as running:
        yield running


def test_nothing_is_written(venue, feed_name, capsys, monkeypatch) -> None:
    monkeypatch.setenv("WEBSOCKET_CSRF_TOKEN", TOKEN)
    arguments = ["run", "--check", "--feed", feed_name, "--endpoint", venue.url]
    streams = ["--symbols", "BTCUSDT,ETHUSDT", "--resolutions", "1s,1m"]
    assert main([*arguments, *streams]) == 0
    output, errors = capsys.readouterr()
    assert errors == ""
    lines = output.splitlines()
    assert lines[0] == f"endpoint: {venue.url}"
    assert lines[-1] == "ok"
    assert len([line for line in lines if ": bar of " in line]) == 4
    assert TOKEN not in output
    where = place(feed_name)
    assert not any(path.exists() for path in (where.segment, where.lock, where.socket))
    assert venue.subscriptions[0]["csrf_token"] == TOKEN
    venue.wait_connections(0)


def test_a_refusal_is_exit_1(venue, feed_name, capsys) -> None:
    arguments = ["run", "--check", "--feed", feed_name, "--endpoint", venue.url]
    assert main([*arguments, "--symbols", "BTCUSDT", "--resolutions", "1m"]) == 1
    output = capsys.readouterr().out
    assert "refused the subscription" in output
    assert output.endswith("FAILED: 1 of 1 stream without a bar\n")


def test_no_venue_is_exit_1(feed_name, capsys) -> None:
    arguments = ["run", "--check", "--feed", feed_name, "--symbols", "BTCUSDT"]
    more = ["--endpoint", "ws://127.0.0.1:9", "--resolutions", "1m"]
    assert main([*arguments, *more]) == 1
    assert "connection refused" in capsys.readouterr().out


def test_a_mute_venue_is_waited_for_so_long(feed_name) -> None:
    with Venue(speed=None) as venue:
        given = settings(feed_name, venue, data_timeout=0.3)
        begun = time.monotonic()
        found = check_venue(given)
        assert 0.3 <= time.monotonic() - begun < 5
        assert found.connected_after is not None
        assert found.bars == {}


def test_beside_a_running_feeder(command, venue, feed_name, tmp_path, monkeypatch):
    """It is the same feed's settings, and the feeder goes on undisturbed."""
    monkeypatch.setenv("WEBSOCKET_CSRF_TOKEN", TOKEN)
    streams = ["--symbols", "BTCUSDT", "--resolutions", "1m"]
    arguments = ["run", "--feed", feed_name, "--endpoint", venue.url, *streams]
    process = command(*arguments, "--unlink")
    while "connected to" not in process.stderr.readline():
        pass
    assert main([*arguments, "--check"]) == 0
    assert process.poll() is None


class TestRest:
    SYMBOLS = ("BTCUSDT", "ETHUSDT")

    def check(self, feed_name, faults="", symbols="BTCUSDT,ETHUSDT", **changes):
        options = {"symbols": self.SYMBOLS, "resolutions": ["1s", "1m"], "history": 3}
        with Venue(protocol="binance", faults=faults, **options) as venue:
            words = {
                "--feed": feed_name,
                "--protocol": "binance",
                "--market-type": "spot",
                "--endpoint": venue.url,
                "--rest-endpoint": venue.rest_url,
                "--symbols": symbols,
                "--resolutions": "1s,1m",
                **changes,
            }
            return main(
                ["run", "--check", *(w for pair in words.items() for w in pair)]
            )

    def test_it_has_the_same_bars(self, feed_name, capsys) -> None:
        assert self.check(feed_name) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[-1] == "ok"
        assert "history: REST of binance spot, the same bar in 4 of 4 streams" in lines
        (weight,) = [line for line in lines if line.startswith("weight: ")]
        assert weight.endswith(" of 6000 used in this minute, as the venue counts")
        assert any(line.startswith("clock: the venue's is") for line in lines)

    def test_other_prices_are_exit_1(self, feed_name, capsys, monkeypatch) -> None:
        monkeypatch.setattr(rest_check, "PAUSE", 0.01)
        assert self.check(feed_name, "rest-prices:1.01") == 1
        output = capsys.readouterr().out
        assert "; REST differs: open " in output
        assert "the same bar in 0 of 4 streams" in output
        assert output.endswith("FAILED: REST does not agree, or cannot be asked\n")

    def test_an_error_of_rest_is_exit_1(self, feed_name, capsys) -> None:
        assert self.check(feed_name, "rest-status:500") == 1
        assert "the server answered 500" in capsys.readouterr().out

    def test_an_unknown_symbol_is_named_with_the_nearest(
        self, feed_name, capsys
    ) -> None:
        given = {"--data-timeout": "0.5"}
        assert self.check(feed_name, symbols="BTCUSDT,ETHUSD", **given) == 1
        line = "ETHUSD: the venue has no such symbol; the nearest is ETHUSDT"
        output = capsys.readouterr().out
        assert line in output.splitlines()

    def test_no_bar_to_compare(self, feed_name, capsys) -> None:
        given = {"--data-timeout": "0.5"}
        assert self.check(feed_name, symbols="ETHUSD", **given) == 1
        output = capsys.readouterr().out
        assert "history: REST of binance spot, no bar to compare\n" in output
        assert "0 of 0" not in output

    def test_without_an_address_of_its_own_it_is_not_asked(
        self, feed_name, capsys
    ) -> None:
        assert self.check(feed_name, **{"--backfill": "off"}) == 0
        assert "history:" not in capsys.readouterr().out


def bar_of(**changes) -> Bar:
    return Bar(0, MINUTE, 2.0, 3.0, 1.0, 2.5, 7.0)._replace(**changes)


@pytest.mark.parametrize(
    ("is_closed", "there", "expected"),
    [
        (True, bar_of(), ""),
        (True, bar_of(close=2.6), "REST differs: close 2.5 against 2.6"),
        (False, bar_of(close=2.6, high=4.0, low=0.5, volume=8.0), ""),
        (False, bar_of(volume=6.0), "REST differs: volume 7 against 6"),
        (False, bar_of(open=2.1), "REST differs: open 2 against 2.1"),
        (False, None, "REST lacks the bar"),
    ],
)
def test_a_bar_that_was_forming_may_have_grown(is_closed, there, expected) -> None:
    assert difference(FirstBar(bar_of(), is_closed), there) == expected
