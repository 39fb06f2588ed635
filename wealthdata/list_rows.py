"""The rows of a list of securities: read from each feed as of one instant."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from shmfeed.bar import FLOAT_FIELDS, Field, Timeframe
from shmfeed.cuts import cut, cut_list
from shmfeed.errors import StreamNotFoundError
from shmfeed.feed import Ring
from shmfeed.health import quiet_ns
from wealthdata.attachment import AttachedFeed
from wealthdata.columns import Floats, Ints, PrivateColumns
from wealthdata.kept_bars import (
    VALUES,
    KeptBars,
    Origin,
    keep_bars,
    open_times,
)
from wealthdata.read_log import tracked
from wealthdata.request import PriceRequest
from wealthdata.rolled_ring import RolledRing, RolledUp, open_ring
from wealthdata.securities import Security


class FeedPart:
    """The securities of a list that one feed has.

    Attributes:
        feed: The feed.
        feeder: The feeder that wrote it then.
        written: The securities as written, in the order asked.
        rings: Their own rings, or those that they are rolled up from.
        rolled: The rolled-up ones, by their place.
        unknown: The symbols of those that the feed lacks.
    """

    def __init__(
        self,
        feed: AttachedFeed,
        securities: Iterable[Security],
        timeframe: Timeframe,
        fields: tuple[Field, ...],
    ) -> None:
        self.feed = feed
        self.feeder = feed.check()
        self._known = feed.known_streams()
        self._fields = fields
        self._quiet = quiet_ns(timeframe)
        self._columns = [FLOAT_FIELDS.index(field) for field in fields]
        written: list[str] = []
        rings: list[Ring] = []
        unknown: list[str] = []
        self.rolled: dict[int, RolledRing] = {}
        for security in securities:
            try:
                ring = open_ring(feed, (security.symbol, timeframe))
            except StreamNotFoundError:
                unknown.append(security.symbol)
                continue
            if isinstance(ring, RolledRing):
                self.rolled[len(rings)] = ring
                ring = ring.source
            written.append(security.written)
            rings.append(ring)
        self.written, self.rings = tuple(written), tuple(rings)
        self.unknown = tuple(unknown)

    def origins(self, timeframe: Timeframe) -> list[Origin]:
        """Return the origin of each security's bars."""
        told = self.feed.name, self.feeder.identity, self.feeder.source
        rolled = {at: ring.source.timeframe for at, ring in self.rolled.items()}
        return [
            Origin(*told, rolled.get(at), ring.symbol, timeframe)
            for at, ring in enumerate(self.rings)
        ]

    @property
    def is_as_before(self) -> bool:
        """False if the feed may carry more of the securities by now."""
        asks = self.rolled or self.unknown
        return not asks or self.feed.known_streams() is self._known

    def newest_closes(self) -> dict[str, int]:
        """Return the newest close time of each security with bars, at one instant.

        For a rolled-up one it is that of its source.
        """
        if not self.rings:
            return {}
        closes = cut(self.rings, 1, ("close",), False).close_time
        newest = closes[:, -1].tolist() if closes.size else [0] * len(self.rings)
        return {w: t for w, t in zip(self.written, newest, strict=True) if t}

    def read(self, request: PriceRequest) -> "ListRows":
        """Return the newest rows of each security in the range, as of one instant.

        Raise StreamNotFoundError or BusyRingError.
        """
        limit = request.limit
        if limit is None:
            limit = self.rings[0].history if self.rings else 1
        if len(self.rolled) == len(self.rings):
            limit = 1  # only the newest bar of each is looked at
        if not self.rings:
            none = np.empty((0, 0), np.int64)
            values = np.empty((len(self._fields), 0, 0))
            no_values = np.empty((VALUES, 0, 0))
            times = none[:, 0], none[:, 0]
            return ListRows(values, none, *times, True, 0.0, 0, {}, no_values)
        bounds = None if request.is_newest else request.bounds[:2]
        keeps = bool(tracked)
        fields = FLOAT_FIELDS if keeps else self._fields
        values, closes, newest, epochs, is_even, age, lost = cut_list(
            self.rings, limit, fields, bounds, self._quiet
        )
        bars = values[:VALUES] if keeps else None
        if keeps:
            values = values[self._columns]
        rows = values, closes, newest, epochs, is_even, age, lost
        found = ListRows(*rows, {}, bars)
        return self._roll_up(found, request) if self.rolled else found

    def _roll_up(self, rows: "ListRows", request: PriceRequest) -> "ListRows":
        """Put rolled-up rows in the place of those that they are made of."""
        newest, rolled = rows.newest, rows.rolled
        for place, ring in self.rolled.items():
            bounded = request._replace(newest=int(newest[place]))
            made = ring.read()
            first, last = bounded.window(made.bars)
            facts = made.described(last, bounded)
            newest[place] = facts.newest
            rolled[place] = made.bars.cut(first, last), facts
        own = [k for k in range(len(newest)) if k not in rolled]
        values, closes = rows.values[:, own], rows.closes[own]
        longest = max(len(bars) for bars, _ in rolled.values())
        width = max(closes.shape[1] if own else 0, longest)
        taken = np.full((len(values), len(newest), width), np.nan)
        times = np.zeros((len(newest), width), np.int64)
        if own:
            start = width - closes.shape[1]
            taken[:, own, start:], times[own, start:] = values, closes
        for place, (bars, _) in rolled.items():
            start = width - len(bars)
            times[place, start:] = bars.close_time
            taken[:, place, start:] = bars.floats[self._columns]
        kept = _widened(rows.bars, width)
        return rows._replace(values=taken, closes=times, is_even=False, bars=kept)


