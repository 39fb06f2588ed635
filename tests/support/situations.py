"""The situations of docs/situations.md, made with real feeds.

Stream A 1h belongs to the feed that is looked at; stream B 1h of another feed is live
throughout. Bar i opens i hours after START. The venue's clock stands at half past the
hour after the newest bar, whatever this host's says.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Any

import wealthdata
from shmfeed.bar import POLLED, REVISED, UNCONFIRMED, StreamKey
from shmfeed.identity import FeedIdentity, make_identity
from shmfeed.memory.holes import HoleRecord
from shmfeed.ringbuf import RingWriter
from shmfeed.writer import FeedWriter, create

HOUR = 3_600_000
START = 1_704_067_200_000  # 2024-01-01, a Monday
KEY: StreamKey = ("A", "1h")
COMPANION = "B"
NEWEST = 5  # the newest bar of a whole ring
COUNT = 3
SPOT = make_identity("binance", "spot", ["venue.example"])
COINM = make_identity("binance", "coinm", ["venue.example"])
_SECOND_FEED = "other"
_HELD_ROWS, _GUARD = 8, 4

Arguments = dict[str, Any]
Make = Callable[["World"], Arguments]
SITUATIONS: dict[str, Make] = {}


def close_of(number: int, market: FeedIdentity = SPOT) -> float:
    """Return the close of bar `number`; each market has prices of its own."""
    return number + (100.0 if market is SPOT else 48_000.0)


def opens(number: int) -> int:
    return START + number * HOUR


def when(number: float) -> datetime:
    """Return the time, UTC, `number` hours after the first bar's close."""
    return datetime.fromtimestamp((START + (number + 1) * HOUR) / 1000, UTC)


def append(ring: RingWriter, *numbers: int, flags: int = 0, **more: Any) -> None:
    for number in numbers:
        ring.append(opens(number), *prices(number, **more), 1.0, money=1.0, flags=flags)


def prices(number: int, market: FeedIdentity = SPOT, final: bool = True) -> list[float]:
    close = close_of(number, market) if final else close_of(number, market) - 0.5
    return [close_of(number, market) - 1.0, close + 2.0, close - 2.0, close]


def context(*numbers: int, **more: Any) -> wealthdata.Context:
    bars = [
        {
            "open_time": opens(number),
            "close_time": opens(number + 1),
            **dict(zip(("open", "high", "low", "close"), prices(number), strict=True)),
            "volume": 1.0,
        }
        for number in numbers
    ]
    entry = {"symbol": KEY[0], "timeframe": KEY[1], "bars": bars}
    return wealthdata.Context([entry], **more)


class World:
    """The two feeds of a situation, kept alive by a thread.

    Attributes:
        name: The name of A's feed.
        feeder: Its writer, None before the feed exists and after the feeder's end.
        ring: The writing half of A, or of the symbol that a wait is for.
        held: A frame that a situation keeps.
        companion: The writing half of B.
        written: B as `wait_bar` is given it.
    """

    def __init__(self, name: str, exits: ExitStack) -> None:
        self.name = name
        self._exits = exits
        self._alive: list[FeedWriter] = []
        self._lock = threading.Lock()
        other = self.create(f"{name}-{_SECOND_FEED}")
        self.companion = other.add_stream(COMPANION, "1h")
        append(self.companion, *range(NEWEST + 1))
        self.written = f"{COMPANION}@{other.name}"
        self.feeder: FeedWriter | None = None
        self.ring: RingWriter | None = None
        self.held: object = None

    def create(self, name: str, identity: FeedIdentity = SPOT) -> FeedWriter:
        feeder = create(
            name,
            history=_HELD_ROWS,
            guard=_GUARD,
            max_streams=4,
            identity=identity,
            replace=True,
        )
        self._exits.callback(feeder.close, unlink=True)
        self.set_venue_time(feeder, NEWEST + 0.5)
        with self._lock:
            self._alive.append(feeder)
        return feeder

    def set_venue_time(self, feeder: FeedWriter, number: float) -> None:
        """Set the venue's clock to a time in hours after the first bar's close."""
        now = when(number).timestamp()
        feeder.set_clock_offset((now - time.time()) * 1000)

    def open(self, *numbers: int, identity: FeedIdentity = SPOT) -> RingWriter:
        """Create A's feed with these bars of A."""
        self.feeder = self.create(self.name, identity)
        self.ring = self.feeder.add_stream(*KEY)
        append(self.ring, *numbers, market=identity)
        return self.ring

    def live(self) -> RingWriter:
        """Create A's feed as it should be."""
        return self.open(*range(NEWEST + 1))

    def end(self) -> None:
        """End A's feeder as a crash does: its segment stays."""
        assert self.feeder is not None
        with self._lock:
            self._alive.remove(self.feeder)
        self.feeder.close()
        self.feeder = None

    def beat(self) -> None:
        with self._lock:
            for feeder in self._alive:
                feeder.tick()
                feeder.beat_alive()


