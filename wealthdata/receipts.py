"""Receipts: the bars that a decision was made on."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shmfeed.bar import Bar
from shmfeed.errors import BadArgumentError
from shmfeed.text import repr_short
from wealthdata import price_table
from wealthdata.attrs import FrameAttrs, bars_of
from wealthdata.columns import Floats, Ints, from_bars
from wealthdata.facts import RingFacts
from wealthdata.handed import current_record, logs_of_decision
from wealthdata.kept_bars import VALUES, BarsRead, KeptBars, Origin, keep_bars
from wealthdata.read_log import Taken, tracked

_NO_TIME: Any = np.empty(0, np.int64)
_NO_ROWS: Any = np.empty((VALUES, 0))
_DIGEST_BYTES = 16
_ACCEPTED = (
    "pass the frames of get_price, get_bars and history as they were returned, or what"
    " pandas made of one of them; without frames, all that was read since the last"
    " decision counts"
)


@dataclass(frozen=True, slots=True)
class Receipt:
    """The bars of one stream in one read, as they were read.

    Attributes:
        feed: The feed, None for bars of a context alone.
        identity: The identity of the feed, "protocol/market_type/venue".
        symbol, timeframe: The stream.
        source: As in a frame's attrs: "live", "relayed", "context" or "mixed".
        rolled: The timeframe that the bars were made from, None if it is their own.
        first, last: Open times of the first and the last closed bar, ms UTC; 0 without
            one.
        rows: The number of closed bars.
        digest: The digest of the closed bars, see `digest_of`; None if the bars are not
            known.
        forming: Open time, open, high, low, close and volume of the forming bar, if the
            read had it as its last row.
        valid: False if rows of the frame were overwritten while it was held.
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


def digest_of(open_time: Ints, values: Floats) -> str:
    """Return the digest of bars: 32 hex digits of BLAKE2b.

    It is taken over six 8-byte words a bar, little-endian: the open time as int64, and
    open, high, low, close and volume as float64. Each NaN counts as the same one, and
    -0.0 as 0.0, so that bars which compare equal have the same digest on any platform.
    The columns that a read asked for do not matter: it is taken over all of them.
    """
    from hashlib import blake2b  # noqa: PLC0415 # most processes never decide

    words = np.empty((len(open_time), 1 + VALUES), "<i8")
    floats = np.ascontiguousarray(values.T, "<f8") + 0.0
    floats[np.isnan(floats)] = np.nan
    words[:, 0] = open_time
    words[:, 1:] = floats.astype("<f8", copy=False).view("<i8")
    return blake2b(words.tobytes(), digest_size=_DIGEST_BYTES).hexdigest()


def receipts_of_frames(frames: Iterable[object]) -> list[Receipt]:
    """Return a receipt for each stream of these frames. Raise BadArgumentError."""
    read = []
    for number, frame in enumerate(frames, 1):
        read += _bars_of_frame(number, frame)
    forget_reads()
    return _receipts(read)


def _bars_of_frame(number: int, frame: object) -> list[BarsRead]:
    attrs = getattr(frame, "attrs", None)
    if not isinstance(attrs, dict):
        raise BadArgumentError(
            f"frame {number} of decide is {_described(frame)}; {_ACCEPTED}"
        )
    found = attrs.get("shmfeed")
    if found is None:
        raise BadArgumentError(
            f"frame {number} of decide has no attrs['shmfeed'], which pandas drops from"
            f" a frame that it makes of several; {_ACCEPTED}"
        )
    try:
        if isinstance(found, FrameAttrs):
            return bars_of(found)
    except LookupError:
        pass
    raise BadArgumentError(
        f"frame {number} of decide comes from a pickle or a file, which keeps no"
        f" receipt; {_ACCEPTED}"
    )


def _described(value: object) -> str:
    kind = type(value).__name__
    return (
        f"of type {kind}"
        if kind == "ndarray"
        else f"{repr_short(value)}, of type {kind}"
    )


