"""A process reads one market under a feed's name: the one it read first, or expects."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import Any

import pytest
from support.feeding import feeder
from support.layouts import old_feed
from support.numbered_bars import SYMBOL, opens
from support.sleeping import InThread
from support.waiting import until

import wealthdata
from shmfeed.errors import (
    BadArgumentError,
    FeedChangedError,
    NoDataError,
    StreamNotFoundError,
)
from shmfeed.identity import FeedIdentity, make_identity
from shmfeed.layout import H_NOTE, NOTE_WORDS
from shmfeed.memory.note import pack_note
from shmfeed.memory.words import Latch
from shmfeed.simulator import Venue
from shmfeed.writer import FeedWriter, create
from wealthdata import attachment, expectation, get_price, wait_bar
from wealthdata.awaited_stream import AwaitedStream

pytest_plugins = ["support.strategy_process"]
pytestmark = pytest.mark.filterwarnings("ignore::wealthdata.StaleFeedWarning")

SPOT = make_identity("binance", "spot", ["a.com", "mirror.com"])
MIRROR = make_identity("binance", "spot", ["mirror.com", "c.com"])
FAR = make_identity("binance", "spot", ["c.com"])
USDM = make_identity("binance", "usdm", ["b.com"])
HOUSE = make_identity("wealthai", "spot", ["a.com"])
PAIR = [SYMBOL, "ETHUSDT"]
PRICES = {SPOT: 100.0, MIRROR: 101.0, FAR: 102.0, USDM: 48_000.0, HOUSE: 7.0, None: 5.0}


@contextmanager
def feeding(
    name: str, identity: FeedIdentity | None, unlink: bool = True
) -> Iterator[FeedWriter]:
    """Write a feed of this identity, whose price tells it."""
    more: dict[str, Any] = {"identity": identity, "replace": True}
    streams = [(symbol, "1h") for symbol in PAIR]
    with create(name, 100, 16, 4, streams=streams, **more) as writer:
        for symbol in PAIR:
            ring = writer.add_stream(symbol, "1h")
            ring.append(opens(ring.reader.count), *[PRICES[identity]] * 4, 1)
        yield writer
        writer.close(unlink=unlink)


def newest(**given: Any) -> float:
    return float(get_price(SYMBOL, **given)["close"].iloc[-1])


Read = Callable[[str], Any]
READS: dict[str, Read] = {
    "one": lambda _: get_price(SYMBOL),
    "a list of one": lambda _: get_price([SYMBOL]),
    "a list": lambda _: get_price([SYMBOL, "ETHUSDT"]),
    "wide": lambda _: get_price([SYMBOL, "ETHUSDT"], wide=True),
    "aligned": lambda _: get_price([SYMBOL, "ETHUSDT"], align=True),
    "a copy": lambda _: get_price(SYMBOL, copy=True),
    "integers": lambda _: get_price(SYMBOL, fields=["open_time"]),
    "with the forming bar": lambda _: get_price(SYMBOL, include_now=True),
    "a range": lambda _: get_price(SYMBOL, start_date=opens(0)),
    "by name": lambda name: get_price(SYMBOL, feed=name),
    "by @": lambda name: get_price(f"{SYMBOL}@{name}"),
    "a list by @": lambda name: get_price([f"{SYMBOL}@{name}", "ETHUSDT"]),
    "by a context": lambda _: wealthdata.Context().history(SYMBOL, 5, "1h"),
    "rolled up": lambda _: get_price(SYMBOL, frequency="2h"),
    "a list, rolled up": lambda _: get_price(PAIR, frequency="2h"),
    "wide, rolled up": lambda _: get_price(PAIR, frequency="2h", wide=True),
    "aligned, rolled up": lambda _: get_price(PAIR, frequency="2h", align=True),
    "wait_bar": lambda _: wait_bar(SYMBOL, "1h", timeout=0),
    "get_bars": lambda _: wealthdata.get_bars(SYMBOL, 5),
    "get_bars without pandas": lambda _: wealthdata.get_bars(SYMBOL, 5, df=False),
    "history": lambda _: wealthdata.history(5, "1h", security_list=PAIR),
    "attribute_history": lambda _: wealthdata.attribute_history(SYMBOL, 5, "1h"),
    "get_current_data": lambda _: wealthdata.get_current_data()[SYMBOL].last_price,
    "get_all_securities": lambda _: wealthdata.get_all_securities(),
    "get_trade_days": lambda _: wealthdata.get_trade_days(),
    "normalize_code": lambda _: wealthdata.normalize_code("btcusdt"),
    "get_all_symbols": lambda _: wealthdata.ContextDataAdapter(
        wealthdata.Context()
    ).get_all_symbols(),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_feed_of_another_market_is_refused_until_it_is_chosen(
    strategy: str, read: Read
) -> None:
    with feeding(strategy, SPOT):
        for _ in range(3):  # the general read, the prepared one, the C core's
            read(strategy)
        held = get_price(SYMBOL)
    with feeding(strategy, USDM):
        for _ in range(3):
            with pytest.raises(FeedChangedError) as caught:
                read(strategy)
            assert str(SPOT) in str(caught.value)
            assert str(USDM) in str(caught.value)
        assert held["close"].tolist() == [100.0]
        assert held.attrs["shmfeed"].valid
        wealthdata.use(feed=strategy)
        read(strategy)
        assert newest() == 48_000.0
        assert held["close"].tolist() == [100.0]


# The identities that a feed has one after the other, the one to which it is bound where
# that refuses the last, and whether a segment was removed before its successor came.
CHANGES = [
    ([SPOT, MIRROR], None, True),
    ([SPOT, MIRROR], None, False),
    ([SPOT, MIRROR, SPOT], None, True),
    ([None, SPOT], None, True),  # written through `create`, and by a feeder later
    ([None, SPOT], None, False),
    ([None, None], None, True),
    ([None, SPOT, USDM], SPOT, True),
    ([None, SPOT, USDM], SPOT, False),
    ([None, SPOT, None], SPOT, True),
    ([SPOT, None], SPOT, True),
    ([SPOT, HOUSE], SPOT, True),
    ([SPOT, HOUSE], SPOT, False),
    ([SPOT, FAR], SPOT, True),
    ([SPOT, MIRROR, FAR], SPOT, True),
    ([SPOT, MIRROR, FAR], SPOT, False),
]


@pytest.mark.parametrize(("identities", "bound", "unlink"), CHANGES)
def test_a_feed_is_bound_to_its_first_identity(
    strategy: str,
    identities: list[FeedIdentity | None],
    bound: FeedIdentity | None,
    unlink: bool,
) -> None:
    """One host in common is enough, and a feed without an identity binds nothing."""
    *earlier, last = identities
    for identity in earlier:
        with feeding(strategy, identity, unlink):
            for _ in range(3):
                assert newest() == PRICES[identity]
    with feeding(strategy, last):
        for _ in range(3):
            if bound is None:
                assert newest() == PRICES[last]
            else:
                with pytest.raises(FeedChangedError, match=str(bound)):
                    newest()


def test_a_backtest_does_not_mind_what_has_become_of_the_feed(strategy: str) -> None:
    reads = [READS[name] for name in ("one", "a list of one", "a list", "a range")]
    with feeding(strategy, SPOT):
        for _ in range(3):
            for read in reads:
                read(strategy)
    prices = dict.fromkeys(("open", "high", "low", "close", "volume"), 3.0)
    bar = {"open_time": opens(0), "close_time": opens(1), **prices}
    wealthdata.set_context(
        wealthdata.Context(
            [{"symbol": s, "timeframe": "1h", "bars": [bar]} for s in PAIR],
            run_params={"type": "backtest"},
        )
    )
    with feeding(strategy, USDM):
        for read in reads:
            assert set(read(strategy)["close"]) == {3.0}


def test_a_feed_is_read_again_once_the_first_market_is_back(strategy: str) -> None:
    with feeding(strategy, SPOT):
        assert newest() == 100.0
    with feeding(strategy, USDM), pytest.raises(FeedChangedError):
        newest()
    with feeding(strategy, MIRROR):
        assert newest() == 101.0


def test_a_sleeping_wait_ends_when_another_market_takes_the_name(
    strategy: str,
) -> None:
    with feeding(strategy, SPOT, unlink=False):
        feed = attachment.attached_feed()
        assert feed is not None
        ring = feed.ring((SYMBOL, "1h"))
        sleeper = InThread(wait_bar, SYMBOL, "1h", timeout=30).asleep(ring)
    with feeding(strategy, USDM), pytest.raises(FeedChangedError):
        sleeper.result()


@pytest.mark.parametrize("checked", [True, False])
def test_a_wait_hands_over_no_bar_of_another_market(
    strategy: str, monkeypatch: pytest.MonkeyPatch, checked: bool
) -> None:
    """It takes the name between the search for the ring and the look at its bars.

    With the control: without the check of identities the bar is handed over.
    """
    if not checked:
        monkeypatch.setattr(expectation.Binding, "check", lambda *_given, **_more: None)
    original, others = AwaitedStream.look, ExitStack()

    def look(stream: AwaitedStream) -> None:
        if not begun:
            begun.append(others.enter_context(feeding(strategy, USDM)))
            ring = begun[0].add_stream(SYMBOL, "1h")
            ring.append(opens(1), *[PRICES[USDM]] * 4, 1)
        original(stream)

    begun: list[FeedWriter] = []
    with feeding(strategy, SPOT, unlink=False):
        assert wait_bar(SYMBOL, "1h", timeout=0) == ([], [SYMBOL])
    monkeypatch.setattr(AwaitedStream, "look", look)
    with others:
        if checked:
            with pytest.raises(FeedChangedError):
                wait_bar(SYMBOL, "1h", timeout=0)
        else:
            assert wait_bar(SYMBOL, "1h", timeout=0) == ([SYMBOL], [])


def test_feeders_of_two_markets_take_turns_under_one_name(strategy: str) -> None:
    """Real feeders, of the local venue; the second one drops the bars of the first."""
    with Venue(speed=None, symbols=["BTCUSDT"]) as venue:

        def run(**market: Any) -> AbstractContextManager[Any]:
            return feeder(strategy, venue, resolutions=["1h"], **market)

        def close(number: int, price: float) -> None:
            until(lambda: shown(number, price))

        def shown(number: int, price: float) -> bool:
            # A venue says nothing again to a client that comes later.
            venue.push_bar(SYMBOL, "1h", opens(number), 1, 1e6, 1, price, closed=True)
            with suppress(NoDataError, StreamNotFoundError):
                return price in get_price(SYMBOL)["close"].tolist()
            return False

        with run():
            close(0, 100.0)
        with run():  # the same one, restarted
            close(1, 101.0)
        with run(market_type="usdm"):
            for _ in range(3):
                with pytest.raises(FeedChangedError) as caught:
                    newest()
                for market in ("binance-testnet", "usdm"):
                    assert f"wealthai/{market}/127.0.0.1" in str(caught.value)
            wealthdata.use(feed=strategy)
            close(0, 48_000.0)


EXPECTED = [
    ("binance/spot", SPOT, True),
    ("binance/spot", USDM, False),
    ("binance/usdm", SPOT, False),
    ("binance/spot", HOUSE, False),
    ("binance/spot", None, False),
    ("binance/spot/a.com", SPOT, True),
    ("binance/spot/MIRROR.com", SPOT, True),
    ("binance/spot/x.com,a.com", SPOT, True),
    ("binance/spot/c.com", SPOT, False),
    ("binance/spot/a.com", make_identity("binance", "spot", []), False),
]


@pytest.mark.parametrize("by", ["use", "environment"])
@pytest.mark.parametrize(("expect", "identity", "is_met"), EXPECTED)
def test_another_market_than_the_expected_one_is_refused_from_the_first_read_on(
    strategy: str,
    monkeypatch: pytest.MonkeyPatch,
    expect: str,
    identity: FeedIdentity | None,
    is_met: bool,
    by: str,
) -> None:
    if by == "use":
        wealthdata.use(expect=expect)
    else:
        monkeypatch.setenv("SHMFEED_EXPECT", expect)
    monkeypatch.setitem(PRICES, identity, 3.0)
    with feeding(strategy, identity):
        for read in READS.values():
            if is_met:
                read(strategy)
                continue
            with pytest.raises(FeedChangedError, match=f"expects {expect}") as caught:
                read(strategy)
            assert str(identity or "none, as rows") in str(caught.value)


def test_an_expectation_comes_into_force_on_a_feed_that_is_read(strategy: str) -> None:
    with feeding(strategy, SPOT):
        for _ in range(3):
            assert newest() == 100.0
        wealthdata.use(expect="binance/usdm")
        for read in READS.values():
            with pytest.raises(FeedChangedError, match="expects binance/usdm"):
                read(strategy)
        wealthdata.use(expect="binance/spot")
        for read in READS.values():
            read(strategy)


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_feeder_of_other_hosts_in_the_same_segment_is_not_the_expected_one(
    strategy: str, read: Read
) -> None:
    wealthdata.use(expect="binance/spot/a.com")
    with feeding(strategy, SPOT, unlink=False):
        for _ in range(3):
            read(strategy)
    with feeding(strategy, MIRROR):
        for _ in range(3):
            with pytest.raises(FeedChangedError, match=r"expects binance/spot/a\.com"):
                read(strategy)


def test_a_choice_of_a_feed_drops_the_expectation_of_use_alone(
    strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with feeding(strategy, SPOT):
        wealthdata.use(expect="binance/usdm")
        with pytest.raises(FeedChangedError):
            newest()
        wealthdata.use(feed=strategy)
        assert newest() == 100.0
        wealthdata.use(feed=strategy, expect="binance/spot")
        assert newest() == 100.0
        wealthdata.use(feed=strategy)
        monkeypatch.setenv("SHMFEED_EXPECT", "binance/usdm")
        for _ in range(2):  # who runs the strategy has said so, not the strategy
            with pytest.raises(FeedChangedError, match="SHMFEED_EXPECT"):
                newest()
            wealthdata.use(feed=strategy)
        wealthdata.use(expect="binance/spot")
        assert newest() == 100.0


@pytest.mark.parametrize(
    "value", ["binance", "binance/", "/usdm", "binance/ usdm", "a/b/c/d", "", 5, b"a/b"]
)
def test_an_expectation_that_is_none_is_refused(
    strategy: str, monkeypatch: pytest.MonkeyPatch, value: Any
) -> None:
    with pytest.raises(BadArgumentError, match=r"expect is .*protocol/market_type"):
        wealthdata.use(expect=value)
    if isinstance(value, str) and value:
        monkeypatch.setenv("SHMFEED_EXPECT", value)
        with pytest.raises(BadArgumentError, match="SHMFEED_EXPECT is"):
            get_price(SYMBOL)


def note_of(market: str) -> bytes:
    return pack_note({"protocol": "binance", "market_type": market})


def test_a_feeder_of_layout_1_is_known_by_its_note(strategy: str) -> None:
    with old_feed(strategy) as old:
        old.add(SYMBOL, "1h").append(opens(0), 1, 1, 1, 1, 1)
        note = Latch(old.words, H_NOTE, NOTE_WORDS)
        note.write(note_of("binance-spot"))
        for _ in range(3):
            assert newest() == 1.0
        note.write(note_of("binance-spot"))
        assert newest() == 1.0
        note.write(note_of("binance-usdm"))
        for _ in range(3):
            with pytest.raises(FeedChangedError, match="binance/usdm"):
                newest()


RACED: dict[str, Callable[[], Any]] = {
    "one": lambda: get_price(SYMBOL)["close"],
    "a copy": lambda: get_price(SYMBOL, copy=True)["close"],
    "a range": lambda: get_price(SYMBOL, start_date=opens(0))["close"],
    "a list": lambda: get_price(PAIR)["close"],
}


class Reader(threading.Thread):
    """A thread that repeats a read: the prices it has seen, the reads, the refused."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__()
        self.call = call
        self.prices: set[float] = set()
        self.reads = self.refused = 0
        self.ends = False
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.ends:
                try:
                    self.prices.update(self.call().tolist())
                except FeedChangedError:
                    self.refused += 1
                self.reads += 1
        except BaseException as error:  # noqa: BLE001 # the test looks at it
            self.failure = error


