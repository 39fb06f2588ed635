"""A real feeder heals by itself in each situation, and says why."""

import time
from contextlib import contextmanager

import pytest
from support.feeding import MINUTE, STREAM, T0, feeder
from support.waiting import until

import shmfeed
from shmfeed.bar import UNCONFIRMED
from shmfeed.feeder import mute
from shmfeed.simulator import STEPS, Venue, grid, verify
from shmfeed.simulator.binance import binance_frames
from shmfeed.simulator.frames import payload_of
from shmfeed.simulator.market import bar_state

SEED = 5
DAY = 86_400_000
LIVE = {"speed": 300, "history": 100, "update_interval": 0.02, "seed": SEED}


@contextmanager
def fed(feed_name, options=(), **settings):
    """Yield a venue, which by default sends nothing by itself, and its feed."""
    given = {"speed": None, "seed": SEED, **dict(options)}
    with Venue(**given) as venue:
        settings = {"protocol": venue.options.protocol, **settings}
        if venue.options.protocol == "binance":
            settings.setdefault("market_type", "spot")
        with feeder(feed_name, venue, **settings):
            with shmfeed.attach(feed_name) as feed:
                until(lambda: feed.status()["state"] == "connected")
                yield venue, feed


def stream(feed, symbol, timeframe="1m"):
    status = feed.status()
    found = (s for s in status["streams"] if s["symbol"] == symbol)
    return next(s for s in found if s["timeframe"] == timeframe)


def close(venue, number, symbol="BTCUSDT"):
    """Send the closed bar of this number; return how many clients it went to."""
    return venue.push_market(symbol, "1m", T0 + number * MINUTE)


def others_are_served(venue, feed, symbol="BTCUSDT"):
    before = stream(feed, symbol)["count"]
    close(venue, before, symbol)
    until(lambda: stream(feed, symbol)["count"] == before + 1)
    return True


# The grid


def phase_of(symbol):
    return grid.phase(symbol, "3d", None) // DAY


SYMBOL_BY_PHASE = {
    phase_of(symbol): symbol
    for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "ADAUSDT", "DOGEUSDT")
}


@pytest.mark.parametrize("phase", [0, 1, 2])
@pytest.mark.parametrize("protocol", ["wealthai", "binance"])
def test_bars_of_three_days_have_the_phase_of_their_venue(feed_name, protocol, phase):
    symbol = SYMBOL_BY_PHASE[phase]
    first = grid.begin(T0, symbol, "3d", None)
    settings = {"symbols": [symbol], "resolutions": ["3d", "1d"]}
    with fed(feed_name, {"protocol": protocol}, **settings) as (venue, feed):
        for number in range(3):
            venue.push_market(symbol, "3d", first + number * 3 * DAY)
        until(lambda: stream(feed, symbol, "3d")["count"] == 3)
        rows = feed.ring(symbol, "3d").snapshot(3)
        assert rows.open_time[0] // DAY % 3 == phase
        assert verify(SEED, symbol, "3d", rows) == 0
        assert feed.status()["malformed"] == feed.status()["gaps"] == 0
        # Control: on the other grids a bar off the grid is malformed.
        venue.push_market(symbol, "1d", grid.begin(T0, symbol, "1d", None) + MINUTE)
        until(lambda: feed.status()["malformed"] == 1)


# A bar from the future


@pytest.mark.parametrize("protocol", ["wealthai", "binance"])
def test_a_bar_from_the_future_silences_no_stream(feed_name, protocol):
    options = {**LIVE, "speed": 1, "protocol": protocol, "history": 5}
    with fed(feed_name, options, resolutions=["1s"]) as (venue, feed):
        ring = feed.ring("BTCUSDT", "1s")
        assert ring.wait(5, timeout=10)
        venue.set_faults("future:90m@0")
        until(lambda: feed.status()["malformed"] >= 1)
        assert ring.wait(ring.count + 1, timeout=10)
        rows = ring.snapshot(100)
        assert verify(SEED, "BTCUSDT", "1s", rows) == 0
        assert rows.open_time[-1] < (time.time() + 60) * 1000
        assert feed.status()["gaps"] == 0