def receipts_of_task() -> tuple[list[Receipt], int]:
    """Return receipts of what this task has read since its last decision, and forget.

    Return also the number of reads that are not among them, as there were too many. The
    reads of this process are tracked from the first call on.
    """
    tracked.add("decide")
    receipts: list[Receipt] = _receipts(_untracked_bars())
    dropped = 0
    for log in logs_of_decision():
        taken = log.take()
        receipts += _receipts_of_log(taken)
        dropped += taken.dropped
    return list(dict.fromkeys(receipts)), dropped


def _receipts_of_log(taken: Taken) -> list[Receipt]:
    bars = [
        each
        for origin, record in taken.reads
        for each in record.facts.bars_read(record, origin)
    ]
    receipts = _receipts(bars)
    handed = [
        BarsRead(origin, _kept(lacking), True)
        for origin, bars_of_stream in taken.handed.items()
        if (lacking := _not_in(receipts, origin, bars_of_stream))
    ]
    return receipts + _receipts(handed)


def _not_in(receipts: list[Receipt], origin: Origin, bars: list[Bar]) -> list[Bar]:
    """Return the bars that none of the receipts has, oldest first."""
    stream = origin.feed, origin.symbol, origin.timeframe
    windows = [r for r in receipts if (r.feed, r.symbol, r.timeframe) == stream]
    lacking = {bar.open_time: bar for bar in bars}
    for receipt in windows:
        for moment, bar in list(lacking.items()):
            at = int(receipt.open_time.searchsorted(moment))
            if (
                at < receipt.rows
                and receipt.open_time[at] == moment
                and receipt.values[:, at].tolist() == list(bar[2 : 2 + VALUES])
            ):
                del lacking[moment]
    return [lacking[moment] for moment in sorted(lacking)]


def _kept(bars: list[Bar]) -> KeptBars:
    columns = from_bars(bars)
    return KeptBars(columns.open_time, columns.floats[:VALUES])


def undecided_receipts() -> dict[str | None, list[Receipt]]:
    """Return receipts of what this task has read since its last decisions, and forget.

    They are listed by strategy, those that have some.
    """
    found, record = {}, current_record()
    record.settle()
    for strategy, log in record.logs.items():
        receipts = _receipts_of_log(log.take())
        if receipts:
            found[strategy] = receipts
    return found


def _untracked_bars() -> list[BarsRead]:
    """Return what the C core has noted of this task's reads."""
    record = current_record()
    read = []
    for window in price_table.take_windows(record.read):
        feed, *stream = window.stream
        identity, source = map(window.attrs.get, ("identity", "source"))
        origin = Origin(feed, identity, source, None, *stream)
        if isinstance(window.facts, RingFacts) and window.first < window.last:
            read.append(BarsRead(origin, window.facts.bars_numbered(window), True))
        if window.own is not None:
            bars = keep_bars(window.own, 0, len(window.own))
            read.append(BarsRead(origin, bars, True))
    return read


def forget_reads() -> None:
    """Begin the reads of this task's next decision."""
    price_table.take_windows(current_record().read)
    for log in logs_of_decision():
        log.take()


def _receipts(read: Iterable[BarsRead]) -> list[Receipt]:
    """Return the receipts, the same one once."""
    return list(dict.fromkeys(map(_receipt, read)))


def _receipt(read: BarsRead) -> Receipt:
    origin, bars, valid = read
    told = (
        origin.feed,
        origin.identity,
        origin.symbol,
        origin.timeframe,
        origin.source,
        origin.rolled,
    )
    if not isinstance(bars, KeptBars):
        return Receipt(*told, 0, 0, 0, None, None, valid, bars.reason)
    closed = len(bars.open_time) - bars.forming
    opened, values = bars.open_time[:closed], bars.values[:, :closed]
    forming = None
    if bars.forming:
        forming = int(bars.open_time[-1]), *bars.values[:, -1].tolist()
    ends = (int(opened[0]), int(opened[-1])) if closed else (0, 0)
    digest = digest_of(opened, values)
    for array in (opened, values):
        array.flags.writeable = False
    return Receipt(*told, *ends, closed, digest, forming, valid, None, opened, values)