def read_while_recreated(strategy: str, rounds: int) -> list[Reader]:
    """Let threads read SPOT while it is recreated as USDM and again as SPOT."""
    with feeding(strategy, SPOT, unlink=False):
        newest()
        readers = [Reader(call) for call in RACED.values()]
        for reader in readers:
            reader.start()
    try:
        for _ in range(rounds):
            for identity in (USDM, SPOT):
                with feeding(strategy, identity, unlink=False):
                    seen = [reader.reads for reader in readers]
                    until(
                        lambda seen=seen: all(
                            reader.reads > before + 2 or reader.failure
                            for reader, before in zip(readers, seen, strict=True)
                        )
                    )
    finally:
        for reader in readers:
            reader.ends = True
        for reader in readers:
            reader.join()
    create(strategy, 100, 16, 4).close(unlink=True)
    assert [reader.failure for reader in readers] == [None] * len(readers)
    return readers


def test_threads_never_read_the_other_market_while_the_feed_is_recreated(
    strategy: str,
) -> None:
    for reader in read_while_recreated(strategy, 10):
        assert reader.prices == {100.0}
        assert reader.refused > 10


def test_without_the_check_they_read_it(
    strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: the test above can see it."""
    monkeypatch.setattr(expectation.Binding, "check", lambda *_, **__: None)
    for reader in read_while_recreated(strategy, 1):
        assert reader.prices == {100.0, 48_000.0}


def test_a_feed_that_is_chosen_at_each_bar_leaves_one_binding(strategy: str) -> None:
    with feeding(strategy, SPOT):
        for _ in range(3):
            for _ in range(3):
                wealthdata.use(feed=strategy)
            newest()
        assert [name for name, _ in attachment._bindings] == [strategy]


def test_the_identity_is_known(strategy: str) -> None:
    with feeding(strategy, SPOT):
        newest()
        feed = attachment.attached_feed()
        assert feed is not None
        assert feed.identity == "binance/spot/a.com,mirror.com"