@contextmanager
def world(name: str) -> Iterator[World]:
    """Yield a world whose feeders beat until the end."""
    end = threading.Event()
    with ExitStack() as exits:
        made = World(name, exits)

        def beat() -> None:
            while not end.wait(0.2):
                made.beat()

        thread = threading.Thread(target=beat)
        thread.start()
        exits.callback(thread.join)
        exits.callback(end.set)
        yield made


def situation(text: str) -> Callable[[Make], Make]:
    def add(make: Make) -> Make:
        SITUATIONS[text] = make
        return make

    return add


@situation("nothing is wrong")
def _(world: World) -> Arguments:
    world.live()
    return {}


# The feed.


@situation("no feed has this name, and there is no context")
def _(world: World) -> Arguments:
    return {}


@situation("the feed's name is misspelt, and a context has old bars")
def _(world: World) -> Arguments:
    world.live()
    wealthdata.set_context(context(*range(NEWEST + 1)))
    return {"feed": f"{world.name}x"}


@situation("the feed was read, and is now one of another identity")
def _(world: World) -> Arguments:
    world.live()
    wealthdata.get_price(*KEY[:1], frequency="1h")
    world.end()
    world.open(*range(NEWEST + 1), identity=COINM)
    return {}


@situation("the feed has another identity than `expect` names")
def _(world: World) -> Arguments:
    world.live()
    wealthdata.use(expect="binance/coinm")
    return {}


@situation("the feeder is dead")
def _(world: World) -> Arguments:
    world.live()
    world.end()
    return {}


@situation("the stream is silent beyond its limit")
def _(world: World) -> Arguments:
    world.live()
    world.feeder.set_silence(KEY, 1e-9)
    return {}


@situation("the connection is away")
def _(world: World) -> Arguments:
    world.live()
    world.feeder.mark_connection([KEY], is_connected=False)
    return {}


@situation("the connection is there, and the warm-up is under way")
def _(world: World) -> Arguments:
    world.live()
    world.feeder.explain(KEY, "warming", "3 of 8 bars")
    return {}


@situation("the socket is silent, and bars come by REST")
def _(world: World) -> Arguments:
    ring = world.open(*range(NEWEST))
    append(ring, NEWEST, flags=POLLED)
    world.feeder.mark_connection([KEY], is_connected=False)
    world.feeder.explain(KEY, "polled", "bars come by REST")
    return {}


@situation("no bar has come since the stream was subscribed")
def _(world: World) -> Arguments:
    world.open()
    return {}


@situation("the venue says that the symbol does not trade")
def _(world: World) -> Arguments:
    world.live()
    world.feeder.explain(KEY, "closed", "since 2024-01-01")
    return {}


@situation("the venue's clock has passed the close of a bar that is not there")
def _(world: World) -> Arguments:
    world.live()
    world.set_venue_time(world.feeder, NEWEST + 1.5)
    return {}


@situation("a list names a feed that this host does not have")
def _(world: World) -> Arguments:
    world.live()
    return {"security": [KEY[0], f"{KEY[0]}@{world.name}x"]}


