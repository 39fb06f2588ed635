"""Receipts: the bars that a decision was made on."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from wealthdata.columns import Floats, Ints

VALUES = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True, slots=True)
class Receipt:
    """The bars of one stream in one read, as they were read.

    Attributes:
        feed: The feed, None for bars of a context.
        identity: The identity of the feed, "protocol/market_type/venue".
        symbol, timeframe: The stream.
        source: "live", "relayed", "context" or "mixed".
        rolled: The timeframe that the bars were made from, None if it is their own.
        first, last: Open times of the first and the last closed bar, ms UTC; 0 without
            one.
        rows: The number of closed bars.
        digest: The digest of the closed bars, None if they are not known.
        forming: The forming bar, if the read had it: open time and the values.
        valid: False if rows were overwritten in memory while the strategy held them.
        unknown: The reason why the bars are not known, None if they are.
        open_time, values: The closed bars: int64 (rows,), float64 (5, rows).
    """

    feed: str | None
    identity: str | None
    symbol: str
    timeframe: str
    source: str | None
    rolled: str | None
    first: int
    last: int
    rows: int
    digest: str | None
    forming: tuple[float, ...] | None = None
    valid: bool = True
    unknown: str | None = None
    open_time: Ints = field(repr=False, compare=False, default_factory=lambda: _NO_TIME)
    values: Floats = field(repr=False, compare=False, default_factory=lambda: _NO_ROWS)


_NO_TIME: Any = np.empty(0, np.int64)
_NO_ROWS: Any = np.empty((len(VALUES), 0))


def digest_of(open_time: Ints, values: Floats) -> str:
    """Return the digest of bars: 32 hex digits of BLAKE2b.

    It is taken over six 8-byte words a bar, little-endian: the open time as int64, and
    open, high, low, close and volume as float64. Each NaN counts as the same one, and
    -0.0 as 0.0, so that bars which compare equal have the same digest on any platform.
    """
    from hashlib import blake2b  # noqa: PLC0415 # most processes never decide

    words = np.empty((len(open_time), 1 + len(VALUES)), "<i8")
    floats = np.asarray(values, "<f8").T + 0.0
    floats[np.isnan(floats)] = np.nan
    words[:, 0] = open_time
    words[:, 1:] = floats.astype("<f8").view("<i8")
    return blake2b(words.tobytes(), digest_size=16).hexdigest()
