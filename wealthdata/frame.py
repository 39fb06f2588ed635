"""Puts a DataFrame together from arrays as they are. The only user of pandas' insides.

Two ways with one result. The public constructors take 20 us and more for a frame of
any size; its parts put together directly take 2. The direct way is tried once, when
this module is loaded: on frames of known content it must give what the public way
gives, and its parts must have all attributes, of the same types, that pandas' own
makers set. Where pandas' insides have moved, the public way serves.

A shared frame lies over read-only memory. pandas with copy-on-write copies a block
before it writes if someone else holds it, and raises if no one seems to: an anchor
that never goes away makes every shared block one that is held.

Bars as pandas DataFrames.
"""

import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd

from shmfeed.bar import DEFAULT_FIELDS, FLOAT_FIELDS
from wealthdata.attrs import Reading
from wealthdata.columns import Datetimes, Floats, Ints, Rows, from_bars
from wealthdata.history import parse_bars

TIME: Any = pd.to_datetime(["2024-01-01"]).dtype  # datetime64 in pandas' default unit
# An array without dimensions: numpy takes half a microsecond to make one of an int.
_PER_MS = np.array({"ms": 1, "us": 1_000, "ns": 1_000_000}[np.datetime_data(TIME)[0]])
_new = object.__new__


class Piece(NamedTuple):
    """Columns that are one block: where they stand, and their rows of the floats."""

    columns: slice
    rows: slice


def pieces(rows: list[int]) -> tuple[Piece, ...]:
    """The rows in the order asked, as few runs of one stride as there are."""
    found, start = [], 0
    while start < len(rows):
        end = start + 1
        step = max(1, rows[end] - rows[start]) if end < len(rows) else 1
        while end < len(rows) and rows[end] - rows[end - 1] == step:
            end += 1
        run = slice(rows[start], rows[end - 1] + 1, step)
        found.append(Piece(slice(start, end), run))
        start = end
    return tuple(found)


def sealed(fields: Sequence[str]) -> Any:
    """The fields as an index whose names, which frames share, cannot be written to."""
    columns: Any = pd.Index(list(fields))
    array = getattr(columns, "_data", None)
    extension: Any = pd.api.extensions.ExtensionArray
    if isinstance(array, extension):
        if hasattr(array, "_readonly"):
            array._readonly = True  # heeded also where the array is handed out
        else:  # of Arrow's, in a pandas 2 that was told to infer them
            columns = pd.Index(list(fields), dtype=object)
    np.asarray(columns).flags.writeable = False
    return columns


def times(close_time: Ints) -> Datetimes:
    """Milliseconds as datetimes of dtype TIME; always a copy."""
    made: Datetimes = (close_time * _PER_MS).view(TIME)
    return made


class Way(Protocol):
    """How frames of float columns are put together, for one layout of them."""

    def __init__(self, columns: Any, layout: tuple[Piece, ...]) -> None: ...

    def frame(
        self, floats: Floats, times: Datetimes, reading: Reading, shared: bool
    ) -> pd.DataFrame:
        """A frame over these (6, n) floats, the reading in its attrs.

        Its index, over the times, of dtype TIME, and its columns are its own. `shared`
        says that the floats are read-only memory that others have, too; a frame over
        others may be written to.
        """
        ...


class PublicWay:
    """Through the public constructors."""

    def __init__(self, columns: Any, layout: tuple[Piece, ...]) -> None:
        self._columns = columns
        self._layout = layout

    def frame(
        self, floats: Floats, times: Datetimes, reading: Reading, shared: bool
    ) -> pd.DataFrame:
        index = pd.DatetimeIndex(times, copy=False)
        if len(self._layout) == 1:
            block = floats[self._layout[0].rows].T
            frame = pd.DataFrame(block, index=index, copy=False)
        else:
            rows = [row for piece in self._layout for row in floats[piece.rows]]
            frame = pd.DataFrame(dict(enumerate(rows)), index=index, copy=False)
        frame.columns = self._columns.view()
        if shared:
            reading.keep(frame.copy(deep=False))
        frame.attrs["shmfeed"] = reading
        return frame


class _Anchor:
    """Holds, in pandas' eyes, every shared block; lives as long as the process."""


_ANCHOR = _Anchor()


