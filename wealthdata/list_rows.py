"""The rows of a list of securities: read from each feed as of one instant."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from shmfeed.bar import FLOAT_FIELDS, Field, Timeframe
from shmfeed.cuts import cut, cut_list
from shmfeed.errors import StreamNotFoundError
from shmfeed.feed import Ring
from shmfeed.health import quiet_ns
from wealthdata.attachment import AttachedFeed
from wealthdata.columns import Floats, Ints, PrivateColumns
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
            return ListRows(values, none, none[:, 0], none[:, 0], True, 0.0, 0, {})
        bounds = None if request.is_newest else request.bounds[:2]
        rows = cut_list(self.rings, limit, self._fields, bounds, self._quiet)
        found = ListRows(*rows, {})
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
        return rows._replace(values=taken, closes=times, is_even=False)


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
        lost: The number of frames over the rings' rows that were overwritten, ever.
        rolled: Rows that were rolled up, and the facts about them, by place.
    """

    values: Floats
    closes: Ints
    newest: Ints
    epochs: Ints
    is_even: bool
    age: float | None
    lost: int
    rolled: dict[int, tuple[PrivateColumns, RolledUp]]

    @property
    def ends(self) -> Ints:
        """The close time of the last row of each ring, 0 without one."""
        closes = self.closes
        return closes[:, -1] if closes.shape[1] else np.zeros(len(closes), np.int64)

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
    at = 0
    for part in parts:
        end, first = at + len(part.closes), width - part.closes.shape[1]
        values[:, at:end, first:], closes[at:end, first:] = part.values, part.closes
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
    )
