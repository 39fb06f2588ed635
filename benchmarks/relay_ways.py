"""Two ways to carry bars by Redis: flushes of an engine, and an entry a bar."""

import time
from contextlib import ExitStack
from typing import Any

import numpy as np
from relayed_feed import BEGIN, MINUTE, PRICES, TIMEFRAME, symbols_of

from shmfeed.identity import FeedIdentity
from shmfeed.layout import COLUMNS

FENCE = (
    "if redis.call('GET', KEYS[1]) ~= ARGV[1] then"
    " return redis.error_reply('FENCED') end"
    " return redis.call('XADD', KEYS[2], '*', unpack(ARGV, 2))"
)


def block_of(streams: int, bars: int, first: int) -> "np.ndarray[Any, Any]":
    """Return the rows of so many bars of each stream, sorted by stream."""
    opens = np.tile(BEGIN + MINUTE * (first + np.arange(bars)), streams)
    block = np.empty((len(COLUMNS), streams * bars))
    block[0], block[1] = opens.view(np.float64), (opens + MINUTE).view(np.float64)
    block[2:8] = np.array(PRICES)[:, None]
    block[8] = np.zeros(streams * bars, np.int64).view(np.float64)
    return block


class Flushes:
    """Our way: flushes of an engine, read by another one."""

    def __init__(self, port: int, streams: int, history: int, end: ExitStack) -> None:
        from shmfeed.relay.flush import Catalog, Flush, Head, RowsOfStreams, StreamMarks
        from shmfeed.relay.redis_connection import RedisTarget
        from shmfeed.relay.redis_engine import RedisEngine

        target = RedisTarget("127.0.0.1", port)
        self._leader, self._reader = (RedisEngine("flushes", target) for _ in range(2))
        end.callback(self._leader.close)
        end.callback(self._reader.close)
        self._streams, self._history = streams, history
        self._of, self._flush = RowsOfStreams, Flush
        now = time.time_ns() // 1_000_000
        assert self._leader.lead("bench:1", now)
        self._catalog = Catalog(
            tuple((symbol, TIMEFRAME) for symbol in symbols_of(streams)), history
        )
        identity = FeedIdentity("wealthai", "spot", ("bench",))
        self._leader.flush(
            Flush(
                now,
                self._rows(history, 0),
                whole=tuple(range(streams)),
                marks=dict.fromkeys(range(streams), StreamMarks()),
                catalog=self._catalog,
                head=Head(identity, "bench:1", now, "connected"),
                is_whole=True,
            )
        )
        self._next = history
        self._position = self._reader.join().position

    def prepare(self, bars: int) -> None:
        """Make the rows of the next flush."""
        self._prepared = self._rows(bars, self._next)
        self._next += bars

    def write(self) -> None:
        now = time.time_ns() // 1_000_000
        self._leader.flush(self._flush(now, self._prepared))

    def read(self) -> int:
        """Take the newest flush; return its number of rows."""
        entries = self._reader.follow(self._position, 1.0)
        self._position = entries[-1].position
        return sum(one.flush.closed.block.shape[1] for one in entries)

    def join(self) -> int:
        """Read the whole feed; return the number of rows."""
        catalog = self._reader.join().catalog
        return sum(len(one.numbers) for one in self._reader.rings(catalog))

    def _rows(self, bars: int, first: int) -> Any:
        numbers = np.repeat(np.arange(self._streams), bars)
        return self._of(numbers, block_of(self._streams, bars, first))


class Entries:
    """The rival: one entry a bar, its fields by their names."""

    def __init__(
        self, port: int, streams: int, *, fenced: bool, end: ExitStack
    ) -> None:
        import redis

        self._client = redis.Redis(port=port)
        end.callback(self._client.close)
        self._key = f"{{entries}}:{'fenced' if fenced else 'plain'}"
        self._fence = "{entries}:epoch"
        self._client.set(self._fence, "7")
        self._script = self._client.script_load(FENCE) if fenced else None
        self._symbols = symbols_of(streams)
        self._last: Any = "0-0"
        self._next = 0

    def prepare(self, bars: int) -> None:
        self._prepared = [
            fields(symbol, BEGIN + MINUTE * (self._next + number))
            for symbol in self._symbols
            for number in range(bars)
        ]
        self._next += bars

    def write(self) -> None:
        pipe = self._client.pipeline(transaction=False)
        for one in self._prepared:
            if self._script is None:
                pipe.xadd(self._key, one)
            else:
                flat = [part for pair in one.items() for part in pair]
                pipe.evalsha(self._script, 2, self._fence, self._key, "7", *flat)
        pipe.execute()

    def read(self) -> int:
        count = 0
        while count < len(self._prepared):
            [(_, entries)] = self._client.xread({self._key: self._last}, count=1000)
            self._last = entries[-1][0]
            count += len([row_of(found) for _, found in entries])
        self._client.xtrim(self._key, maxlen=0)  # so that memory stays as it is
        return count


def fields(symbol: str, opened: int) -> dict[str, Any]:
    names = ("open", "high", "low", "close", "volume", "money")
    times = {"symbol": symbol, "open_time": opened, "close_time": opened + MINUTE}
    return times | dict(zip(names, PRICES, strict=True)) | {"flags": 0}


def row_of(found: dict[bytes, bytes]) -> tuple[Any, ...]:
    symbol, opened, closed, *prices, flags = found.values()
    return (symbol, int(opened), int(closed), *map(float, prices), int(flags))
