"""The source, freshness and completeness of a frame: `df.attrs["shmfeed"]`."""

from collections.abc import Iterable
from typing import Any, Protocol, Self

from shmfeed.health import Health, health_rank
from wealthdata.kept_bars import ORIGIN_KEYS, BarsRead, Origin

KEYS = (
    "source",
    "feed",
    "identity",
    "rolled",
    "age",
    "relay_age",
    "state",
    "health",
    "due",
    "behind",
    "late",
    "forming",
    "short",
    "gaps",
    "unconfirmed",
    "polled",
    "revised",
    "absent",
    "valid",
)
# They differ from read to read of the same rows: two frames are compared without them.
VOLATILE = frozenset(("age", "relay_age", "due", "state", "health"))
# The values that are stored when they are asked for. The last one is always known then.
_FOUND_OUT = (
    "age",
    "relay_age",
    "due",
    "unconfirmed",
    "polled",
    "revised",
    "absent",
    "late",
)
# The others of a private frame without bars. `valid` is never stored.
PLAIN: dict[str, Any] = {
    **dict.fromkeys(key for key in KEYS[:-1] if key not in _FOUND_OUT),
    "behind": 0.0,
    "forming": False,
    "short": 0,
    "gaps": 0,
}
_has = dict.__contains__
_keep = dict.__setitem__


class Facts(Protocol):
    """A finder of the values that cost to know."""

    def find_out(self, record: Any, values: dict[str, Any]) -> dict[str, Any]:
        """Return values of a read, None for what can no longer be known.

        `record` is what the read has noted, `values` are those that were stored.
        """
        ...

    def bars_read(self, record: Any, origin: Origin) -> list[BarsRead]:
        """Return the bars of each stream of a read, whose attrs say `origin`."""
        ...


class Record(Protocol):
    """The notes of a read about its rows, without a reference to them."""

    @property
    def valid(self) -> bool: ...
    @property
    def facts(self) -> Facts: ...


