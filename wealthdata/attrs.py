"""The source, freshness and completeness of a frame: `df.attrs["shmfeed"]`."""

from typing import Any, Protocol, Self

from shmfeed.health import Health, health_rank


class HasValidity(Protocol):
    """An object that tells if rows are still whole, without a reference to them."""

    @property
    def valid(self) -> bool: ...


class FrameAttrs(dict[str, Any]):
    """A dict of plain values about a frame's bars, with attribute access.

    Every value is as of the read:

    source   "live" (from the feed's ring), "context", or "mixed"
    feed     the feed's name; None in a backtest and without a feed
    age      seconds since the stream's last update; None before the first one, and
             where the bars are a context's
    state    the state of the stream's connection; None in a backtest, and for a stream
             that the feed does not carry
    health   the health of the stream; None as for `state`
    forming  True if the last row is the forming bar
    gaps     number of bars missing inside the window
    absent   of a list, its securities that have no row

    For several securities: the oldest age, the worst health and the state that goes
    with it, all gaps.

    `valid` is computed at each access, by `.valid` or `["valid"]`, and is not one of
    the stored values.
    """

    __slots__ = ("_base", "_valid")

    _valid: HasValidity | bool
    _base: object

    @property
    def valid(self) -> bool:
        """False once the feeder has begun to overwrite a row of this frame.

        Always True for a private frame. pandas hands these attrs on to frames that it
        makes of this one; they do not keep its rows in memory.
        """
        valid = self._valid
        return valid if isinstance(valid, bool) else valid.valid

    def keep_alive(self, base: object) -> None:
        """Hold a reference to `base` for the lifetime of these attrs."""
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
        # pandas copies attrs into every frame derived from this one.
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return restore, (dict(self), self.valid)


def make_attrs(valid: HasValidity | bool, values: dict[str, Any]) -> FrameAttrs:
    """Return attrs with the `valid` of these columns, or with a constant one."""
    attrs = FrameAttrs(values)
    attrs._valid = valid
    return attrs


def restore(values: dict[str, Any], valid: bool) -> FrameAttrs:
    """Return attrs from a pickle: the values, and `valid` as of the pickling."""
    return make_attrs(valid, values)


def combine(parts: list[FrameAttrs]) -> FrameAttrs:
    """Return the attrs of a frame that holds several streams."""
    sources = {part["source"] for part in parts}
    ages = [part["age"] for part in parts if part["age"] is not None]
    worst = max(parts, key=lambda part: _rank(part["health"]))
    return make_attrs(
        True,
        {
            "source": sources.pop() if len(sources) == 1 else "mixed",
            "feed": parts[0]["feed"],
            "age": max(ages, default=None),
            "state": worst["state"],
            "health": worst["health"],
            "forming": any(part["forming"] for part in parts),
            "gaps": sum(part["gaps"] for part in parts),
        },
    )


def _rank(health: Health | None) -> int:
    return -2 if health is None else health_rank(health)
