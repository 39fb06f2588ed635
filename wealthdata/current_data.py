"""`get_current_data`: the last price of each security, and the day's open."""

import math
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, NoReturn

import numpy as np

from shmfeed.bar import AFTER_GAP, TIMEFRAMES, Timeframe, check_timeframe, duration
from shmfeed.errors import BadArgumentError
from wealthdata.carried import Carried, carried
from wealthdata.choices import current_choices
from wealthdata.codes import check_carried
from wealthdata.columns import Floats, Ints
from wealthdata.reactions import Reaction
from wealthdata.reading import read
from wealthdata.request import ReadArguments
from wealthdata.securities import Security, check_security
from wealthdata.trade_days import DAY, oldest_open
from wealthdata.unavailable import TRADING, unavailable


def get_current_data(
    *,
    feed: str | None = None,
    max_age: float | None = None,
    on_stale: Reaction | None = None,
    on_gap: Reaction | None = None,
    on_short: Reaction | None = None,
    on_unconfirmed: Reaction | None = None,
) -> "CurrentData":
    """Return the current prices of all securities, each read when it is asked for.

    Args:
        feed, max_age, on_stale, on_gap, on_short, on_unconfirmed: As in `get_price`,
            for each price that is read from here on.

    Returns:
        A mapping from symbols to `CurrentSecurity`; `SYMBOL@FEED` is a key too. It
        iterates over the symbols that the feed carries and the context has.

    Raises:
        BadArgumentError: An argument is not accepted.

    Thread safety:
        As for `get_price`.
    """
    asked = ReadArguments(
        "",
        feed=feed,
        limit=1,
        include_now=True,
        label="close",
        max_age=max_age,
        on_stale=on_stale,
        on_gap=on_gap,
        on_short=on_short,
        on_unconfirmed=on_unconfirmed,
    )
    asked.named_feed()
    asked.reactions(current_choices().reactions)
    return CurrentData(asked)


class CurrentData(Mapping[str, "CurrentSecurity"]):
    """The current prices of all securities, as `get_current_data` returns them.

    A symbol that is not carried raises StreamNotFoundError, a KeyError.
    """

    def __init__(self, asked: ReadArguments) -> None:
        self._asked = asked

    def _carried(self, security: Security | None = None) -> Carried:
        named = security.feed if security is not None else None
        return carried(named or self._asked.named_feed())

    def __getitem__(self, symbol: str) -> "CurrentSecurity":
        security = check_security(symbol)
        check_carried(security, self._carried(security))
        return CurrentSecurity(security, self._asked)

    def __contains__(self, symbol: object) -> bool:
        try:
            security = check_security(symbol)
            check_carried(security, self._carried(security))
        except (KeyError, BadArgumentError):
            return False
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(self._carried().symbols)

    def __len__(self) -> int:
        return len(self._carried().symbols)

    def __repr__(self) -> str:
        feed = self._asked.feed
        return f"<CurrentData{'' if feed is None else f' of feed {feed!r}'}>"


class CurrentSecurity:
    """The current prices of one security. Each access reads.

    `name` is the symbol. JoinQuant's `paused`, `high_limit`, `low_limit`, `is_st` and
    `industry_code` raise NoDataError, which names what there is.
    """

    __slots__ = ("_asked", "_security", "name")

    def __init__(self, security: Security, asked: ReadArguments) -> None:
        self._security = security
        self._asked = asked._replace(security=security.written)
        self.name = security.symbol

    @property
    def last_price(self) -> float:
        """The newest price, as a float; nan before the first bar.

        It is the close of the forming bar, else that of the newest closed bar, of the
        stream of this security that has the newest. `max_age`, `on_stale` and their
        kind act as in `get_price`.
        """
        timeframe = _newest(self._asked, self._updates())
        frame = read(self._asked._replace(frequency=timeframe, fields=("close",)))
        return float(frame.to_numpy()[-1, 0]) if len(frame) else math.nan

    @property
    def day_open(self) -> float:
        """The first price of the UTC day; nan if it is not known.

        The day is that of the context's `current_dt`, else that of the newest bar. The
        open of a bar is known of closed bars, and of the forming one. It is not known
        where bars of up to `1d` begin later than the day, or some are missing at its
        begin. `max_age`, `on_stale` and their kind judge the stream that tells it.
        """
        known = self._carried()
        shorter = [n for n in self._timeframes(known) if duration(n) <= DAY]
        found = _day_open(self._asked, self.name, shorter, known)
        if found is None:
            return math.nan
        timeframe, price = found
        read(self._asked._replace(frequency=timeframe, fields=("close",)))
        return price

    def _carried(self) -> Carried:
        return carried(self._security.feed or self._asked.named_feed())

    def _updates(self) -> dict[Timeframe, float]:
        """Return the times of the last updates of the timeframes, the shortest first.

        They are in ms UTC, 0 where the feed does not carry it. One clock, read once,
        tells them all, so that their order is that of the updates.
        """
        known = self._carried()
        timeframes = self._timeframes(known)
        if len(timeframes) == 1:
            return {timeframes[0]: 0.0}
        streams = [] if known.feed is None else known.feed.streams()
        keys = [key for key in streams if key[0] == self.name]
        rings = [] if known.feed is None else [known.feed.ring(key) for key in keys]
        now = time.time_ns() / 1_000_000
        ages = [ring.status().age for ring in rings]
        found = {
            key[1]: 0.0 if age is None else now - 1000.0 * age
            for key, age in zip(keys, ages, strict=True)
        }
        return {name: found.get(name, 0.0) for name in timeframes}

    def _timeframes(self, known: Carried) -> list[Timeframe]:
        """Return the timeframes of this security, the shortest first."""
        found = known.timeframes.get(self.name)
        if found is None:
            check_carried(self._security, known)
            return _probe(self._asked)
        return list(found)

    @property
    def paused(self) -> NoReturn:
        """Raises NoDataError."""
        raise unavailable("paused", TRADING)

    @property
    def high_limit(self) -> NoReturn:
        """Raises NoDataError."""
        raise unavailable("high_limit", TRADING)

    @property
    def low_limit(self) -> NoReturn:
        """Raises NoDataError."""
        raise unavailable("low_limit", TRADING)

    @property
    def is_st(self) -> NoReturn:
        """Raises NoDataError."""
        raise unavailable("is_st", TRADING)

    @property
    def industry_code(self) -> NoReturn:
        """Raises NoDataError."""
        raise unavailable("industry_code", "get_all_securities() lists what there is")

    def __repr__(self) -> str:
        return f"<CurrentSecurity {self._security.written}>"


