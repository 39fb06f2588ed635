"""Malformed messages, from a codec through the intake into a ring in /dev/shm.

No exception leaves, each message is in one account, the ring holds nothing but bars,
and nothing is kept.
"""

import ctypes
import gc
import json
import math
import resource
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support import forks, spoiling
from support.recordings import frames, klines, recording

import shmfeed
from shmfeed.bar import close_time, on_grid
from shmfeed.codecs import get_codec, wealthai
from shmfeed.codecs.interface import BarEvent, Event, Heartbeat
from shmfeed.feeder import intake, ledger, throttled
from shmfeed.feeder.intake import TICK_SECONDS, Intake
from shmfeed.layout import COUNTERS, H_COUNTERS

BATCH = 25  # messages of one example, which all reach the same feed
EXAMPLES = int(400 * forks.SCALE)
MUTANT_EXAMPLES = 150
GROWTH = 1 << 20  # bytes
LIBC = ctypes.CDLL(None)
REJECTED = ("malformed", "ignored", "late", "duplicates", "revisions", "unsubscribed")
STREAMS = [(symbol, "1m") for symbol in spoiling.SYMBOLS]
MESSAGES: dict[str, Callable[[int], list[spoiling.Pairs]]] = {
    "wealthai": spoiling.wealthai_messages,
    "binance": spoiling.binance_messages,
}


class Pipeline:
    """A codec, an intake and its feed, with a clock of the test's own."""

    def __init__(self, feed: str, protocol: str, streams=STREAMS) -> None:
        self.codec = get_codec(protocol, "testnet" if protocol == "binance" else "")
        self.writer = shmfeed.create(feed, 200, 16, max(4, len(streams)))
        self.intake = Intake(self.writer, 2.0, self.codec.flags_closed)
        self.intake.set_streams(streams)
        self.intake.connected()
        self.feed = shmfeed.attach(feed)
        self.words = self.feed.current().words.ints
        self.accounts = dict.fromkeys((*REJECTED, "heartbeats", "accepted", "sent"), 0)

    def counters(self) -> dict[str, int]:
        values = self.words[H_COUNTERS : H_COUNTERS + len(COUNTERS)].tolist()
        return dict(zip(COUNTERS, values, strict=True))

    def take(self, data: bytes) -> None:
        """Send one message, and check which counter has it."""
        before = self.counters()
        events = self.codec.decode(data)
        self.intake.take(events)
        after = self.counters()
        changed = {name: after[name] - before[name] for name in REJECTED}
        (event,) = events
        assert after["messages"] == before["messages"] + 1
        if isinstance(event, Heartbeat):
            account = "heartbeats"
        else:
            account = next((name for name in REJECTED if changed[name]), "accepted")
        in_one = 0 if account in ("heartbeats", "accepted") else 1
        assert sum(changed.values()) == in_one, (data, changed)
        assert in_one or isinstance(event, BarEvent | Heartbeat)
        assert (account == "unsubscribed") == self.is_foreign(event)
        self.accounts[account] += 1
        self.accounts["sent"] += 1

    def is_foreign(self, event: Event) -> bool:
        streams = self.feed.streams()
        return isinstance(event, BarEvent) and (
            (event.symbol, event.timeframe) not in streams
        )

    def check(self) -> None:
        """Check that each message was counted, and that the ring has only bars."""
        counters, accounts = self.counters(), self.accounts
        accepted = accounts["accepted"] + accounts["heartbeats"]
        rejected = sum(counters[name] for name in REJECTED)
        assert accepted + rejected == counters["messages"] == accounts["sent"]
        assert counters["bars"] <= accounts["accepted"]
        for symbol, timeframe in self.feed.streams():
            ring = self.feed.ring(symbol, timeframe)
            rows = ring.snapshot(200, include_now=True)
            opens = rows.open_time.tolist()
            assert opens == sorted(set(opens))
            for number in range(len(rows)):
                check_bar(rows.bar(number), timeframe)

    def close(self) -> None:
        self.feed.close()
        self.words = None
        self.writer.close(unlink=True)


def check_bar(bar: shmfeed.Bar, timeframe: str) -> None:
    assert on_grid(bar.open_time, timeframe)
    assert bar.close_time == close_time(bar.open_time, timeframe)
    assert all(map(math.isfinite, bar[2:7]))
    assert bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high
    assert bar.volume >= 0
    assert math.isnan(bar.money) or 0 <= bar.money < math.inf


@contextmanager
def pipeline(*arguments) -> Iterator[Pipeline]:
    made = Pipeline(*arguments)
    try:
        yield made
    finally:
        made.close()


def batches(makers: int, numbers: int):
    spoilt = st.tuples(
        st.integers(0, makers - 1), st.integers(0, numbers - 1), spoiling.mutations
    )
    # Not one_of, which would choose among all that `foreign` may be.
    kinds = st.integers(0, 9)
    message = kinds.flatmap(lambda kind: spoilt if kind else spoiling.foreign)
    return st.lists(message, min_size=BATCH, max_size=BATCH)


@pytest.fixture
def clock(monkeypatch):
    """Return a clock that advances between batches only. Their log is ignored."""
    monkeypatch.setattr(throttled.log, "disabled", True)
    times = [1000.0]
    monkeypatch.setattr(intake, "boot_seconds", lambda: times[0])
    return times


