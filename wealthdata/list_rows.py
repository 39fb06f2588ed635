"""The rows that the feeds of a list have, each as of one instant."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from shmfeed.bar import FLOAT_FIELDS, Field, Timeframe
from shmfeed.cuts import cut
from shmfeed.errors import StreamNotFoundError
from shmfeed.feed import Ring
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
        told = self.feed.name, self.feeder.identity, "live"
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

    def read(self, count: int) -> "ListRows":
        """Return the newest rows of each security, as of one instant.

        Raise StreamNotFoundError or BusyRingError.
        """
        epochs = [ring.epoch for ring in self.rings]
        if not self.rings:
            none = np.empty((0, 0), np.int64)
            no_value = np.empty((len(self._fields), 0, 0))
            no_values = np.empty((VALUES, 0, 0))
            return ListRows(no_value, none, none[:, 0], [], {}, no_values)
        keeps = bool(tracked)
        fields = FLOAT_FIELDS if keeps else self._fields
        found = cut(self.rings, count, fields, False)
        values, closes = found.values, found.close_time
        bars = values[:VALUES] if keeps else None
        if keeps:
            values = values[self._columns]
        newest = np.zeros(len(self.rings), np.int64)
        if closes.size:
            newest[:] = closes[:, -1]
        rows = ListRows(values, closes, newest, epochs, {}, bars)
        for place, ring in self.rolled.items():
            self._roll_up(rows, place, ring, count)
        return rows

    def _roll_up(
        self, rows: "ListRows", place: int, ring: RolledRing, count: int
    ) -> None:
        """Put rolled-up rows in the place of those that they are made of."""
        values, closes = rows.values[:, place], rows.closes[place]
        request = PriceRequest(count, end=int(rows.newest[place]))
        made = ring.read()
        first, last = request.window(made.bars)
        bars = made.bars.cut(first, last)
        values[:], closes[:] = np.nan, 0
        if len(bars):
            closes[-len(bars) :] = bars.close_time
            values[:, -len(bars) :] = bars.floats[self._columns]
        rolled = made.described(last, request)
        rows.newest[place] = rolled.newest
        rows.rolled[place] = bars, rolled


class ListRows(NamedTuple):
    """Rows of the rings of one feed or, joined, of several.

    Attributes:
        values: float64 (fields, rings, rows), which end at the right.
        closes: Their close times, 0 without a row.
        newest: The close time of each ring's newest bar, 0 without one; of a rolled-up
            one the end of its newest group.
        epochs: The epochs of the rings before the read.
        rolled: Rows that were rolled up, and the facts about them, by place.
        bars: As `values`, those of a receipt, in a tracked process.
    """

    values: Floats
    closes: Ints
    newest: Ints
    epochs: list[int]
    rolled: dict[int, tuple[PrivateColumns, RolledUp]]
    bars: Floats | None

    def kept(
        self, counts: list[int], times: Ints | None, timeframe: Timeframe
    ) -> dict[int, KeptBars]:
        """Return copies of the rows that a frame has, by the ring's place.

        It has the last `counts` of each, or those with these close times: all of a
        tracked process, else those that were rolled up.
        """
        kept = {}
        if self.bars is not None:
            for place, (closes, count) in enumerate(
                zip(self.closes, counts, strict=True)
            ):
                rows: Any = slice(len(closes) - count, None)
                if times is not None:
                    rows = np.isin(closes, times)
                opened = open_times(closes[rows], timeframe)
                kept[place] = KeptBars(opened, self.bars[:, place, rows].copy())
        for place, (bars, _) in self.rolled.items():
            shown = shown_rows(bars, counts[place], times)
            kept[place] = keep_bars(shown, 0, len(shown))
        return kept

    @property
    def left_out(self) -> int:
        """The number of groups that are left out after the rows."""
        return sum(rolled.left_out for _, rolled in self.rolled.values())


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
    epochs = [epoch for part in parts for epoch in part.epochs]
    return ListRows(values, closes, newest, epochs, rolled, bars)


def shown_rows(bars: PrivateColumns, count: int, times: Ints | None) -> PrivateColumns:
    """Return the rows that a frame has: the last ones or, aligned, those of times."""
    if times is None:
        return bars.cut(len(bars) - count, len(bars))
    return bars.at(times)