class _Insides(NamedTuple):
    """What the direct way uses of pandas; loaded, it raises where that has moved."""

    block: Any
    placement: Any
    manager: Any
    references: Any  # who else holds a block or an index's values
    array: Any  # a DatetimeArray, from datetimes and their dtype
    flags: Any
    caches: bool  # whether a frame has a cache of its columns, as up to 2
    frequency: bool  # whether an array has a frequency, as up to 3.0


def _load() -> _Insides:
    blocks: Any = import_module("pandas.core.internals.blocks")
    times: Any = import_module("pandas.core.arrays.datetimes").DatetimeArray
    return _Insides(
        # The class for floats bears another name in pandas 2.
        getattr(blocks, "NumericBlock", None) or blocks.NumpyBlock,
        blocks.BlockPlacement,
        import_module("pandas.core.internals.managers").BlockManager,
        import_module("pandas._libs.internals").BlockValuesRefs,
        # Its own maker only asserts, for as long again, what holds here.
        super(times, times)._simple_new,
        import_module("pandas.core.flags").Flags,
        "_item_cache" in vars(pd.DataFrame()),
        "_freq" in vars(times._simple_new(np.array([], TIME), dtype=TIME)),
    )


class DirectWay:
    """Part by part, each with what pandas' own makers give it."""

    def __init__(self, columns: Any, layout: tuple[Piece, ...]) -> None:
        insides = _load()
        self._block = insides.block
        self._manager = insides.manager
        self._references = insides.references
        self._array = insides.array
        self._flags = insides.flags
        self._caches = insides.caches
        self._frequency = insides.frequency
        self._layout = [(insides.placement(p.columns), p.rows) for p in layout]
        self._anchor = weakref.ref(_ANCHOR)
        columns.get_loc(columns[0])  # what it looks up in is made before it is shared
        self._columns = columns = columns.view()
        columns._references.referenced_blocks.append(self._anchor)

    def frame(
        self, floats: Floats, times: Datetimes, reading: Reading, shared: bool
    ) -> pd.DataFrame:
        new_block = self._block
        blocks = []
        for placement, rows in self._layout:
            block = new_block(floats[rows], placement, 2)
            if shared:
                block.refs.referenced_blocks.append(self._anchor)
            blocks.append(block)
        axes = [self._view_of_columns(), self._index(times)]
        frame: Any = _new(pd.DataFrame)
        flags = _new(self._flags)
        flags._allows_duplicate_labels = True
        flags._obj = weakref.ref(frame)
        state = frame.__dict__  # a frame's own setattr looks for columns
        state["_mgr"] = self._manager(tuple(blocks), axes, False)
        state["_attrs"] = {"shmfeed": reading}
        state["_flags"] = flags
        if self._caches:
            state["_is_copy"] = None
            state["_item_cache"] = {}
        made: pd.DataFrame = frame
        return made

    def _view_of_columns(self) -> Any:
        """As `Index.view` makes it, but that the anchor stands for all who share the
        values: what is made of them copies before it writes."""
        columns = self._columns
        view: Any = _new(pd.Index)
        view._data = columns._data
        view._name = None
        view._cache = columns._cache
        view._id = columns._id
        view._references = columns._references
        return view

    def _index(self, times: Datetimes) -> Any:
        array = self._array(times, TIME)
        if self._frequency:
            array._freq = None
        index: Any = _new(pd.DatetimeIndex)
        index._data = array
        index._name = None
        index._cache = {}
        index._id = object()
        index._references = references = self._references()
        references.add_index_reference(index)
        return index


def choose() -> type[Way]:
    """The direct way, if it gives what the public one gives."""
    with suppress(ImportError, AttributeError, TypeError, ValueError, AssertionError):
        if agree(DirectWay, PublicWay) and whole(DirectWay):
            return DirectWay
    return PublicWay


_NAMES = ("a", "b", "c", "d", "e", "f")


def made(way: type[Way], rows: list[int], floats: Floats) -> pd.DataFrame:
    """The frame of these rows of the floats, shared, with a time a column of them."""
    columns = sealed([_NAMES[row] for row in rows])
    times = np.arange(floats.shape[1]).astype(TIME)
    return way(columns, pieces(rows)).frame(floats, times, Reading(), shared=True)


