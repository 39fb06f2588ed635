"""The long DataFrame of several securities: columns time, code and the fields.

As in `frame`, the public constructor takes far longer than the parts of a small frame
do, so they are put together directly, if that gives the same frame when this module is
loaded. The classes of the parts are those of a frame that the public constructor made.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from shmfeed.bar import FLOAT_FIELDS, Field
from shmfeed.feed import compiled_core
from wealthdata.attrs import FrameAttrs
from wealthdata.columns import Datetimes, Ints
from wealthdata.frame import (
    TIME,
    block_spans,
    put_together,
    readonly_index,
    template_of,
    view_columns,
)

# Makes a frame of the columns of the fields (one float64 array, or a list), times and
# codes.
LongTemplate = Callable[[Any, Datetimes, Any, FrameAttrs], pd.DataFrame]

_new = object.__new__
_MAX_CODES = 64
_MAX_CODE_ROWS = 1_000_000  # of all that are kept; a column takes some 8 bytes a row
_codes: dict[tuple[tuple[str, ...], int | bytes], Any] = {}


def code_column(symbols: tuple[str, ...], counts: int | Ints) -> Any:
    """Return a new array: each symbol `counts` times, or as often as its own count."""
    key = symbols, counts if isinstance(counts, int) else counts.tobytes()
    codes = _codes.get(key)
    if codes is None:
        rows = sum(map(len, _codes.values()))
        if len(_codes) >= _MAX_CODES or rows > _MAX_CODE_ROWS:
            _codes.clear()
        names = np.repeat(np.array(symbols, dtype=object), counts)
        series = pd.Series(list(names), dtype=str)
        codes = series.to_numpy() if series.dtype == object else series.array
        _codes[key] = codes
    return codes.copy()


class PublicLongTemplate:
    """A template that calls pandas' public constructor."""

    def __init__(self, fields: Sequence[str]) -> None:
        self._fields = fields

    def __call__(
        self, columns: Any, times: Datetimes, codes: Any, attrs: FrameAttrs
    ) -> pd.DataFrame:
        named = dict(zip(self._fields, columns, strict=True))
        frame = pd.DataFrame({"time": times, "code": codes, **named})
        frame.attrs["shmfeed"] = attrs
        return frame


class DirectLongTemplate:
    """A template that makes each part as pandas' own constructors make it.

    For fields that are all float64.
    """

    def __init__(self, fields: Sequence[str]) -> None:
        sample: Any = _sample(PublicLongTemplate, fields)
        times: Any = type(sample._mgr.blocks[0].values)
        self._blocks = [(type(b), b.mgr_locs) for b in sample._mgr.blocks]
        self._manager = type(sample._mgr)
        # DatetimeArray's own _simple_new takes twice as long for assertions that hold.
        self._times = super(times, times)._simple_new  # type: ignore[misc] # private
        self._has_frequency = "_freq" in vars(sample._mgr.blocks[0].values)
        self._flags = type(sample._flags)
        self._caches_columns = "_item_cache" in vars(sample)
        self._range_has_references = "_references" in vars(sample.index)
        self._columns = readonly_index(sample.columns)
        self._columns.get_loc("time")  # builds the hash table, which frames share

    def __call__(
        self, columns: Any, times: Datetimes, codes: Any, attrs: FrameAttrs
    ) -> pd.DataFrame:
        (time, time_at), (code, code_at), (values, values_at) = self._blocks
        array = self._times(times.reshape(1, -1), TIME)
        if self._has_frequency:
            array._freq = None
        if isinstance(codes, np.ndarray):
            codes = codes.reshape(1, -1)
        blocks = (
            time(array, time_at, 2),
            code(codes, code_at, 2),
            values(columns, values_at, 2),
        )
        axes = [view_columns(self._columns), self._range_index(len(times))]
        manager = self._manager(blocks, axes, False)
        return put_together(manager, attrs, self._flags, self._caches_columns)

    def _range_index(self, length: int) -> Any:
        index: Any = _new(pd.RangeIndex)
        index._range = range(length)
        index._name = None
        index._cache = {}
        index._id = object()
        if self._range_has_references:  # pandas 2
            index._references = None
        return index

    def compiled(self, frame: Any, symbol: str) -> Any:
        """Return the compiled builder, given that of frames of the fields alone."""
        view = partial(view_columns, self._columns)
        parts = self._manager, self._times, view, self._range_index
        made: Any = compiled_core
        return made.LongBuilder(
            frame, tuple(self._blocks), *parts, code_column, (symbol,)
        )


def compiled_builder(fields: tuple[Field, ...], symbol: str) -> Any:
    """Return the C core's twin of the direct template, for the bars of one security.

    Return None if there is no such twin for these fields.
    """
    template, frame = long_template(fields), template_of(fields).compiled
    if frame is None or not isinstance(template, DirectLongTemplate):
        return None
    spans = block_spans([FLOAT_FIELDS.index(field) for field in fields])
    if len(spans) > 1 or spans[0].rows.step > 1:
        return None  # the rows must be one block of the ring's
    return template.compiled(frame, symbol)


def _sample(template: Any, fields: Sequence[str], rows: int = 3) -> pd.DataFrame:
    """Return a frame of known rows."""
    columns = np.arange(float(len(fields) * rows)).reshape(len(fields), rows)
    codes = code_column(("A", "B"), np.array([rows // 2, rows - rows // 2]))
    times = np.arange(rows).astype(TIME)
    frame: pd.DataFrame = template(fields)(columns, times, codes, FrameAttrs())
    return frame


def builds_alike(direct: Any) -> bool:
    """Return True if the direct template makes the frames of the public one."""
    for fields in (["a"], ["a", "b", "c"]):
        for rows in (0, 1, 3):
            ours, public = (
                _sample(template, fields, rows)
                for template in (direct, PublicLongTemplate)
            )
            if not (ours.equals(public) and _parts(ours) == _parts(public)):
                return False
            ours.iloc[:, 2:] += 1.0  # writable
            ours["code"] = "C"
            if rows and ours.iloc[0, 1:].tolist() != ["C", *_first(public)]:
                return False
    return True


def _first(frame: pd.DataFrame) -> list[float]:
    return [value + 1.0 for value in frame.iloc[0, 2:].tolist()]


def _parts(frame: Any) -> list[Any]:
    """Return the types of a frame's parts, and those of their attributes but caches."""
    blocks = [(type(b), type(b.values), b.values.shape) for b in frame._mgr.blocks]
    times = frame._mgr.blocks[0].values
    parts = [frame, frame.columns, frame.index, frame._flags, times]
    attributes = [
        {name: type(value) for name, value in vars(part).items() if name != "_cache"}
        for part in parts
    ]
    return [*blocks, *attributes]


def select_template() -> type[Any]:
    """Return the direct template if it makes what the public one makes."""
    with suppress(ImportError, AttributeError, TypeError, ValueError, AssertionError):
        if builds_alike(DirectLongTemplate):
            return DirectLongTemplate
    return PublicLongTemplate


DIRECT = select_template()
_templates: dict[tuple[Field, ...], LongTemplate] = {}


def long_template(fields: tuple[Field, ...]) -> LongTemplate:
    """Return the template of these fields, made at the first call."""
    template = _templates.get(fields)
    if template is None:
        floats = all(field in FLOAT_FIELDS for field in fields)
        template = (DIRECT if floats else PublicLongTemplate)(fields)
        _templates[fields] = template
    return template
