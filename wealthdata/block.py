"""Puts a DataFrame together from arrays as they are. The only user of pandas' insides.

Two ways with one result. The public constructors take 20 us and more for a frame of
any size; its parts put together directly take 5. The direct way is tried once, when
this module is loaded, on a frame of known content; where pandas' insides have moved,
the public way serves.

A shared frame lies over read-only memory. pandas with copy-on-write copies a block
before it writes if someone else holds it, and raises if no one seems to: an anchor
that never goes away makes every shared block one that is held.
"""

import weakref
from contextlib import suppress
from importlib import import_module
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd

from wealthdata.columns import Floats, Ints
from wealthdata.reading import Reading

TIME: Any = pd.to_datetime(["2024-01-01"]).dtype  # datetime64 in pandas' default unit
_PER_MS = {"ms": 1, "us": 1_000, "ns": 1_000_000}[np.datetime_data(TIME)[0]]


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


def times(close_time: Ints) -> Any:
    """Milliseconds as pandas' default datetime64; always a copy."""
    return (close_time * _PER_MS).view(TIME)


class Way(Protocol):
    """How a frame of float columns is put together."""

    def prepare(self, layout: tuple[Piece, ...]) -> Any:
        """The layout as `frame` wants it."""
        ...

    def frame(
        self,
        layout: Any,
        columns: Any,
        floats: Floats,
        close_time: Ints,
        shared: Reading | None,
    ) -> pd.DataFrame:
        """A frame over these (6, n) floats; its index and columns are its own.

        `shared` is the reading of a frame over read-only memory, None for one that
        may be written to.
        """
        ...


class PublicWay:
    """Through the public constructors."""

    def prepare(self, layout: tuple[Piece, ...]) -> Any:
        return layout

    def frame(
        self,
        layout: Any,
        columns: Any,
        floats: Floats,
        close_time: Ints,
        shared: Reading | None,
    ) -> pd.DataFrame:
        index = pd.DatetimeIndex(times(close_time), copy=False)
        rows = [row for piece in layout for row in floats[piece.rows]]
        if len(layout) == 1:
            block = floats[layout[0].rows].T
            frame = pd.DataFrame(block, index=index, copy=False)
        else:
            frame = pd.DataFrame(dict(enumerate(rows)), index=index, copy=False)
        frame.columns = columns.view()
        if shared is not None:
            shared.keep(frame.copy(deep=False))
        return frame


class DirectWay:
    """Through the block manager, as pandas' own constructors do in the end."""

    def __init__(self) -> None:
        insides: Any = import_module("pandas.core.internals.blocks")
        arrays: Any = import_module("pandas.core.arrays.datetimes")
        # The class for floats bears another name in pandas 2.
        self._block = getattr(insides, "NumericBlock", None) or insides.NumpyBlock
        self._placement = insides.BlockPlacement
        manager: Any = import_module("pandas.core.internals.managers")
        self._manager = manager.BlockManager
        self._times = arrays.DatetimeArray._simple_new
        index: Any = pd.DatetimeIndex
        self._index = index._simple_new
        frame: Any = pd.DataFrame
        self._frame = frame._from_mgr
        self._anchor = weakref.ref(_ANCHOR)

    def prepare(self, layout: tuple[Piece, ...]) -> Any:
        return tuple((self._placement(p.columns), p.rows) for p in layout)

    def frame(
        self,
        layout: Any,
        columns: Any,
        floats: Floats,
        close_time: Ints,
        shared: Reading | None,
    ) -> pd.DataFrame:
        moments = (close_time * _PER_MS).view(TIME)
        axes = [columns._view(), self._index(self._times(moments, dtype=TIME))]
        new_block = self._block
        blocks = []
        for placement, rows in layout:
            block = new_block(floats[rows], placement=placement, ndim=2)
            if shared is not None:
                block.refs.referenced_blocks.append(self._anchor)
            blocks.append(block)
        manager = self._manager(tuple(blocks), axes, verify_integrity=False)
        frame: pd.DataFrame = self._frame(manager, axes)
        return frame


class _Anchor:
    """Holds, in pandas' eyes, every shared block; lives as long as the process."""


_ANCHOR = _Anchor()


def choose() -> Way:
    """The direct way, if it gives what the public one gives."""
    with suppress(ImportError, AttributeError, TypeError, ValueError, AssertionError):
        direct = DirectWay()
        if agree(direct, PublicWay()):
            return direct
    return PublicWay()


def agree(one: Way, other: Way) -> bool:
    """Whether both give the same frame, over the memory given, without changing it."""
    floats = np.arange(12.0).reshape(6, 2)
    floats.flags.writeable = False
    close_time = np.array([1_704_067_200_000, 1_704_070_800_000])
    columns = pd.Index(["open", "close", "high"])
    frames = []
    for way in (one, other):
        layout = way.prepare(pieces([0, 3, 1]))
        frame = way.frame(layout, columns, floats, close_time, Reading())
        if not all(np.shares_memory(frame[name], floats) for name in columns):
            return False
        frames.append(frame)
    return frames[0].equals(frames[1]) and all(_spares(f, floats) for f in frames)


def _spares(frame: pd.DataFrame, floats: Floats) -> bool:
    before = floats.copy()
    with suppress(ValueError):  # without copy-on-write the memory refuses
        frame.iloc[0, 0] = -1.0
    return bool((floats == before).all())