# The stream and its rows.


@situation("the feed does not carry the symbol, and there is no context")
def _(world: World) -> Arguments:
    world.live()
    return {"security": "ABSENT"}


@situation("the feed does not carry the symbol, and a context has old bars")
def _(world: World) -> Arguments:
    world.create(world.name).add_stream("OTHER", "1h")
    wealthdata.set_context(context(*range(NEWEST + 1)))
    return {}


@situation("a list names a symbol that the feed does not carry")
def _(world: World) -> Arguments:
    world.live()
    return {"security": [KEY[0], "ABSENT"]}


@situation("the stream has no closed bar, only a forming one")
def _(world: World) -> Arguments:
    world.open().update_forming(opens(NEWEST), *prices(NEWEST), 1.0)
    return {}


@situation("the stream has fewer bars than asked for")
def _(world: World) -> Arguments:
    world.open(NEWEST - 1, NEWEST)
    return {}


@situation("a bar is missing between the rows")
def _(world: World) -> Arguments:
    world.open(0, 1, 2, 3, NEWEST)
    return {}


@situation("a bar is missing that the venue does not have either")
def _(world: World) -> Arguments:
    world.open(0, 1, 2, 3, NEWEST)
    hole = HoleRecord(opens(4), opens(4), 1, "none_at_venue")
    world.feeder.set_holes(KEY, [hole])
    return {}


@situation("the newest row is not known to be final")
def _(world: World) -> Arguments:
    append(world.open(*range(NEWEST)), NEWEST, flags=UNCONFIRMED, final=False)
    return {}


@situation("a row was corrected after it had been published")
def _(world: World) -> Arguments:
    append(world.open(*range(NEWEST)), NEWEST, flags=REVISED)
    return {}


@situation("rows of a held frame were overwritten; its `valid` is False now")
def _(world: World) -> Arguments:
    ring = world.open(*range(-20, NEWEST - 12))
    world.held = wealthdata.get_price(*KEY[:1], count=COUNT, frequency="1h")
    append(ring, *range(NEWEST - 12, NEWEST + 1))
    assert not world.held.attrs["shmfeed"].valid
    return {}


@situation("`include_now=True` gives the forming bar as the last row")
def _(world: World) -> Arguments:
    ring = world.live()
    ring.update_forming(opens(NEWEST + 1), *prices(NEWEST + 1), 1.0)
    return {"include_now": True}


@situation("a list with `align=True`, one symbol of which lags by a bar")
def _(world: World) -> Arguments:
    world.live()
    world.ring = world.feeder.add_stream("LATE", "1h")
    append(world.ring, *range(NEWEST))
    return {"security": [KEY[0], "LATE"], "align": True}


@situation("the feed carries a shorter timeframe alone")
def _(world: World) -> Arguments:
    world.live()
    return {"frequency": "2h"}


# Contexts.


@situation("this host has no feed, and a context has old bars")
def _(world: World) -> Arguments:
    wealthdata.set_context(context(*range(NEWEST + 1)))
    return {}


@situation("a context has the bars before the ring's first")
def _(world: World) -> Arguments:
    world.open(NEWEST)
    wealthdata.set_context(context(*range(NEWEST + 1)))
    return {}


@situation("a context ends before the bars that adjoin the ring's first")
def _(world: World) -> Arguments:
    world.open(NEWEST)
    wealthdata.set_context(context(*range(NEWEST - 2)))
    return {}


@situation("the strategy's clock, `current_dt`, is five hours late")
def _(world: World) -> Arguments:
    ring = world.open(*range(-4, NEWEST + 1))
    assert ring is not None
    wealthdata.set_context(wealthdata.Context(current_dt=when(NEWEST - 5)))
    return {}


@situation("a backtest's context is in force")
def _(world: World) -> Arguments:
    world.live()
    run_params = {"type": "backtest"}
    made = context(*range(4), current_dt=when(3), run_params=run_params)
    wealthdata.set_context(made)
    return {}
