"""A feed of given bars, which this process writes."""

import itertools
import os
import time
from collections.abc import Iterable, Sequence
from typing import Self

from conformance.market import FormingBar, GivenBar

from shmfeed.identity import make_identity
from shmfeed.ringbuf import RingWriter
from shmfeed.segment.mapping import place
from shmfeed.writer import FeedWriter, create

IDENTITY = make_identity("binance", "spot", ["venue.example"])
_numbers = itertools.count()

Key = tuple[str, str]  # symbol, timeframe


def key_of(bar: GivenBar) -> Key:
    """Return the stream of a bar."""
    return bar.symbol, bar.timeframe


class GivenFeed:
    """A feed with the streams of these bars, and none of the bars yet.

    Attributes:
        name: The feed's name.
    """

    def __init__(self, bars: Sequence[GivenBar]) -> None:
        keys = dict.fromkeys(map(key_of, bars))
        self.name = f"conformance-{os.getpid()}-{next(_numbers)}"
        self._writer: FeedWriter = create(
            self.name,
            history=len(bars),
            guard=1,
            max_streams=len(keys),
            identity=IDENTITY,
        )
        self._rings: dict[Key, RingWriter] = {}
        self._had: dict[Key, int] = {}
        for key in keys:
            self._rings[key] = self._writer.add_stream(*key)
        self._writer.set_state("connected")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close(unlink=True)
        # No other feed has this name: thousands of runs would leave thousands of files.
        place(self.name).lock.unlink(missing_ok=True)

    def append(self, bars: Iterable[GivenBar]) -> None:
        """Append those of these bars that are not there yet."""
        for bar in bars:
            key = key_of(bar)
            if bar.close_time > self._had.get(key, 0):
                self._had[key] = bar.close_time
                self._rings[key].append(
                    bar.open_time, *bar[4:9], money=bar.money, flags=bar.flags
                )

    def set_forming(self, forming: Sequence[FormingBar], moment: int) -> None:
        """Set the bars that are unfinished at a moment, ms UTC."""
        for at, bar in forming:
            if at <= moment < bar.close_time:
                self._rings[key_of(bar)].update_forming(bar.open_time, *bar[4:9])

    def set_trading(self, key: Key, trades: bool) -> None:
        """Set whether the venue says that a symbol trades."""
        reason, text = ("", "") if trades else ("closed", "the symbol does not trade")
        self._writer.explain(key, reason, text)

    def set_time(self, moment: int) -> None:
        """Set the venue's clock, and beat as a feeder does."""
        self._writer.set_clock_offset(moment - time.time() * 1000)
        self.beat()

    def beat(self) -> None:
        """Beat as a feeder does."""
        self._writer.tick()