def agree(one: type[Way], other: type[Way]) -> bool:
    """Whether both give the same frames, over the memory given, never changing it."""
    for count in (0, 1, 3):
        floats = np.arange(6.0 * count).reshape(6, count)
        floats.flags.writeable = False
        for rows in ([0, 1, 2, 3, 4], [0, 3, 1], [5]):
            frames = [made(way, rows, floats) for way in (one, other)]
            if not (frames[0].equals(frames[1]) and frames[0].attrs == frames[1].attrs):
                return False
            if count and not all(_spares(frame, floats) for frame in frames):
                return False
    return True


def _spares(frame: pd.DataFrame, floats: Floats) -> bool:
    """Whether it lies over the floats, and a write to it does not reach them."""
    shares = all(np.shares_memory(frame[name], floats) for name in frame.columns)
    before = floats.copy()
    with suppress(ValueError):  # without copy-on-write the memory refuses
        frame.iloc[0, 0] = -1.0
    return shares and bool((floats == before).all())


def whole(way: type[Way]) -> bool:
    """Whether each part has the attributes that pandas' own makers give it."""
    frame: Any = made(way, [0, 1], np.zeros((6, 2)))
    manager, index, columns = frame._mgr, frame._mgr.axes[1], frame._mgr.axes[0]
    array = index._data
    own: Any = type(frame)._from_mgr(manager, manager.axes)
    pairs = [
        (array, type(array)._simple_new(array._ndarray, dtype=TIME)),
        (index, type(index)._simple_new(array)),
        (columns, columns._view()),
        (frame, own),
        (frame._flags, own._flags),
    ]
    return all(_state(ours) == _state(theirs) for ours, theirs in pairs)


def _state(thing: object) -> dict[str, type]:
    return {name: type(value) for name, value in vars(thing).items()}


WAY = choose()
_MakeFrame = Callable[[Floats, Datetimes, Reading, bool], pd.DataFrame]


class Layout:
    """The columns of a frame: the fields in the order asked."""

    def __init__(self, fields: tuple[str, ...]) -> None:
        self.fields = fields
        self.only_floats = all(field in FLOAT_FIELDS for field in fields)
        rows = [FLOAT_FIELDS.index(f) for f in fields if f in FLOAT_FIELDS]
        # Over (6, n) floats as they are; where there are float fields only.
        self.frame: _MakeFrame = WAY(sealed(fields), pieces(rows)).frame

    def private(
        self, rows: Rows, first: int, last: int, reading: Reading
    ) -> pd.DataFrame:
        """A writable frame with copies of rows `first` to `last`, last exclusive."""
        window = slice(first, last)
        closes = times(rows.close_time[window])
        if self.only_floats:
            return self.frame(rows.floats[:, window].copy(), closes, reading, False)
        index = pd.DatetimeIndex(closes, copy=False)
        named = {field: rows[field][window] for field in self.fields}
        frame = pd.DataFrame(named, index=index, copy=True)
        frame.attrs["shmfeed"] = reading
        return frame


_layouts: dict[tuple[str, ...], Layout] = {}


def layout_of(fields: tuple[str, ...]) -> Layout:
    """The layout of these fields, made once."""
    layout = _layouts.get(fields)
    if layout is None:
        layout = _layouts[fields] = Layout(fields)
    return layout


def long_frame(
    fields: tuple[str, ...],
    parts: Sequence[tuple[str, Rows, int, int]],
    reading: Reading,
) -> pd.DataFrame:
    """Several streams, one below the other: columns time, code and the fields.

    `parts` are symbol, rows, first and last row; one without rows leaves no trace.
    """
    windows = [(rows, slice(first, last)) for _, rows, first, last in parts]
    codes = [symbol for symbol, _, first, last in parts for _ in range(first, last)]
    columns: dict[str, Any] = {
        "time": times(_stack("close_time", windows)),
        "code": pd.Series(codes, dtype=str),
    }
    columns.update((field, _stack(field, windows)) for field in fields)
    frame = pd.DataFrame(columns)
    frame.attrs["shmfeed"] = reading
    return frame


def _stack(field: str, windows: Iterable[tuple[Rows, slice]]) -> Any:
    return np.concatenate([rows[field][window] for rows, window in windows])


def bars_to_dataframe(bars: object) -> pd.DataFrame:
    """Bars (Bar, objects or dicts) as `get_price` shows them, in the order given."""
    rows = from_bars(parse_bars(bars, None, "bars"))
    index = pd.DatetimeIndex(times(rows.close_time), copy=False)
    named = {field: rows[field] for field in DEFAULT_FIELDS}
    return pd.DataFrame(named, index=index, copy=True)