class FrameAttrs(dict[str, Any]):
    """A dict of plain values about a frame's bars, with attribute access.

    Every value is as of the read:

    source       "live" (from the feed's ring), "relayed" (from the ring of a feed that
                 follows a leader on another host), "context", or "mixed"
    feed         the feed's name; None in a backtest and without a feed
    identity     the source of the feed's rows, "protocol/market_type/venue"; None if
                 it is not known, and for a context's rows
    rolled       the timeframe that the rows were made from; None if it is their own
    age          seconds since the stream's last update, None before the first one; of
                 rows whose newest is a context's, since its close, to `current_dt`
                 where there is one; None in a backtest without it. Of relayed rows the
                 link's delay is in it
    relay_age    seconds since the link to the leader brought anything; of a live stream
                 0 once it has brought more since the read. None for rows that are not
                 relayed
    state        the state of the stream's connection; None in a backtest, and for a
                 stream that the feed does not carry
    health       the health of the stream; None as for `state`
    due          closed bars that by the venue's clock should be there and are not yet;
                 None in a backtest
    behind       seconds from the last row's close to that of the newest closed bar that
                 `end_date`, `current_dt` or `align` left out; 0 without one. An empty
                 frame counts from the bound, with `align` from the end of the security
                 that lags most
    late         with `align`, the securities that held the frame back, and by how many
                 seconds
    forming      True if the last row is the forming bar
    short        number of rows fewer than `count` asked for
    gaps         number of bars missing inside the window
    unconfirmed  number of rows that are not known to be final
    polled       number of rows that came by REST while the socket was silent
    revised      number of rows that differ from what was first published
    absent       of a list, its securities that have no row
    valid        False once rows of this frame are being overwritten, asked at
                 each access

    For several securities: the oldest age, the worst health and the state that goes
    with it, and sums.

    `relay_age`, `due`, `unconfirmed`, `polled` and `revised` are found out when they
    are asked for: from the frame's rows or, once these are released, from the ring
    while it has the same rows. After that they are None.

    Two of these are equal if all values are that do not differ from read to read: all
    but `age`, `relay_age`, `due`, `state` and `health`. A pickle leaves those out: they
    are None afterwards. `valid` counts between frames that this process has read.
    """

    __slots__ = ("_base", "_record")

    _record: Record | bool
    _base: object

    @property
    def valid(self) -> bool:
        """False once the feeder has begun to overwrite a row of this frame.

        Always True for a private frame. pandas hands these attrs on to frames that it
        makes of this one; they do not keep its rows in memory.
        """
        record = getattr(self, "_record", True)
        return record if isinstance(record, bool) else record.valid

    @property
    def keeps_rows(self) -> bool:
        """True if these attrs, which `make_attrs` has made, hold a frame's rows."""
        return self._base is not None

    def keep_alive(self, base: object) -> None:
        """Hold a reference to `base` for the lifetime of these attrs."""
        self._base = base

    def _find_out(self) -> None:
        """Store the values that are stored when they are asked for."""
        if _has(self, "late"):
            return
        found: dict[str, Any] = {"late": {}, "absent": []}
        record = getattr(self, "_record", True)
        if not isinstance(record, bool):
            found |= record.facts.find_out(record, self)
        for key in _FOUND_OUT:  # `late` is the last one: another thread looks at it
            if not _has(self, key):
                _keep(self, key, found.get(key))

    def _plain(self) -> dict[str, Any]:
        """Return all values as of now, in their order."""
        self._find_out()
        values: dict[str, Any] = dict.fromkeys(KEYS)
        values.update(dict.items(self))
        values["valid"] = self.valid
        return values

    def __missing__(self, key: object) -> Any:
        if key == "valid":
            return self.valid
        if key in _FOUND_OUT:
            self._find_out()
        if _has(self, key):
            return self[key]  # type: ignore[index] # a str, as it is there
        if key in KEYS:
            return None  # it was removed
        raise KeyError(_unknown(key, self))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(error.args[0]) from None

    def __contains__(self, key: object) -> bool:
        return _has(self, key) or key in KEYS

    def __len__(self) -> int:
        return len(self._plain())

    def get(self, key: str, default: Any = None) -> Any:
        return self[key] if key in self else default  # noqa: SIM401 # this is it

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *map(str, self._plain())})

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, dict):
            return False
        if _is_read(self) and _is_read(other) and self.valid != other["valid"]:
            return False  # a frame made of both would not be valid
        return _steady(self) == _steady(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # as a dict's

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        # pandas copies attrs into every frame derived from this one.
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        values = self._plain()
        return restore, (values | dict.fromkeys(VOLATILE & values.keys()),)


def _of_all_values(name: str) -> Any:
    """Return the method of a dict with all values."""
    method = getattr(dict, name)

    def call(self: FrameAttrs, *given: Any, **named: Any) -> Any:
        return method(self._plain(), *given, **named)

    call.__name__ = name
    call.__doc__ = method.__doc__
    return call


def _of_stored_values(name: str) -> Any:
    """Return the method that changes a dict, called once all values are stored."""
    method = getattr(dict, name)

    def call(self: FrameAttrs, *given: Any, **named: Any) -> Any:
        self._find_out()
        return method(self, *given, **named)

    call.__name__ = name
    call.__doc__ = method.__doc__
    return call


# dict() and ** copy a dict's table itself unless its class has an __iter__ of its own.
for _name in ("__iter__", "__reversed__", "__repr__", "__or__", "__ror__"):
    setattr(FrameAttrs, _name, _of_all_values(_name))
for _name in ("keys", "values", "items", "copy"):
    setattr(FrameAttrs, _name, _of_all_values(_name))
for _name in ("__ior__", "pop", "popitem", "setdefault", "update"):
    setattr(FrameAttrs, _name, _of_stored_values(_name))


def _is_read(values: dict[str, Any]) -> bool:
    """Return True for the attrs of a read, False for a pickle's and a plain dict."""
    return not isinstance(getattr(values, "_record", True), bool)


def _steady(values: dict[str, Any]) -> dict[str, Any]:
    left_out = VOLATILE | {"valid"}
    return {key: value for key, value in values.items() if key not in left_out}


def _unknown(key: object, values: dict[str, Any]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 # for errors alone

    known = list(values.keys())
    near = get_close_matches(str(key)[:64], map(str, known), 1)
    hint = (
        f"did you mean {near[0]!r}?" if near else f"it has: {' '.join(map(str, known))}"
    )
    return f"attrs['shmfeed'] has no {key!r}; {hint}"


def make_attrs(record: Record | bool, values: dict[str, Any]) -> FrameAttrs:
    """Return attrs of these values.

    `record` is what the read has noted, or a constant `valid`. What `values` lack is
    found out from the record, or is what a whole frame has.
    """
    attrs = FrameAttrs(PLAIN)
    dict.update(attrs, values)
    attrs._record = record
    attrs._base = None
    return attrs


def restore(values: dict[str, Any]) -> FrameAttrs:
    """Return attrs from a pickle: the values, and `valid` as of the pickling."""
    stored = dict(values)
    valid = bool(stored.pop("valid", True))
    return make_attrs(valid, stored)


class CombinedFacts:
    """The facts of several streams: the sums of theirs."""

    def find_out(
        self, record: "CombinedRecord", _values: dict[str, Any]
    ) -> dict[str, Any]:
        keys = ("due", "unconfirmed", "polled", "revised")
        sums = {key: _sum(part[key] for part in record.parts) for key in keys}
        ages = [age for part in record.parts if (age := part["relay_age"]) is not None]
        return sums | {"late": record.late, "relay_age": max(ages, default=None)}

    def bars_read(self, record: "CombinedRecord", _origin: Origin) -> list[BarsRead]:
        found = [read for part in record.parts for read in bars_of(part)]
        return [read for read in found if read.has_some]


class CombinedRecord:
    """The attrs of the streams that a private frame holds, and its `late`."""

    facts = CombinedFacts()
    valid = True

    def __init__(self, parts: list[FrameAttrs], late: dict[str, float]) -> None:
        self.parts = parts
        self.late = late

    @property
    def key(self) -> tuple[Any, ...]:
        return tuple((*origin_of(part), *record_of(part).key) for part in self.parts)

    @property
    def nbytes(self) -> int:
        return sum(record_of(part).nbytes for part in self.parts)


def record_of(attrs: FrameAttrs) -> Any:
    """Return what the read of a frame has noted; a bool if that was lost."""
    return getattr(attrs, "_record", True)


def origin_of(attrs: FrameAttrs) -> Origin:
    """Return the origin of a frame's bars, without their stream."""
    return Origin(*(attrs[key] for key in ORIGIN_KEYS))


def bars_of(attrs: FrameAttrs) -> list[BarsRead]:
    """Return the bars of each stream of a frame, as they were read.

    Raise LookupError if the attrs have lost what the read has noted.
    """
    record = record_of(attrs)
    if isinstance(record, bool):
        raise LookupError  # noqa: TRY004 # of a frame, not of an argument
    read: list[BarsRead] = record.facts.bars_read(record, origin_of(attrs))
    return read


def combine(
    parts: list[FrameAttrs],
    late: dict[str, float] | None = None,
) -> FrameAttrs:
    """Return the attrs of a private frame that holds several streams.

    `late` has the securities that held an aligned frame back.
    """
    sources = {part["source"] for part in parts}
    ages = [part["age"] for part in parts if part["age"] is not None]
    worst = max(parts, key=lambda part: _rank(part["health"]))
    return make_attrs(
        CombinedRecord(parts, late or {}),
        {
            "source": sources.pop() if len(sources) == 1 else "mixed",
            "feed": join_names(part["feed"] for part in parts),
            "identity": join_names(part.get("identity") for part in parts),
            "rolled": join_names(part.get("rolled") for part in parts),
            "age": max(ages, default=None),
            "state": worst["state"],
            "health": worst["health"],
            "behind": max(part["behind"] for part in parts),
            "forming": any(part["forming"] for part in parts),
            "short": sum(part["short"] for part in parts),
            "gaps": sum(part["gaps"] for part in parts),
        },
    )


def join_names(names: Iterable[str | None]) -> str | None:
    """Return the names, each once, as one text, None without one."""
    return ",".join(dict.fromkeys(name for name in names if name)) or None


def _sum(counts: Iterable[int | None]) -> int | None:
    """Return the sum, None if one is not known."""
    known = list(counts)
    return None if None in known else sum(filter(None, known))


def _rank(health: Health | None) -> int:
    return -2 if health is None else health_rank(health)
