"""Rings by ordinal: writes of rows against a dict."""

import random

import numpy as np
import pytest
from support.relay_flushes import Held, held_in, keep_newest, rows

from shmfeed.bar import TIMEFRAMES, StreamKey, close_time, floor
from shmfeed.layout import COLUMNS
from shmfeed.relay.blobs import HEADER_BYTES, ROW_BYTES
from shmfeed.relay.flush import RowsOfStreams
from shmfeed.relay.rows import (
    WHOLE,
    RingWriter,
    ordinals,
    pack_ring,
    to_block,
    to_rows,
    unpack_ring,
)

STREAMS: tuple[StreamKey, ...] = tuple((f"S{n}", "1m") for n in range(3))
CAPACITY = 7
KEY = "a ring"


class Rings:
    """Rings as an engine keeps them, written by the writes that it would get."""

    def __init__(self) -> None:
        self.writer = RingWriter(STREAMS, CAPACITY)
        self._rings: dict[int, bytearray] = {}

    def write(self, closed: RowsOfStreams, whole: tuple[int, ...] = ()) -> int:
        """Write rows; return in how many pieces."""
        writes = [*self.writer.writes(*closed, whole)]
        for number, offset, data in writes:
            if offset == WHOLE:
                self._rings[number] = bytearray(data)
            else:
                self._rings[number][offset : offset + len(data)] = data
        return len(writes)

    def held(self) -> Held:
        parts = [
            unpack_ring(bytes(self._rings[number]), STREAMS[number][1], KEY)
            for number in range(len(STREAMS))
        ]
        return held_in([to_block(parts, 0)])


class ForgetfulRings(Rings):
    """A mutant whose writer does not know which lap a slot is of."""

    def write(self, closed: RowsOfStreams, whole: tuple[int, ...] = ()) -> int:
        self.writer = RingWriter(STREAMS, CAPACITY)
        return super().write(closed, whole)


def every(*numbers: int) -> tuple[int, ...]:
    return numbers or tuple(range(len(STREAMS)))


@pytest.mark.parametrize("timeframe", TIMEFRAMES)
def test_ordinals_count_bars(timeframe: str) -> None:
    phases = range(3) if timeframe == "3d" else (0,)
    for phase in phases:
        opened = floor(1_700_000_000_000, timeframe, phase * 86_400_000)
        opens = []
        for _ in range(40):
            opens.append(opened)
            opened = close_time(opened, timeframe)
        numbers = ordinals(np.array(opens), timeframe)
        assert np.diff(numbers).tolist() == [1] * 39


class TestRings:
    def test_adjoining_rows_are_one_piece(self) -> None:
        rings = Rings()
        rings.write(rows(), every())
        assert rings.write(rows((0, 7, 1.0), (0, 8, 2.0), (1, 8, 3.0))) == 2
        assert rings.write(rows((0, 13, 1.0), (0, 14, 2.0))) == 2  # around the end
        assert rings.held()[0] == {8: 2.0, 13: 1.0, 14: 2.0}

    def test_a_row_of_an_earlier_lap_is_not_written(self) -> None:
        rings = Rings()
        rings.write(rows((0, 20, 2.0)), every())
        assert rings.write(rows((0, 13, 1.0))) == 0
        assert rings.held() == {0: {20: 2.0}}

    def test_within_one_write_too(self) -> None:
        rings = Rings()
        rings.write(rows(), every())
        rings.write(rows((0, 13, 1.0), (0, 20, 2.0)))
        assert rings.held() == {0: {20: 2.0}}

    def test_a_whole_ring_drops_what_was_there(self) -> None:
        rings = Rings()
        rings.write(rows((0, 20, 2.0), (1, 20, 3.0)), every())
        rings.write(rows((0, 5, 1.0), (1, 21, 4.0)), (0,))
        assert rings.held() == {0: {5: 1.0}, 1: {20: 3.0, 21: 4.0}}
        rings.write(rows((0, 6, 1.5)))  # the newest is that of the new rows
        assert rings.held()[0] == {5: 1.0, 6: 1.5}

    def test_new_streams_follow_the_old_ones(self) -> None:
        rings = Rings()
        rings.writer = RingWriter(STREAMS[:1], CAPACITY)
        rings.write(rows((0, 20, 2.0)), (0,))
        rings.writer.extend(STREAMS)
        rings.write(rows((1, 5, 1.0)), (1, 2))
        assert rings.write(rows((0, 13, 1.0))) == 0  # the newest of the old is known
        assert rings.held() == {0: {20: 2.0}, 1: {5: 1.0}}

    def test_months(self) -> None:
        months = [floor(n * 31 * 86_400_000, "1M") for n in range(1, 30)]
        block = np.zeros((len(COLUMNS), 29))
        block.view(np.int64)[0] = months
        block.view(np.int64)[1] = [close_time(month, "1M") for month in months]
        writer = RingWriter((("A", "1m"), ("A", "1M")), 12)
        blob = pack_ring(to_rows(block[:, :0]), "1M", 12)
        ring = bytearray(blob)
        for number, offset, data in writer.writes(np.full(29, 1), block, ()):
            assert number == 1
            ring[offset : offset + len(data)] = data
        assert len(ring) == HEADER_BYTES + 12 * ROW_BYTES
        assert unpack_ring(bytes(ring), "1M", KEY)[:, 0].tolist() == months[-12:]

    def test_rows_against_a_dict(self, seed: int) -> None:
        self.compare_with_a_dict(seed, Rings)

    def test_a_mutant_that_knows_no_newest_bar_is_seen(self, seed: int) -> None:
        with pytest.raises(AssertionError):
            self.compare_with_a_dict(seed, ForgetfulRings)

    def compare_with_a_dict(self, seed: int, kind: type[Rings]) -> None:
        rng = random.Random(seed)
        for _ in range(40):
            rings, model = kind(), Held()
            rings.write(rows(), every())
            newest = 100
            for _ in range(30):
                newest += rng.choice((0, 0, 1, 1, 2, 9))
                places = {
                    (rng.randrange(3), newest - rng.randrange(9))
                    for _ in range(rng.randrange(8))
                }
                bars = [(*place, rng.random()) for place in places]
                whole = tuple(n for n in range(3) if rng.random() < 0.05)
                rings.write(rows(*bars), whole)
                for number in whole:
                    model.pop(number, None)
                for number, minute, close in bars:
                    model.setdefault(number, {})[minute] = close
                keep_newest(model, CAPACITY)
                found = {
                    number: dict(sorted(of_stream.items()))
                    for number, of_stream in model.items()
                }
                assert rings.held() == found


def test_damaged_rows_are_no_error() -> None:
    """A ring of garbage below its header gives rows or none, never an exception."""
    rng = np.random.default_rng(1)
    blob = pack_ring(to_rows(rows((0, 5, 1.0)).block), "1m", 8)
    for timeframe in ("1m", "1M", "3d"):
        for _ in range(50):
            noise = rng.bytes(len(blob) - HEADER_BYTES)
            unpack_ring(blob[:HEADER_BYTES] + noise, timeframe, KEY)