# Refused symbols


@pytest.mark.parametrize("protocol", ["wealthai", "binance"])
def test_a_symbol_that_is_refused_is_left_out_by_name(feed_name, protocol):
    options = {"protocol": protocol, "faults": "refuse-symbol:ETHUSDT"}
    settings = {"symbols": ["BTCUSDT", "ETHUSDT"]}
    with fed(feed_name, options, **settings) as (venue, feed):
        assert others_are_served(venue, feed)
        if protocol == "binance":  # its URL names the symbol, and no error comes
            assert stream(feed, "ETHUSDT")["health"] == "waiting"
            return
        until(lambda: stream(feed, "ETHUSDT")["why"])
        left_out = stream(feed, "ETHUSDT")
        assert left_out["health"] == "stale"
        assert "symbols not available: ETHUSDT" in left_out["why"]
        assert feed.status()["health"] == "live"


@pytest.mark.parametrize("protocol", ["wealthai", "binance"])
def test_an_error_after_the_acknowledgement_is_said(feed_name, protocol):
    options = {"protocol": protocol, "faults": "refuse-later:ETHUSDT"}
    settings = {"symbols": ["BTCUSDT", "ETHUSDT"]}
    with fed(feed_name, options, **settings) as (venue, feed):
        until(lambda: "no data for ETHUSDT" in (feed.status()["last_error"] or ""))
        assert others_are_served(venue, feed)
        assert stream(feed, "ETHUSDT")["health"] != "live"


# A stream that is mute while others speak


