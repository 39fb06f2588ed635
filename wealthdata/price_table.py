"""The usual calls of `get_price` and `get_bars`, served without any Python code.

A strategy calls `get_price` once a bar, when the CPU's caches are full of its own data.
The code and the objects that a call touches then decide what it costs, and most of them
are Python's. The C core's PriceTable holds prepared reads by their arguments; one table
holds those of frames, another those of arrays. It serves a *usual* call, whose result
depends on the ring alone, and returns None for any other. `query.CachedQuery` is the
definition: it serves the other calls, and all calls without the C core, with the same
results.
"""

from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from shmfeed.accepted_feeder import AcceptedFeeder
from shmfeed.bar import step
from shmfeed.feed import Ring, compiled_core
from shmfeed.health import quiet_ns
from wealthdata.attrs import PLAIN, Facts
from wealthdata.facts import RingFacts
from wealthdata.labels import LABELS
from wealthdata.reactions import Reactions
from wealthdata.times import has_dates

if TYPE_CHECKING:
    from wealthdata.choices import Choices

StreamId = tuple[str, str, str]  # feed, symbol, timeframe


class PreparedRead(NamedTuple):
    """A read without its arguments.

    Attributes:
        ring: The ring.
        builder: The compiled builder of its frames; a LongBuilder for a list of one, an
            ArrayBuilder for structured arrays.
        attrs: The attrs of each frame; `gaps` and `short` replace these where they are
            not 0. What is None is found out from `facts`.
        facts: The finder of values that cost to know.
        step: The timeframe in ms, 0 for months.
        quiet: ns without an update until the stream is no longer live.
        started: The start of the feeder whose identity was checked.
        max_age: ns; rows of an older stream are not served.
        heeds: The reactions other than "ignore", a bit for each: rows with a gap, few
            rows, and a newest row that may change are not served then. Python decides
            what becomes of them. A call's own arguments stand for these two.
        stream: Feed, symbol and timeframe.
        label: The label of a call that gives none, its place in `labels.LABELS`.
        has_dates: True if a bar lasts a day or longer: a date is a whole day then.
        copies: True if each frame is private memory.
    """

    ring: Ring
    builder: Any
    attrs: dict[str, Any]
    facts: Facts
    step: int
    quiet: int
    started: int
    max_age: int
    heeds: int
    stream: StreamId
    label: int
    has_dates: bool
    copies: bool


_EVER = (1 << 63) - 1


def limits_of(reactions: Reactions) -> tuple[int, int]:
    """Return `max_age` and `heeds` of a read with these reactions."""
    seconds = reactions.max_age
    heeds = [on != "ignore" for on in reactions[2:]]
    return (
        _EVER if seconds is None else min(_EVER, round(min(seconds, 1e9) * 1e9)),
        sum(heeded << bit for bit, heeded in enumerate(heeds)),
    )


def prepare_read(
    ring: Ring,
    builder: Any,
    attrs: dict[str, Any],
    stream: StreamId,
    started: int,
    choices: "Choices",
) -> PreparedRead | None:
    """Return a read of a ring's own stream by these choices of the process.

    Return None if the C core cannot serve it, without a compiled builder.
    """
    if builder is None:
        return None
    timeframe = ring.timeframe
    return PreparedRead(
        ring,
        builder,
        attrs,
        RingFacts(ring),
        step(timeframe),
        quiet_ns(timeframe),
        started,
        *limits_of(choices.reactions),
        stream,
        LABELS.index(choices.label),
        has_dates(timeframe),
        choices.copy,
    )


def usual_attrs(feed: str, feeder: AcceptedFeeder) -> dict[str, Any]:
    """Return the attrs of a usual call, in their order."""
    return PLAIN | {
        "source": feeder.source,
        "feed": feed,
        "identity": feeder.identity,
        "state": "connected",
        "health": "live",
    }


class ReadWindow(NamedTuple):
    """The rows that a read has given: their numbers in an epoch, `last` exclusive.

    `own` is a copy of the last rows with a forming bar, None without.
    """

    stream: StreamId
    attrs: dict[str, Any]
    facts: Facts
    first: int
    last: int
    epoch: int
    own: Any


class PriceTable(Protocol):
    """Prepared reads by the arguments (security, frequency, fields, feed).

    A security is a str, or a list of one, which the key has as a tuple.
    """

    def read(self, given: tuple[object, ...], /) -> Any:
        """Return the frame, or the array, of a usual call; None if Python must decide.

        `given` has the arguments of the call but the dates, as ReadArguments has them.
        Raise BadArgumentError or BusyRingError.
        """
        ...

    def read_range(self, given: tuple[object, ...], start: Any, end: Any, /) -> Any:
        """Return the frame of a usual call with dates, or None if Python must decide.

        `start` and `end` are those of the call, None for no bound. Raise
        BusyRingError.
        """
        ...

    def version(self) -> object:
        """Return an object that equals the last one until the environment changes."""
        ...

    def trust(self, version: object, /) -> None:
        """Serve calls while the environment is of this version."""
        ...

    def add(self, arguments: object, prepared: PreparedRead, /) -> None:
        """Serve calls with these arguments from here on."""
        ...

    def clear(self) -> None:
        """Serve no call until reads are added again."""
        ...

    def keep_reads(self) -> None:
        """Put the newest bars that tasks have read into the dicts of these tasks."""
        ...

    def take_windows(self, bars: dict[StreamId, int], /) -> list[tuple[Any, ...]]:
        """Return the ReadWindow of each read that a task has used last; forget them.

        `bars` is the task's dict, as `bars_of_task` returns it. A window is the widest
        one that ends with the row which the read has given last.
        """
        ...


