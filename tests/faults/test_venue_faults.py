"""A real feeder under each fault of a venue keeps the venue's bars.

The venue's frames are pushed by the test, so that which of them are spoilt follows
from the seed alone: the counts are exact, worked out beside it by the same faults.
"""

import math
from contextlib import contextmanager

import pytest
from support.feeding import MINUTE, STREAM, T0, feeder
from support.waiting import until

import shmfeed
from shmfeed.bar import (
    AFTER_GAP,
    CLOSED_BY_NEXT,
    CLOSED_BY_VENUE,
    REVISED,
    UNCONFIRMED,
)
from shmfeed.simulator import STEPS, Venue, verify
from shmfeed.simulator.binance import binance_frames
from shmfeed.simulator.faults import ConnectionFaults, parse_faults
from shmfeed.simulator.market import bar_state
from shmfeed.simulator.wealthai import wealthai_frames

SEED = 5
BARS = 60
TOLD = (2, 5, STEPS)  # updates of a bar that are pushed
BOTH = pytest.mark.parametrize("protocol", ["wealthai", "binance"])
COUNTERS = ("malformed", "ignored", "late", "gaps", "duplicates", "revisions")


def encode(protocol):
    if protocol == "binance":
        return lambda key, states: binance_frames(key, states, combined=True)
    return lambda key, states: wealthai_frames(key, states, closed_flag=True)


ROWS = [
    bar_state(SEED, STREAM, T0 + bar * MINUTE, step, T0 + bar * MINUTE)
    for bar in range(BARS)
    for step in TOLD
]


def sent(protocol, faults, rows=ROWS):
    """Return the frames of these rows as the venue's first connection sends them."""
    one = ConnectionFaults(parse_faults(faults), SEED, 1, encode(protocol))
    return [frame for row in rows for frame in one.frames(STREAM, [row])]


@contextmanager
def fed(feed_name, protocol, faults, **settings):
    """Yield a venue with faults, its feed and a ring."""
    with Venue(protocol=protocol, speed=None, seed=SEED, faults=faults) as venue:
        with feeder(
            feed_name, venue, protocol=protocol, market_type="spot", **settings
        ):
            with shmfeed.attach(feed_name) as feed:
                until(lambda: feed.status()["state"] == "connected")
                yield venue, feed, feed.ring(*STREAM)


def push(venue, bars=BARS):
    for bar in range(bars):
        for step in TOLD:
            assert venue.push_market(*STREAM, T0 + bar * MINUTE, step) == 1


def settled(feed, messages):
    """Return the status, once so many messages have been taken."""
    until(lambda: feed.status()["messages"] >= messages, what=f"{messages} messages")
    return feed.status()


def counts(status):
    """Return the counters that are not 0."""
    return {name: status[name] for name in COUNTERS if status[name]}


def check_rows(ring, count):
    """Check that all bars so far are there, in order, with the market's values."""
    rows = ring.snapshot(BARS)
    assert rows.open_time.tolist() == [T0 + n * MINUTE for n in range(count)]
    assert verify(SEED, *STREAM, rows) == 0
    assert set(rows["flags"].tolist()) == {CLOSED_BY_VENUE}


# Legal, however odd


@BOTH
@pytest.mark.parametrize("name", ["fragments", "late", "duplicate", "reorder"])
def test_legal_faults_change_nothing(feed_name, protocol, name):
    with fed(feed_name, protocol, f"{name}:0.6") as (venue, feed, ring):
        push(venue)
        frames = sent(protocol, f"{name}:0.6")
        status = settled(feed, len(frames))
        last_is_held = name == "reorder" and len(frames) < len(ROWS)
        check_rows(ring, BARS - last_is_held)
        told = counts(status)
        if name in {"late", "duplicate"}:
            again = told.pop("duplicates")
            assert again > 10
            assert told in ({}, {"late": len(frames) - len(ROWS) - again})
        assert told == {}
        assert (status["reconnects"], status["state"]) == (0, "connected")


# Invalid bars are dropped


@BOTH
@pytest.mark.parametrize(
    "faults",
    ["malformed", "off-grid", "nan", "infinite", "garbage", "nan:0.5,garbage:0.5"],
)
def test_each_lie_is_counted_and_changes_nothing(feed_name, protocol, faults):
    with fed(feed_name, protocol, faults) as (venue, feed, ring):
        push(venue)
        frames = len(sent(protocol, faults))
        status = settled(feed, frames)
        assert counts(status) == {"malformed": frames - len(ROWS)}
        assert status["malformed"] > BARS / 2
        check_rows(ring, BARS)
        assert (status["reconnects"], status["state"]) == (0, "connected")