_FIELDS = ("open_time", "open", "flags")
_IGNORED: Any = {
    "fields": ("close",),
    "max_age": None,
    "on_stale": "ignore",
    "on_gap": "ignore",
    "on_short": "ignore",
    "on_unconfirmed": "ignore",
}


def _bars(asked: ReadArguments, timeframe: str, start: int | None = None) -> Any:
    """Return the newest bar, or those that close from `start` on.

    Nothing reacts to their state.
    """
    asked = asked._replace(frequency=timeframe, **_IGNORED)._replace(fields=_FIELDS)
    return read(asked if start is None else _from(asked, start))


def _from(asked: ReadArguments, start: int) -> ReadArguments:
    """Ask for the bars that close from `start` on."""
    return asked._replace(limit=None, start_date=np.datetime64(start, "ms"))


class _Opens(NamedTuple):
    """The open times of bars, ms UTC, and their opens."""

    times: Ints
    values: Floats

    @classmethod
    def of(
        cls, asked: ReadArguments, timeframe: str, start: int | None = None
    ) -> "_Opens":
        """Return those of the newest bar, or of closed bars from `start` on."""
        asked = asked._replace(frequency=timeframe, label="open", **_IGNORED)
        asked = asked._replace(fields=("open",))
        if start is not None:
            asked = _from(asked, start)._replace(include_now=False)
        frame = read(asked)
        times = frame.index.to_numpy().astype("M8[ms]").astype(np.int64)
        return cls(times, frame.to_numpy()[:, 0])

    def at(self, moment: int) -> float | None:
        """Return the open of the bar that opens then, or None."""
        found = np.flatnonzero(self.times == moment)
        return float(self.values[found[0]]) if len(found) else None


def _newest(asked: ReadArguments, updates: dict[Timeframe, float]) -> Timeframe:
    """Return the timeframe whose last price is the newest of all."""
    if len(updates) == 1:
        return next(iter(updates))

    def moment(name: Timeframe) -> float:
        newest = read(asked._replace(frequency=name, **_IGNORED))
        if not len(newest):
            return 0.0
        if newest.attrs["shmfeed"]["forming"]:
            return updates[name]
        return float(newest.index.values.astype("M8[ms]").astype(np.int64)[0])

    return max(updates, key=moment)


def _probe(asked: ReadArguments) -> list[Timeframe]:
    """Return the shortest timeframe of which a history function has bars.

    Such a function cannot list its streams, and may raise anything for a timeframe
    that it does not have. The first error is raised if it answers for none.
    """
    first: Exception | None = None
    for name in map(check_timeframe, TIMEFRAMES):
        try:
            if len(_bars(asked, name)):
                return [name]
        except Exception as error:  # noqa: BLE001 # a strategy's own function
            first = first or error
    if first is not None:
        raise first
    return ["1m"]


def _day_open(
    asked: ReadArguments, symbol: str, timeframes: list[Timeframe], known: Carried
) -> tuple[Timeframe, float] | None:
    """Return the open of the UTC day, and the timeframe that tells it.

    The timeframes are given shortest first.
    """
    now = known.now
    newest = [_Opens.of(asked, name) for name in timeframes]
    if now is None:
        now = max((int(time) for bar in newest for time in bar.times), default=0)
    day = now // DAY * DAY
    for name, bar in zip(reversed(timeframes), reversed(newest), strict=True):
        for bars in (bar, _Opens.of(asked, name, day)):
            price = bars.at(day)
            if price is not None:
                return name, price
    for name in timeframes:  # nothing traded at the start of the day, or bars lack
        price = _first_open(_bars(asked, name, day), day)
        oldest = oldest_open(known, (symbol, name))
        if price is not None and oldest is not None and oldest < day:
            return name, price
    return None


def _first_open(bars: Any, day: int) -> float | None:
    """Return the first open of a day at whose start nothing traded, or None.

    `bars` close from the start of the day on.
    """
    begun = bars[bars["open_time"] >= day]
    if not len(begun) or int(begun["flags"].iloc[0]) & AFTER_GAP:
        return None  # bars are missing there
    return float(begun["open"].iloc[0])