@pytest.mark.parametrize(
    ("protocol", "until_then"), [("wealthai", "asked"), ("binance", "moved")]
)
def test_a_mute_stream_is_asked_for_again_then_moved(
    feed_name, protocol, until_then, monkeypatch
):
    monkeypatch.setattr(mute, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(mute, "CHECK_SECONDS", 0.1)
    options = {"speed": 1, "update_interval": 0.05, "protocol": protocol}
    settings = {"symbols": ["BTCUSDT", "ETHUSDT"], "resolutions": ["1s"]}
    with fed(feed_name, options, **settings) as (venue, feed):
        until(lambda: stream(feed, "ETHUSDT", "1s")["count"] >= 1)
        venue.set_faults(f"mute-stream:ETHUSDT:{until_then}")
        count = stream(feed, "ETHUSDT", "1s")["count"]
        until(lambda: stream(feed, "ETHUSDT", "1s")["count"] > count + 1)
        assert venue.log.connections == (1 if until_then == "asked" else 2)
        assert feed.status()["reconnects"] == 0
        others = feed.ring("BTCUSDT", "1s").snapshot(50)
        assert verify(SEED, "BTCUSDT", "1s", others) == 0
        assert set((others.open_time[1:] - others.open_time[:-1]).tolist()) == {1000}


# Limits


def test_streams_beyond_a_connections_limit_are_spread(feed_name):
    symbols = ["AUSDT", "BUSDT", "CUSDT", "DUSDT", "EUSDT"]
    options = {"max_streams": 2}
    settings = {"symbols": symbols, "max_streams_per_connection": 2}
    with fed(feed_name, options, **settings) as (venue, feed):
        venue.wait_connections(3)
        for symbol in symbols:
            assert others_are_served(venue, feed, symbol)
        assert feed.status()["reconnects"] == 0


@pytest.mark.parametrize("fault", ["refuse:429:2s", "ban:2s"])
def test_a_venues_wait_is_kept_and_is_no_failure(feed_name, fault):
    limits = {"max_reconnect_attempts": 2}  # the loss is the first failure
    with fed(feed_name, **limits) as (venue, feed):
        venue.set_faults(f"{fault}@0+2")
        dials = venue.log.dials
        venue.drop_connections()
        until(lambda: venue.log.dials == dials + 1)
        seen = []  # one reading, as the wait goes on
        until(
            lambda: (
                seen.append(feed.status())
                or "after 1 attempt" in str(seen[-1]["last_error"])
            )
        )
        status = seen[-1]
        assert status["state"] == "reconnecting"
        assert 0.5 < status["next_attempt_in"] <= 2.0
        words = "Too many requests" if "429" in fault else "IP banned until"
        assert words in status["last_error"]
        until(lambda: feed.status()["state"] == "connected")
        assert others_are_served(venue, feed)
        assert venue.log.dials == dials + 2  # none in the wait
        assert venue.log.banned_dials == ("ban" in fault)


def test_a_slow_handshake_is_waited_for(feed_name):
    with fed(feed_name, {"faults": "slow-handshake:500ms"}) as (venue, feed):
        assert others_are_served(venue, feed)
        assert (venue.log.dials, feed.status()["reconnects"]) == (1, 0)


@pytest.mark.parametrize("code", [1008, 1013])
def test_a_close_code_is_named(feed_name, code):
    with fed(feed_name) as (venue, feed):
        venue.drop_connections(code)
        until(lambda: feed.status()["state"] != "connected")
        assert str(code) in feed.status()["last_error"]


# A planned end


def test_an_announced_end_costs_nothing(feed_name):
    options = {**LIVE, "protocol": "binance"}
    with fed(feed_name, options) as (venue, feed):
        ring = feed.ring(*STREAM)
        until(lambda: ring.count >= 10)
        states = []
        venue.announce_end(0.5)
        until(lambda: venue.log.connections == 2)
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            status = feed.status()
            states.append((status["state"], status["health"]))
            time.sleep(0.02)
        assert set(states) == {("connected", "live")}
        assert venue.connections == 1
        rows = ring.snapshot(100)
        assert verify(SEED, *STREAM, rows) == 0
        assert feed.status()["gaps"] == 0
        assert not (rows["flags"] & UNCONFIRMED).any()


# Numbers of messages


@pytest.mark.parametrize("sequence", ["connection", "stream"])
def test_a_lost_message_is_counted(feed_name, sequence):
    options = {"sequence": sequence}
    with fed(feed_name, options, sequence=sequence) as (venue, feed):
        for step in (1, 2, 3):
            venue.push_market(*STREAM, T0, step)
        close(venue, 0)
        venue.set_faults("lost")
        venue.push_market(*STREAM, T0 + MINUTE, 5)
        venue.set_faults("")
        close(venue, 2)
        close(venue, 3)
        until(lambda: stream(feed, "BTCUSDT")["count"] >= 3)
        assert feed.status()["missed"] == 1
        assert stream(feed, "BTCUSDT")["missed"] == 1


@pytest.mark.parametrize("sequence", ["connection", "stream"])
def test_a_doubled_message_changes_nothing(feed_name, sequence):
    options = {"sequence": sequence, "faults": "duplicate"}
    with fed(feed_name, options, sequence=sequence) as (venue, feed):
        for number in range(3):
            venue.push_market(*STREAM, T0 + number * MINUTE, 4)
            close(venue, number)
        until(lambda: feed.status()["duplicates"] == 6)
        rows = feed.ring(*STREAM).snapshot(3)
        assert verify(SEED, *STREAM, rows) == 0
        assert feed.status()["missed"] == 0


@pytest.mark.parametrize("dense", [True, False])
def test_trade_ids_without_a_hole_prove_a_bar_final(feed_name, dense):
    def send(venue, number):
        """Send the bar's last update, without the flag that it is closed."""
        opened = T0 + number * MINUTE
        state = bar_state(SEED, STREAM, opened, STEPS, opened + MINUTE - 1)
        (frame,) = binance_frames(STREAM, [state], combined=True, dense=dense)
        venue.send(payload_of(frame).replace(b'"x":true', b'"x":false'))

    with fed(feed_name, {"protocol": "binance"}) as (venue, feed):
        for number in range(20):
            send(venue, number)
        ring = feed.ring(*STREAM)
        until(lambda: ring.count == 19)
        doubtful = (ring.snapshot(19)["flags"] & UNCONFIRMED) != 0
        assert doubtful.any() != dense