@BOTH
def test_a_revision_changes_its_row_and_reopens_none(feed_name, protocol):
    with fed(feed_name, protocol, "revise:0.5") as (venue, feed, ring):
        push(venue)
        frames = len(sent(protocol, "revise:0.5"))
        status = settled(feed, frames)
        revised = frames - len(ROWS)
        assert counts(status) == {"revisions": revised}
        rows = ring.snapshot(BARS)
        assert (rows["flags"] & REVISED > 0).sum() == revised > 0
        assert verify(SEED, *STREAM, rows) == revised  # the volume of the revision


@pytest.mark.parametrize("name", ["nan", "infinite"])
def test_control_unchecked_a_lie_becomes_a_row(feed_name, name, monkeypatch):
    monkeypatch.setattr("shmfeed.feeder.ledger.is_valid_bar", lambda event, ends: True)
    with fed(feed_name, "wealthai", name) as (venue, feed, ring):
        push(venue)
        until(lambda: ring.count == BARS)
        until(lambda: counts(feed.status()).get("revisions"))  # the truth, too late
        assert (ring.snapshot(BARS)["flags"] & REVISED).any()


def test_control_without_grace_a_close_out_of_order_costs_a_revision(feed_name):
    with fed(feed_name, "wealthai", "reorder:0.6", close_grace=0.0) as (venue, _, ring):
        push(venue)
        until(lambda: ring.count >= BARS - 1)
        rows = ring.snapshot(BARS)
        assert verify(SEED, *STREAM, rows) == (rows["flags"] & UNCONFIRMED > 0).sum()
        assert (rows["flags"] & REVISED > 0).sum() > 10


# Losses are reported


@BOTH
def test_a_lost_close_makes_an_unconfirmed_row(feed_name, protocol):
    faults = "lost-close:0.3"
    with fed(feed_name, protocol, faults, close_grace=0.2) as (venue, feed, ring):
        push(venue)
        lost = len(ROWS) - len(sent(protocol, faults))
        assert lost > 5
        until(lambda: ring.count >= BARS - 1)
        rows = ring.snapshot(BARS)
        doubtful = rows["flags"] == CLOSED_BY_NEXT | UNCONFIRMED
        certain = rows["flags"] == CLOSED_BY_VENUE
        assert (doubtful | certain).all()
        assert doubtful.sum() + (BARS - ring.count) == lost
        good = rows.open_time[certain], rows.values[:, certain]
        assert verify(SEED, *STREAM, good) == 0
        # Control: the flagged bar is not the final one.
        bad = rows.open_time[doubtful], rows.values[:, doubtful]
        assert verify(SEED, *STREAM, bad) == doubtful.sum()
        assert counts(feed.status()) == {}


@BOTH
def test_a_gap_is_counted_and_never_filled(feed_name, protocol):
    faults = "gap:0.3"
    with fed(feed_name, protocol, faults, close_grace=0.2) as (venue, feed, ring):
        push(venue)
        frames = b"".join(sent(protocol, faults))
        name = b'"t":' if protocol == "binance" else b'"open_time":'
        there = {row[0] for row in ROWS if name + b"%d" % row[0] in frames}
        until(lambda: ring.count == len(there), what="each bar that was sent")
        rows = ring.snapshot(BARS)
        assert set(rows.open_time.tolist()) == there
        assert verify(SEED, *STREAM, rows) == 0
        span = (rows.open_time[-1] - rows.open_time[0]) // MINUTE + 1
        status = feed.status()
        assert counts(status) == {"gaps": span - len(there)}
        assert status["streams"][0]["gaps"] == status["gaps"] > 5
        jumps = (rows.open_time[1:] - rows.open_time[:-1]) > MINUTE
        assert ((rows["flags"][1:] & AFTER_GAP > 0) == jumps).all()


def test_health_is_recovering_while_a_close_is_waited_for(feed_name):
    with fed(feed_name, "wealthai", "delay:600ms@0") as (venue, feed, ring):
        push(venue, 3)
        until(lambda: ring.status().health == "recovering", 5)
        assert ring.count == 0
        until(lambda: ring.count == 3, 5)  # within the grace: exact
        check_rows(ring, 3)
        assert ring.status().health == "live"
        assert counts(feed.status()) == {}


