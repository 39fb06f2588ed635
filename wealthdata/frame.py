"""DataFrames built from arrays of bars, without copying where that is possible.

pandas' private names are used here and in `long_frame` only. Three builders make the
same frame: the public constructors take 20 us and more for a frame of any size, the
direct builder, which makes its parts, takes 2 us, and the direct builder's twin in C
less. The last two are checked when this module is loaded: for known arrays they must
build the frame that the public one builds, and each part must have the attributes, with
the types, that pandas' own constructors set. The fastest one that passes is used.

A shared frame lies over read-only memory. With copy-on-write pandas copies a block
before a write if the block has another holder, and otherwise writes in place, which
raises on read-only memory. So every shared block gets a permanent second holder, the
anchor.
"""

import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import pandas as pd

from shmfeed.bar import DEFAULT_FIELDS, FLOAT_FIELDS, Field, datetimes
from shmfeed.feed import compiled_core
from wealthdata.attrs import FrameAttrs
from wealthdata.bar_history import parse_bars
from wealthdata.columns import BarColumns, Datetimes, Floats, Ints, from_bars
from wealthdata.labels import Labels

TIME: Any = pd.to_datetime(["2024-01-01"]).dtype  # datetime64 in pandas' default unit
_new = object.__new__
_Build = Callable[[Floats, Datetimes, FrameAttrs, bool], pd.DataFrame]


class BlockSpan(NamedTuple):
    """Adjacent columns of a frame that are one strided run of rows of the floats."""

    columns: slice
    rows: slice


def block_spans(rows: list[int]) -> tuple[BlockSpan, ...]:
    """Return the rows, in their order, as the fewest runs of one stride."""
    spans, start = [], 0
    while start < len(rows):
        end = start + 1
        step = max(1, rows[end] - rows[start]) if end < len(rows) else 1
        while end < len(rows) and rows[end] - rows[end - 1] == step:
            end += 1
        run = slice(rows[start], rows[end - 1] + 1, step)
        spans.append(BlockSpan(slice(start, end), run))
        start = end
    return tuple(spans)


def readonly_index(names: Sequence[str]) -> Any:
    """Return the names as an index over read-only memory, for many frames to share."""
    columns: Any = pd.Index(list(names))
    array = getattr(columns, "_data", None)
    extension: Any = pd.api.extensions.ExtensionArray
    if isinstance(array, extension):
        if hasattr(array, "_readonly"):
            array._readonly = True  # arrays taken from the index inherit it
        else:  # Arrow strings, in pandas 2 with future.infer_string
            columns = pd.Index(list(names), dtype=object)
    np.asarray(columns).flags.writeable = False
    return columns


def to_datetimes(times: Ints) -> Datetimes:
    """Return milliseconds as a new array of dtype TIME."""
    return datetimes(times, TIME)


class FrameBuilder(Protocol):
    """A builder of frames with the same float columns."""

    def __init__(self, columns: Any, spans: tuple[BlockSpan, ...]) -> None: ...

    def build(
        self, floats: Floats, times: Datetimes, attrs: FrameAttrs, shared: bool
    ) -> pd.DataFrame:
        """Return a frame over these (6, n) floats, indexed by the times.

        The frame's index and columns are its own objects. `shared` means that the
        floats are read-only memory of the ring; a frame over other floats is writable.
        """
        ...


class PublicFrameBuilder:
    """A builder that calls pandas' public constructors."""

    def __init__(self, columns: Any, spans: tuple[BlockSpan, ...]) -> None:
        self._columns = columns
        self._spans = spans

    def build(
        self, floats: Floats, times: Datetimes, attrs: FrameAttrs, shared: bool
    ) -> pd.DataFrame:
        index = pd.DatetimeIndex(times, copy=False)
        if len(self._spans) == 1:
            block = floats[self._spans[0].rows].T
            frame = pd.DataFrame(block, index=index, copy=False)
        else:
            rows = [row for span in self._spans for row in floats[span.rows]]
            frame = pd.DataFrame(dict(enumerate(rows)), index=index, copy=False)
        frame.columns = self._columns.view()
        if shared:
            attrs.keep_alive(frame.copy(deep=False))
        frame.attrs["shmfeed"] = attrs
        return frame


class _Anchor:
    """The permanent second holder of every shared block."""


_ANCHOR = _Anchor()


class _PandasPrivates(NamedTuple):
    """The private parts of pandas that the direct builder uses."""

    block: Any
    placement: Any
    manager: Any
    references: Any  # counts the holders of a block or of an index's values
    array: Any  # makes a DatetimeArray from datetimes and their dtype
    flags: Any
    caches_columns: bool  # a frame has a cache of its columns (pandas 2)
    has_frequency: bool  # an array has a frequency (up to pandas 3.0)


