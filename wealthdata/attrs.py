"""What a frame says of where its bars come from: `df.attrs["shmfeed"]`."""

from typing import Any, Self

from wealthdata.columns import Rows

_HEALTHS = ("live", "quiet", "recovering", "stale", "dead")  # from best to worst


class Reading(dict[str, Any]):
    """A dict of plain values, with attribute access; all as of the read.

    source   `live` (the ring), `context` or `mixed`
    feed     the feed's name, None for a backtest
    age      seconds since the stream's last update, None if there is none
    state    the connection's state, None for a backtest
    health   the data's health, None for a backtest
    forming  whether the last row is the forming bar
    gaps     how many bars are missing inside the window

    `valid`, asked anew each time, whether by `.valid` or `["valid"]`, is none of the
    values: whether the frame's memory still holds the bars that it was made of. A
    private frame's always does.
    """

    __slots__ = ("_base", "_rows")

    _rows: Rows | bool
    _base: object

    @property
    def valid(self) -> bool:
        """Whether no bar of the window has been, or is being, written over."""
        rows = self._rows
        return rows if isinstance(rows, bool) else rows.valid

    def keep(self, base: object) -> None:
        """Keep `base` alive as long as this reading is."""
        self._base = base

    def __missing__(self, key: object) -> bool:
        if key == "valid":
            return self.valid
        raise KeyError(key)

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        # pandas copies attrs with every frame derived from this one.
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return restore, (dict(self), self.valid)


def make_reading(rows: Rows | bool, facts: dict[str, Any]) -> Reading:
    """A reading whose `valid` is that of `rows`, or a bool for private rows."""
    reading = Reading(facts)
    reading._rows = rows
    return reading


def restore(facts: dict[str, Any], valid: bool) -> Reading:
    """What unpickling makes: the values, and `valid` as it was."""
    return make_reading(valid, facts)


def combine(readings: list[Reading]) -> Reading:
    """Of several streams: the oldest age, the worst health, all gaps."""
    sources = {reading["source"] for reading in readings}
    ages = [r["age"] for r in readings if r["age"] is not None]
    worst = max(readings, key=lambda reading: _rank(reading["health"]))
    return make_reading(
        True,
        {
            "source": sources.pop() if len(sources) == 1 else "mixed",
            "feed": readings[0]["feed"],
            "age": max(ages, default=None),
            "state": worst["state"],
            "health": worst["health"],
            "forming": any(reading["forming"] for reading in readings),
            "gaps": sum(reading["gaps"] for reading in readings),
        },
    )


def _rank(health: str | None) -> int:
    return -1 if health is None else _HEALTHS.index(health)