def test_a_close_that_comes_too_late_is_about_a_row(feed_name):
    faults = "delay:600ms@0"
    with fed(feed_name, "wealthai", faults, close_grace=0.1) as (venue, feed, ring):
        push(venue, 3)
        until(lambda: ring.count == 3, 5)
        assert ring.view(3)["flags"][0] == CLOSED_BY_NEXT | UNCONFIRMED
        until(lambda: feed.status()["revisions"] == 1, 5)
        until(lambda: ring.view(3)["flags"][0] == CLOSED_BY_VENUE | REVISED, 5)
        assert verify(SEED, *STREAM, ring.snapshot(3)) == 0


# The wire, lost in the middle


@BOTH
@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("cut:0.03", "the server closed the connection without a close frame|reset"),
        (
            "cut-inside:0.03",
            "the server closed the connection without a close frame|reset",
        ),
        ("noise:0.03", "protocol error"),
        ("truncated:0.03", "protocol error"),
        (
            "oversized:0.04",
            "a frame of 1099511627776 bytes; max_frame_bytes is 1048576",
        ),
        ("oversized:2MiB:0.04", "a frame of 2097152 bytes; max_frame_bytes"),
    ],
)
def test_a_broken_connection_is_left_without_a_loss(
    feed_name, caplog, protocol, name, error
):
    options = {"history": BARS, "start": T0 + BARS * MINUTE, "seed": SEED}
    with (
        Venue(protocol=protocol, speed=None, faults=name, **options) as venue,
        feeder(
            feed_name,
            venue,
            protocol=protocol,
            market_type="spot",
            max_reconnect_attempts=None,
            reconnect_delay_base=0.001,
            reconnect_delay_max=0.01,
        ),
        shmfeed.attach(feed_name) as feed,
    ):
        ring = feed.ring(*STREAM)
        until(lambda: ring.count == BARS, what="all of the history")
        check_rows(ring, BARS)
        until(lambda: feed.status()["state"] == "connected")
        status = feed.status()
        assert status["reconnects"] == venue.log.connections - 1 > 0
        assert any(words in caplog.text for words in error.split("|"))
        assert status["oversized"] == (
            status["reconnects"] if "oversized" in name else 0
        )
        assert status["gaps"] == status["revisions"] == 0
        assert status["streams"][0]["health"] == "live"
        assert math.isfinite(status["uptime"])


@BOTH
def test_bars_missed_without_a_history_are_counted(feed_name, protocol):
    with fed(feed_name, protocol, "", close_grace=0.2) as (venue, feed, ring):
        push(venue, 5)
        venue.push_market(*STREAM, T0 + 5 * MINUTE, 3)  # half a bar
        until(lambda: ring.count == 5 and ring.forming() is not None)
        assert venue.drop_connections() == 1
        until(lambda: feed.status()["reconnects"] == 1)
        for bar in (9, 10):
            assert venue.push_market(*STREAM, T0 + bar * MINUTE, STEPS) == 1
        until(lambda: ring.count == 8)
        rows = ring.snapshot(BARS)
        assert rows["flags"].tolist() == [
            *[CLOSED_BY_VENUE] * 5,
            CLOSED_BY_NEXT | UNCONFIRMED,  # it changed unseen
            CLOSED_BY_VENUE | AFTER_GAP,
            CLOSED_BY_VENUE,
        ]
        sure = rows["flags"] & UNCONFIRMED == 0
        assert verify(SEED, *STREAM, (rows.open_time[sure], rows.values[:, sure])) == 0
        assert counts(feed.status()) == {"gaps": 3}


def test_control_without_a_limit_a_huge_frame_swallows_the_next_ones(feed_name):
    options = {"history": BARS, "start": T0 + BARS * MINUTE, "seed": SEED}
    with (
        Venue(speed=None, faults="oversized:2MiB:0.1", **options) as venue,
        feeder(feed_name, venue, max_frame_bytes=1 << 30),
        shmfeed.attach(feed_name) as feed,
    ):
        venue.wait_sent(BARS)
        with pytest.raises(AssertionError, match="not within"):
            until(lambda: feed.ring(*STREAM).count == BARS, timeout=0.5)
        status = feed.status()
        assert (status["oversized"], status["reconnects"]) == (0, 0)