def _load_privates() -> _PandasPrivates:
    blocks: Any = import_module("pandas.core.internals.blocks")
    times: Any = import_module("pandas.core.arrays.datetimes").DatetimeArray
    return _PandasPrivates(
        # pandas 2 has another name for the class of float blocks.
        getattr(blocks, "NumericBlock", None) or blocks.NumpyBlock,
        blocks.BlockPlacement,
        import_module("pandas.core.internals.managers").BlockManager,
        import_module("pandas._libs.internals").BlockValuesRefs,
        # DatetimeArray's own _simple_new takes twice as long for assertions that
        # hold here.
        super(times, times)._simple_new,
        import_module("pandas.core.flags").Flags,
        "_item_cache" in vars(pd.DataFrame()),
        "_freq" in vars(times._simple_new(np.array([], TIME), dtype=TIME)),
    )


def view_columns(columns: Any) -> Any:
    """Return a view as Index.view does, but with the index's own references."""
    view: Any = _new(pd.Index)
    view._data = columns._data
    view._name = None
    view._cache = columns._cache
    view._id = columns._id
    view._references = columns._references
    return view


def put_together(
    manager: Any, attrs: FrameAttrs, flags_type: Any, caches_columns: bool
) -> pd.DataFrame:
    """Return a frame with these private parts of pandas."""
    frame: Any = _new(pd.DataFrame)
    flags = _new(flags_type)
    flags._allows_duplicate_labels = True
    flags._obj = weakref.ref(frame)
    state = frame.__dict__  # a frame's __setattr__ looks for a column first
    state["_mgr"] = manager
    state["_attrs"] = {"shmfeed": attrs}
    state["_flags"] = flags
    if caches_columns:
        state["_is_copy"] = None
        state["_item_cache"] = {}
    built: pd.DataFrame = frame
    return built


class DirectFrameBuilder:
    """A builder that makes each part as pandas' own constructors make it."""

    def __init__(self, columns: Any, spans: tuple[BlockSpan, ...]) -> None:
        privates = _load_privates()
        self._block = privates.block
        self._manager = privates.manager
        self._references = privates.references
        self._array = privates.array
        self._flags = privates.flags
        self._frame_type = pd.DataFrame
        self._index_type = pd.Index
        self._time_index_type = pd.DatetimeIndex
        self._dtype = TIME
        self._caches_columns = privates.caches_columns
        self._has_frequency = privates.has_frequency
        self._spans = [(privates.placement(s.columns), s.rows) for s in spans]
        self._anchor = weakref.ref(_ANCHOR)
        # Frames share the index's hash table, so it is built here, by one thread.
        columns.get_loc(columns[0])
        self._columns = columns = columns.view()
        columns._references.referenced_blocks.append(self._anchor)

    def build(
        self, floats: Floats, times: Datetimes, attrs: FrameAttrs, shared: bool
    ) -> pd.DataFrame:
        new_block = self._block
        blocks = []
        for placement, rows in self._spans:
            block = new_block(floats[rows], placement, 2)
            if shared:
                block.refs.referenced_blocks.append(self._anchor)
            blocks.append(block)
        # The columns' references have the anchor: anything made from a view of them
        # copies its data before a write.
        axes = [view_columns(self._columns), self._time_index(times)]
        manager = self._manager(tuple(blocks), axes, False)
        return put_together(manager, attrs, self._flags, self._caches_columns)

    def _time_index(self, times: Datetimes) -> Any:
        array = self._array(times, TIME)
        if self._has_frequency:
            array._freq = None
        index: Any = _new(pd.DatetimeIndex)
        index._data = array
        index._name = None
        index._cache = {}
        index._id = object()
        index._references = references = self._references()
        references.add_index_reference(index)
        return index


class CompiledFrameBuilder:
    """The C core's twin of the direct builder, which hands its parts over."""

    def __init__(self, columns: Any, spans: tuple[BlockSpan, ...]) -> None:
        definition = DirectFrameBuilder(columns, spans)
        self.compiled = cast("Any", compiled_core).FrameBuilder(definition)
        self.build: _Build = self.compiled.build


DIRECT_BUILDERS: tuple[type[FrameBuilder], ...] = (
    (DirectFrameBuilder,)
    if compiled_core is None
    else (CompiledFrameBuilder, DirectFrameBuilder)
)


