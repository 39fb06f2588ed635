"""Frames by the thousand: a subscription's history, and the run at full speed."""

from collections.abc import Callable, Iterator, Sequence

from shmfeed.bar import floor
from shmfeed.simulator.frames import Row, Stream
from shmfeed.simulator.market import STEPS
from shmfeed.simulator.options import VenueOptions
from shmfeed.simulator.schedule import all_rows, closed_rows, open_times_before

Encode = Callable[[Stream, Sequence[Row]], list[bytes]]
_PIECE = 1024  # frames a write, about
_ROUND = 2048  # bars of all streams together that are computed at once
_LEAST = 16  # bars of one stream that are computed at once, at least


def history(
    options: VenueOptions, encode: Encode, before: Sequence[tuple[Stream, int]]
) -> Iterator[tuple[bytes, int]]:
    """The closed bars of each stream before the one that opens at the given time."""
    for stream, opened in before:
        times = open_times_before(opened, stream[1], options.history)
        for start in range(0, len(times), _PIECE):
            piece = times[start : start + _PIECE]
            frames = encode(stream, closed_rows(options.seed, stream, piece))
            yield b"".join(frames), len(frames)


def full_speed(
    options: VenueOptions, encode: Encode, streams: Sequence[Stream], now: int
) -> Iterator[tuple[bytes, int]]:
    """Every update of the last `bars` bars that closed before `now`.

    All streams in turn, bar by bar; before them their history, closed bars only.
    """
    times = {
        stream: open_times_before(floor(now, stream[1]), stream[1], options.bars)
        for stream in streams
    }
    firsts = [(stream, int(opened[0])) for stream, opened in times.items()]
    yield from history(options, encode, firsts)
    bars = max(_LEAST, _ROUND // len(streams)) if streams else options.bars
    for start in range(0, options.bars, bars):
        rows = [
            encode(stream, all_rows(options.seed, stream, piece))
            for stream, opened in times.items()
            if len(piece := opened[start : start + bars])
        ]
        yield from _in_turn(rows)


def _in_turn(frames_of: Sequence[list[bytes]]) -> Iterator[tuple[bytes, int]]:
    piece: list[bytes] = []
    for start in range(0, max(map(len, frames_of), default=0), STEPS):
        for frames in frames_of:
            piece += frames[start : start + STEPS]
        if len(piece) >= _PIECE:
            yield b"".join(piece), len(piece)
            piece = []
    if piece:
        yield b"".join(piece), len(piece)
