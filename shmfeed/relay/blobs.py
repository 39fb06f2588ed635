"""The bytes of all that the relay keeps in an engine, but the rows of a ring.

A blob is a header of 16 bytes and a body of the length that the header tells. Rows are
blocks of float64, as in memory; all else is MessagePack. Raise VERSION with each change
that an older reader would misread: readers and leaders of another version refuse the
feed and name both versions.

    magic   4 bytes   "shmf"
    version uint16
    kind    uint16    of KINDS
    length  uint64    of the body
"""

import struct
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from shmfeed.bar import TIMEFRAMES, StreamKey
from shmfeed.layout import COLUMNS, WORD
from shmfeed.relay.engine import Answer, EngineRefusedError
from shmfeed.relay.flush import Catalog, Flush, Head, RowsOfStreams, StreamMarks
from shmfeed.text import repr_short

MAGIC = b"shmf"
VERSION = 1
RING, FLUSH, HEAD, CATALOG, STATE, REQUEST, ANSWER = KINDS = range(1, 8)
ROW_BYTES = len(COLUMNS) * WORD

_HEADER = struct.Struct("<4sHHQ")
HEADER_BYTES = _HEADER.size
KIND_BYTES = 8  # of the header: all but the length
_COUNTS = struct.Struct("<QQ")

_T = TypeVar("_T")


class _FlushBody(msgspec.Struct, array_like=True):
    """The part of a flush that is no rows. `made` is the engine's time, in seconds."""

    made: float
    sent: int
    whole: tuple[int, ...]
    marks: dict[int, StreamMarks]
    catalog: Catalog | None
    head: Head | None
    is_whole: bool


class _HeadBody(msgspec.Struct, array_like=True):
    made: float
    head: Head


class _StateBody(msgspec.Struct, array_like=True):
    made: float
    run_id: str
    head_ms: int
    marks: dict[int, tuple[int, StreamMarks]]


class _AnswerBody(msgspec.Struct, array_like=True):
    asked: tuple[StreamKey, ...]
    streams: tuple[StreamKey, ...]
    refused: list[tuple[StreamKey, str]]


class State(msgspec.Struct):
    """Marks and forming bars of all streams, as of one flush.

    Attributes:
        made: When the flush was made, in seconds of the engine's clock.
        run_id: The run of the server whose clock that is.
        head_ms: The ms from the flush of the last head to `made`.
        marks: By stream number, with the ms from their own flush to `made`.
        forming: The newest forming bars.
    """

    made: float
    run_id: str
    head_ms: int
    marks: dict[int, tuple[int, StreamMarks]]
    forming: RowsOfStreams


def _plain(value: object) -> object:
    if isinstance(value, np.generic):  # numbers that came out of an array
        return value.item()
    raise NotImplementedError(type(value).__name__)


_encode = msgspec.msgpack.Encoder(enc_hook=_plain).encode


def header(kind: int, length: int) -> bytes:
    """Return the header of a blob of this kind with a body of `length` bytes."""
    return _HEADER.pack(MAGIC, VERSION, kind, length)


def body_of(blob: bytes, kind: int, key: str) -> memoryview:
    """Return the body of a blob. Raise EngineRefusedError if it is not whole, or ours.

    The error names the key.
    """
    if blob[:4] != MAGIC:
        raise EngineRefusedError(
            f"key {key} of the engine holds something that shmfeed did not write:"
            " delete it, or publish under another name"
        )
    if len(blob) < HEADER_BYTES:
        raise EngineRefusedError(
            f"key {key} of the engine is truncated: it has {len(blob)} bytes"
        )
    _, version, found, length = _HEADER.unpack_from(blob)
    if version != VERSION:
        raise other_version(key, version)
    if found != kind:
        raise EngineRefusedError(
            f"key {key} of the engine holds a value of kind {found}, not {kind}:"
            " delete it"
        )
    if length != len(blob) - HEADER_BYTES:
        raise EngineRefusedError(
            f"key {key} of the engine is truncated: it has"
            f" {len(blob) - HEADER_BYTES} of {length} bytes; delete it"
        )
    return memoryview(blob)[HEADER_BYTES:]


def other_version(key: str, version: object) -> EngineRefusedError:
    """Return the error for data of another version of the format."""
    return EngineRefusedError(
        f"key {key} of the engine has version {version} of the relay's format, and this"
        f" shmfeed writes and reads version {VERSION}: use one version of shmfeed on"
        " all hosts, delete the feed's keys if the other one is gone, or publish under"
        " another name"
    )


def _pack(kind: int, value: object) -> bytes:
    body = _encode(value)
    return header(kind, len(body)) + body


def _decode(body: Any, wanted: type[_T], key: str) -> _T:
    try:
        return msgspec.msgpack.decode(body, type=wanted)
    except msgspec.MsgspecError as error:
        raise _damaged(key, str(error)) from error