def select_builder() -> type[FrameBuilder]:
    """Return the fastest builder that builds what the public one builds."""
    for builder in DIRECT_BUILDERS:
        with suppress(
            ImportError, AttributeError, TypeError, ValueError, AssertionError
        ):
            if build_alike(builder, PublicFrameBuilder) and has_pandas_parts(builder):
                return builder
    return PublicFrameBuilder


_NAMES: tuple[Any, ...] = ("a", "b", "c", "d", "e", "f")  # no fields of a bar


def _sample(
    builder: type[FrameBuilder], rows: list[int], floats: Floats
) -> pd.DataFrame:
    """Return a shared frame of these rows of the floats."""
    columns = readonly_index([_NAMES[row] for row in rows])
    times = np.arange(floats.shape[1]).astype(TIME)
    built = builder(columns, block_spans(rows))
    return built.build(floats, times, FrameAttrs(), shared=True)


def build_alike(one: type[FrameBuilder], other: type[FrameBuilder]) -> bool:
    """Return True if both build equal frames over the given memory, unchanged."""
    for count in (0, 1, 3):
        floats = np.arange(6.0 * count).reshape(6, count)
        floats.flags.writeable = False
        for rows in ([0, 1, 2, 3, 4], [0, 3, 1], [5]):
            frames = [_sample(builder, rows, floats) for builder in (one, other)]
            if not (frames[0].equals(frames[1]) and frames[0].attrs == frames[1].attrs):
                return False
            if count and not all(_protects(frame, floats) for frame in frames):
                return False
    return True


def _protects(frame: pd.DataFrame, floats: Floats) -> bool:
    """Return True if the frame shares the floats and a write does not reach them."""
    shares = all(np.shares_memory(frame[name], floats) for name in frame.columns)
    before = floats.copy()
    with suppress(ValueError):  # without copy-on-write the read-only memory raises
        frame.iloc[0, 0] = -1.0
    return shares and bool((floats == before).all())


def has_pandas_parts(builder: type[FrameBuilder]) -> bool:
    """Return True if each part has the attributes that pandas' constructors set."""
    frame: Any = _sample(builder, [0, 1], np.zeros((6, 2)))
    manager, index, columns = frame._mgr, frame._mgr.axes[1], frame._mgr.axes[0]
    array = index._data
    reference: Any = type(frame)._from_mgr(manager, manager.axes)
    pairs = [
        (array, type(array)._simple_new(array._ndarray, dtype=TIME)),
        (index, type(index)._simple_new(array)),
        (columns, columns._view()),
        (frame, reference),
        (frame._flags, reference._flags),
    ]
    return all(_attributes(ours) == _attributes(theirs) for ours, theirs in pairs)


def _attributes(part: object) -> dict[str, type]:
    return {name: type(value) for name, value in vars(part).items()}


BUILDER = select_builder()


class FrameTemplate:
    """Frames of the same fields, in the order asked."""

    def __init__(self, fields: tuple[Field, ...]) -> None:
        self.fields = fields
        self.only_floats = all(field in FLOAT_FIELDS for field in fields)
        rows = [FLOAT_FIELDS.index(f) for f in fields if f in FLOAT_FIELDS]
        # Builds over (6, n) floats in place; only for templates of float fields.
        builder = BUILDER(readonly_index(fields), block_spans(rows))
        self.build: _Build = builder.build
        self.compiled = getattr(builder, "compiled", None)

    def build_private(
        self, bars: BarColumns, window: slice, labels: Labels, attrs: FrameAttrs
    ) -> pd.DataFrame:
        """Return a writable frame with copies of the rows in `window`."""
        times = to_datetimes(labels.of(bars.close_time[window]))
        if self.only_floats:
            return self.build(bars.floats[:, window].copy(), times, attrs, False)
        index = pd.DatetimeIndex(times, copy=False)
        named = {field: bars[field][window] for field in self.fields}
        frame = pd.DataFrame(named, index=index, copy=True)
        frame.attrs["shmfeed"] = attrs
        return frame


_templates: dict[tuple[str, ...], FrameTemplate] = {}


def template_of(fields: tuple[Field, ...]) -> FrameTemplate:
    """Return the template of these fields, made at the first call."""
    template = _templates.get(fields)
    if template is None:
        template = _templates[fields] = FrameTemplate(fields)
    return template


def bars_to_dataframe(bars: object) -> pd.DataFrame:
    """Return the bars as a frame of the default fields, in the order given.

    Raise BadArgumentError naming the malformed bar.
    """
    columns = from_bars(parse_bars(bars, None, "bars"))
    index = pd.DatetimeIndex(to_datetimes(columns.close_time), copy=False)
    named = {field: columns[field] for field in DEFAULT_FIELDS}
    return pd.DataFrame(named, index=index, copy=True)