class ListRows(NamedTuple):
    """Rows of the rings of one feed or, joined, of several.

    Attributes:
        values: float64 (fields, rings, rows), which end at the right.
        closes: Their close times, 0 without a row.
        newest: The close time of each ring's newest bar, 0 without one; of a rolled-up
            one the end of its newest group.
        epochs: The epochs of the rings' rows.
        is_even: True if it is known that all rings have rows of the same times.
        age: The largest age of a stream, None if one is not live.
        lost: The number of frames over the rings' rows that were ever overwritten.
        rolled: Rows that were rolled up, and the facts about them, by place.
        bars: As `values`, those of a receipt, in a tracked process. They lack rows that
            were rolled up.
    """

    values: Floats
    closes: Ints
    newest: Ints
    epochs: Ints
    is_even: bool
    age: float | None
    lost: int
    rolled: dict[int, tuple[PrivateColumns, RolledUp]]
    bars: Floats | None

    def kept(
        self, counts: Ints, times: Ints | None, timeframe: Timeframe
    ) -> dict[int, KeptBars]:
        """Return copies of the rows that a frame has, by the ring's place.

        It has the last `counts` of each, or those with these close times: all of a
        tracked process, else those that were rolled up.
        """
        kept = {}
        if self.bars is not None:
            for place, (closes, count) in enumerate(
                zip(self.closes, counts.tolist(), strict=True)
            ):
                rows: Any = slice(len(closes) - count, None)
                if times is not None:
                    rows = np.isin(closes, times)
                opened = open_times(closes[rows], timeframe)
                kept[place] = KeptBars(opened, self.bars[:, place, rows].copy())
        for place, (bars, _) in self.rolled.items():
            shown = shown_rows(bars, int(counts[place]), times)
            kept[place] = keep_bars(shown, 0, len(shown))
        return kept

    @property
    def ends(self) -> Ints:
        """The close time of the last row of each ring, 0 without one."""
        closes = self.closes
        return closes[:, -1] if closes.shape[1] else np.zeros(len(closes), np.int64)

    @property
    def left_out(self) -> int:
        """The number of groups that are left out after the rows."""
        return sum(rolled.left_out for _, rolled in self.rolled.values())


def _widened(bars: Floats | None, width: int) -> Floats | None:
    """Return the newest `width` rows, NaN where there are fewer."""
    if bars is None or bars.shape[2] == width:
        return bars
    wide = np.full((*bars.shape[:2], width), np.nan)
    rows = min(bars.shape[2], width)
    wide[:, :, width - rows :] = bars[:, :, bars.shape[2] - rows :]
    return wide


def join_rows(parts: list[ListRows]) -> ListRows:
    """Return the rows of all feeds, one below the other."""
    count = sum(len(part.closes) for part in parts)
    width = max(part.closes.shape[1] for part in parts)
    values = np.full((len(parts[0].values), count, width), np.nan)
    closes = np.zeros((count, width), np.int64)
    rolled: dict[int, tuple[PrivateColumns, RolledUp]] = {}
    is_tracked = all(part.bars is not None for part in parts)
    bars = np.full((VALUES, count, width), np.nan) if is_tracked else None
    at = 0
    for part in parts:
        end, first = at + len(part.closes), width - part.closes.shape[1]
        values[:, at:end, first:], closes[at:end, first:] = part.values, part.closes
        if bars is not None:
            bars[:, at:end, first:] = part.bars
        rolled |= {at + place: each for place, each in part.rolled.items()}
        at = end
    newest = np.concatenate([part.newest for part in parts])
    epochs = np.concatenate([part.epochs for part in parts])
    ages = [part.age for part in parts]
    known = [age for age in ages if age is not None]
    return ListRows(
        values,
        closes,
        newest,
        epochs,
        all(part.is_even for part in parts) and bool((closes == closes[0]).all()),
        max(known) if len(known) == len(ages) else None,
        sum(part.lost for part in parts),
        rolled,
        bars,
    )


def shown_rows(bars: PrivateColumns, count: int, times: Ints | None) -> PrivateColumns:
    """Return the rows that a frame has: the last ones or, aligned, those of times."""
    if times is None:
        return bars.cut(len(bars) - count, len(bars))
    return bars.at(times)