def _damaged(key: str, why: str) -> EngineRefusedError:
    return EngineRefusedError(
        f"key {key} of the engine holds a damaged value ({why}): delete it"
    )


def _pack_rows(rows: RowsOfStreams) -> tuple[bytes, bytes]:
    numbers = np.ascontiguousarray(rows.numbers, np.int64)
    return numbers.tobytes(), np.ascontiguousarray(rows.block).tobytes()


def _take_rows(body: memoryview, at: int, count: int) -> tuple[RowsOfStreams, int]:
    numbers: NDArray[np.int64] = np.frombuffer(body, np.int64, count, at)
    at += numbers.nbytes
    cells = np.frombuffer(body, np.float64, len(COLUMNS) * count, at)
    return RowsOfStreams(numbers, cells.reshape(len(COLUMNS), count)), at + cells.nbytes


def _rows_bytes(*counts: int) -> int:
    return sum(counts) * (WORD + ROW_BYTES)


def _pack_with_rows(kind: int, value: object, *rows: RowsOfStreams) -> bytes:
    counts = [len(one.numbers) for one in rows]
    parts = [_COUNTS.pack(*counts, *[0] * (2 - len(rows)))]
    for one in rows:
        parts += _pack_rows(one)
    parts.append(_encode(value))
    return b"".join([header(kind, sum(map(len, parts))), *parts])


def _split_rows(body: memoryview, key: str) -> tuple[list[RowsOfStreams], memoryview]:
    counts = _COUNTS.unpack_from(body) if len(body) >= _COUNTS.size else (0, 0)
    if _COUNTS.size + _rows_bytes(*counts) > len(body):
        raise _damaged(key, "rows are missing")
    at, found = _COUNTS.size, []
    for count in counts:
        rows, at = _take_rows(body, at, count)
        found.append(rows)
    return found, body[at:]


def pack_flush(flush: Flush, made: float) -> bytes:
    """Return a flush that was made at `made`, in seconds of the engine's clock."""
    body = _FlushBody(
        made,
        flush.sent,
        flush.whole,
        flush.marks,
        flush.catalog,
        flush.head,
        flush.is_whole,
    )
    return _pack_with_rows(FLUSH, body, flush.closed, flush.forming)


def unpack_flush(blob: bytes, key: str) -> tuple[Flush, float]:
    """Return a flush, and when it was made in seconds of the engine's clock."""
    (closed, forming), rest = _split_rows(body_of(blob, FLUSH, key), key)
    body = _decode(rest, _FlushBody, key)
    flush = Flush(
        body.sent,
        closed,
        forming,
        body.whole,
        body.marks,
        body.catalog,
        body.head,
        body.is_whole,
    )
    return flush, body.made


def pack_head(head: Head, made: float) -> bytes:
    return _pack(HEAD, _HeadBody(made, head))


def unpack_head(blob: bytes, key: str) -> tuple[Head, float]:
    body = _decode(body_of(blob, HEAD, key), _HeadBody, key)
    return body.head, body.made


def pack_catalog(catalog: Catalog) -> bytes:
    return _pack(CATALOG, catalog)


def unpack_catalog(blob: bytes, key: str) -> Catalog:
    catalog = _decode(body_of(blob, CATALOG, key), Catalog, key)
    for _, timeframe in catalog.streams:
        if timeframe not in TIMEFRAMES:
            raise _damaged(key, f"it names the timeframe {repr_short(timeframe)}")
    return catalog


def pack_state(state: State) -> bytes:
    body = _StateBody(state.made, state.run_id, state.head_ms, state.marks)
    return _pack_with_rows(STATE, body, state.forming)


def unpack_state(blob: bytes, key: str) -> State:
    (forming, _), rest = _split_rows(body_of(blob, STATE, key), key)
    body = _decode(rest, _StateBody, key)
    return State(body.made, body.run_id, body.head_ms, body.marks, forming)


def pack_streams(streams: tuple[StreamKey, ...]) -> bytes:
    """Return the streams of a request."""
    return _pack(REQUEST, streams)


def unpack_streams(blob: bytes, key: str) -> tuple[StreamKey, ...]:
    return _decode(body_of(blob, REQUEST, key), tuple[StreamKey, ...], key)


def pack_answer(asked: tuple[StreamKey, ...], answer: Answer) -> bytes:
    """Return an answer with the streams of the request that it answers."""
    refused = [*answer.refused.items()]
    return _pack(ANSWER, _AnswerBody(asked, answer.streams, refused))


def unpack_answer(blob: bytes, key: str) -> tuple[tuple[StreamKey, ...], Answer]:
    """Return the streams of the request, and the answer to it."""
    body = _decode(body_of(blob, ANSWER, key), _AnswerBody, key)
    return body.asked, Answer(body.streams, dict(body.refused))