def fuzz(
    feed: str, protocol: str, clock, examples: int, *phases: Phase
) -> tuple[dict[str, int], list]:
    make = MESSAGES[protocol]
    known = [make(number) for number in range(8)]
    accounts: dict[str, int] = {}
    seen: list[list[bytes]] = []

    @settings(
        max_examples=examples,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        phases=phases or (Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
    )
    @given(batches(len(known[0]), len(known)))
    def run(batch):
        sent = [
            one
            if isinstance(one, bytes)
            else spoiling.spoil(known[one[1]][one[0]], one[2])
            for one in batch
        ]
        with pipeline(feed, protocol) as pipe:
            for data in sent:
                pipe.take(data)
            clock[0] += 3.0 + TICK_SECONDS
            pipe.intake.tick()
            pipe.check()
            for name, count in pipe.accounts.items():
                accounts[name] = accounts.get(name, 0) + count
        seen.append(sent)

    run()
    return accounts, seen


@pytest.mark.parametrize("protocol", MESSAGES)
def test_no_message_does_harm(feed_name, protocol, clock):
    accounts, seen = fuzz(feed_name, protocol, clock, EXAMPLES)
    print(protocol, accounts)
    assert accounts["sent"] >= EXAMPLES * BATCH
    assert accounts["malformed"] > accounts["sent"] / 4
    assert accounts["accepted"] > accounts["sent"] / 50
    for name in ("late", "ignored", "unsubscribed"):
        assert accounts[name]
    check_growth(feed_name, protocol, [one for batch in seen for one in batch])


def growth(feed: str, protocol: str, messages: list[bytes], keep: Callable) -> int:
    """Return the bytes that a repetition of all of them adds to this process."""
    with pipeline(feed, protocol) as pipe:
        sizes = []
        for _ in range(3):
            for data in messages:
                events = pipe.codec.decode(data)
                pipe.intake.take(events)
                keep(data, events)
            sizes.append(resident_bytes())
    return sizes[2] - sizes[1]


def resident_bytes() -> int:
    """Return the bytes that this process has in memory, without its free ones.

    Free memory that stays resident would hide the growth of a process that keeps
    messages: new objects take it first.
    """
    gc.collect()
    if hasattr(LIBC, "malloc_trim"):  # glibc's
        LIBC.malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def check_growth(feed: str, protocol: str, messages: list[bytes]) -> None:
    grown = growth(feed, protocol, messages, lambda data, events: None)
    kept: list[object] = []
    control = growth(
        feed, protocol, messages, lambda *one: kept.append([*one, bytes(2000)])
    )
    print(
        f"{len(messages)} messages: {grown} bytes, a process that keeps them {control}"
    )
    assert grown <= GROWTH < control


def let_through(monkeypatch):
    """Let the ledger accept every value."""
    monkeypatch.setattr(ledger, "is_valid_bar", lambda event, ends: ends != 0)


def raise_it(monkeypatch):
    """Let the codec miss one error of its decoder."""
    monkeypatch.setattr(wealthai, "UNREADABLE", (RecursionError,))


def count_twice(monkeypatch):
    """Let the intake count a malformed message twice."""
    count = shmfeed.writer.FeedWriter.count

    def count_both(writer, name, n=1):
        count(writer, name, n)
        if name == "malformed":
            count(writer, "late", n)

    monkeypatch.setattr(shmfeed.writer.FeedWriter, "count", count_both)


def lose_some(monkeypatch):
    """Let the intake miss the bars of unsubscribed streams."""
    count = shmfeed.writer.FeedWriter.count

    def count_most(writer, name, n=1):
        if name != "unsubscribed":
            count(writer, name, n)

    monkeypatch.setattr(shmfeed.writer.FeedWriter, "count", count_most)


@pytest.mark.parametrize("mutant", [let_through, raise_it, count_twice, lose_some])
def test_control_a_wrong_pipeline_is_noticed(feed_name, clock, monkeypatch, mutant):
    mutant(monkeypatch)
    with pytest.raises((AssertionError, ValueError)) as caught:
        fuzz(feed_name, "wealthai", clock, MUTANT_EXAMPLES, Phase.generate)
    traceback.clear_frames(caught.value.__traceback__)  # they have mappings


@pytest.mark.parametrize("name", ["binance-spot.frames", "binance-usdm.frames"])
def test_recorded_traffic_spoilt(feed_name, name, clock, rng):
    path = recording(name)
    recorded = [spoiling.pairs_of(frame) for frame in frames(path)][:2000]
    streams = sorted({(kline["s"], "1m") for kline in klines(path)})
    how = [*dict.fromkeys(spoiling.HOW)]
    with pipeline(feed_name, "binance", streams) as pipe:
        for number, message in enumerate(recorded):
            pipe.take(spoiling.dump(message).encode())
            for _ in range(2):
                kind, place, odd = rng.integers(0, 1 << 16, 3).tolist()
                odd %= len(spoiling.ODD)
                mutation = spoiling.Mutation(how[kind % len(how)], place, odd)
                pipe.take(spoiling.spoil(message, [mutation]))
            if number % 50 == 0:
                clock[0] += 0.5
                pipe.intake.tick()
        pipe.check()
        print(path.name, pipe.accounts)
        assert pipe.accounts["accepted"]
        assert pipe.accounts["malformed"]
        assert json.dumps(pipe.feed.status())