class NoTable:
    """The table of a process without the C core: Python decides each call."""

    def read(self, *_: object) -> None:
        return None

    read_range = read

    def version(self) -> object:
        return object()  # the environment may have changed

    def trust(self, _version: object, /) -> None:
        pass

    def add(self, _arguments: object, _prepared: PreparedRead, /) -> None:
        pass

    def clear(self) -> None:
        pass

    def keep_reads(self) -> None:
        pass

    def take_windows(self, _bars: dict[StreamId, int], /) -> list[tuple[Any, ...]]:
        return []


class _Opened:
    """The tables of this process: of frames, and of arrays."""

    table: PriceTable = NoTable()
    arrays: PriceTable = NoTable()


class OwnContexts(NamedTuple):
    """The contexts of threads and tasks, as `contexts_in_force` keeps them.

    Attributes:
        variable: Of the current thread or task: None, `read_live`, or a setting.
        read_live: The mark of one that has read live bars and has set no context. A
            usual call sets it.
        setting: The type of a setting. A call is a usual one while the context is as
            its `known` says, and adds no row and hides none.
        settings: All settings of this process. While there are any, a call without one
            of its own is not a usual one.
    """

    variable: ContextVar[Any]
    read_live: object
    setting: type
    settings: dict[int, Any]


class RangeParts(NamedTuple):
    """The parts that the C core needs for a range.

    Attributes:
        texts: The moments of texts that `to_moment` has read.
        to_moment: The function of `times`.
        behind_warned: The streams of which BehindWarning was given. Python decides a
            call that may have to warn.
    """

    texts: dict[Any, Any]
    to_moment: Callable[[str, object], tuple[int, bool]]
    behind_warned: set[StreamId]


def open_table(
    environment: dict[Any, Any] | None,
    contexts: OwnContexts,
    must_be_empty: tuple[set[Any], ...],
    attrs: type[dict[str, Any]],
    most_age: float,
    bars_of_task: Callable[[], dict[StreamId, int]],
    ranges: RangeParts,
) -> PriceTable:
    """Open the tables of this process at the first call; return that of frames.

    Args:
        environment: The dict inside os.environ. Calls are served while it is as it was
            at the last `trust`. None if there is no such dict: Python then decides
            each call.
        contexts: The context of each thread and task.
        must_be_empty: Only while all of these are empty is a call a usual one.
        attrs: The class FrameAttrs.
        most_age: Seconds. A call for a stream without an update for longer is not a
            usual one.
        bars_of_task: Called in the thread of a read: the dict of close times by stream
            in which the bars stand that its task has read.
        ranges: The parts for reads of a range.
    """
    is_open = not isinstance(_Opened.table, NoTable)
    if compiled_core is not None and environment is not None and not is_open:
        record = vars(attrs)["_record"]
        _Opened.table, _Opened.arrays = (
            compiled_core.PriceTable(
                *(environment, contexts, must_be_empty, attrs),
                *(record, float(most_age), bars_of_task, ranges),
            )
            for _ in range(2)
        )
    return _Opened.table


def read_usual(given: tuple[object, ...], start: object, end: object) -> Any:
    """Return the frame of a call, as `get_price` asks for it; None if not a usual one.

    The arguments are those of `PriceTable.read_range`.
    """
    table = _Opened.table
    if start is None and end is None:
        return table.read(given)
    return table.read_range(given, start, end)


def array_table() -> PriceTable:
    """Return the table of the reads that give arrays, once the tables are open."""
    return _Opened.arrays


def version() -> object:
    """Return an object that equals the last one until the environment changes."""
    return _Opened.table.version()


def trust(version: object) -> None:
    """Let the tables serve calls while the environment is of this version."""
    _Opened.table.trust(version)
    _Opened.arrays.trust(version)


def add(arguments: object, prepared: PreparedRead | None) -> None:
    """Let a table serve calls with these arguments, if the C core can do so."""
    if prepared is None or compiled_core is None:
        return
    of_arrays = isinstance(prepared.builder, compiled_core.ArrayBuilder)
    (_Opened.arrays if of_arrays else _Opened.table).add(arguments, prepared)


def clear() -> None:
    """Let Python decide the next call of each read: its feed may be another now."""
    _Opened.table.clear()
    _Opened.arrays.clear()


def keep_reads() -> None:
    """Put the newest bars that tasks have read into the dicts of these tasks."""
    _Opened.table.keep_reads()
    _Opened.arrays.keep_reads()


def take_windows(bars: dict[StreamId, int]) -> list[ReadWindow]:
    """Return what each read has given last to the task of this dict; forget them."""
    found = [*_Opened.table.take_windows(bars), *_Opened.arrays.take_windows(bars)]
    return [ReadWindow(*window) for window in found]
