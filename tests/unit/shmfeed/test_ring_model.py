"""A ring against a plain list: both agree after any sequence of writes.

Each core reads all of it, and each writer's successor may be of another core.
"""

import math

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)
from support import cores
from support.ring_on_bytes import STREAM, bench

from shmfeed.bar import Bar, close_time
from shmfeed.core import Rows
from shmfeed.errors import BadArgumentError
from shmfeed.layout import COLUMNS

TIMEFRAMES = ["1m", "1h", "1w", "1M"]
values = st.floats(allow_nan=False, width=64)
bars = st.tuples(*[values] * 6, st.integers(-(1 << 63), (1 << 63) - 1))
gaps = st.integers(1, 3)
asked = st.integers(1, 12)
writing = st.sampled_from(cores.EACH)


class RingModel(RuleBasedStateMachine):
    """`closed` and `unfinished` are the truth; slices are held and checked later."""

    @initialize(
        history=st.integers(1, 6),
        guard=st.integers(1, 4),
        base=st.sampled_from([0, 1, 7, 1 << 40]),
        timeframe=st.sampled_from(TIMEFRAMES),
        core=writing,
    )
    def make(
        self, history: int, guard: int, base: int, timeframe: str, core: cores.Core
    ) -> None:
        self.names = STREAM[0], timeframe
        self.ring = bench(history, guard, self.names, base)
        self.readers = [
            core.RingReader(self.ring.words, self.ring.geometry, 0)
            for core in cores.EACH
        ]
        self.succeed(core)
        self.base = base
        self.closed: list[Bar] = []
        self.unfinished: Bar | None = None
        self.slices: list[tuple[Rows, list[Bar]]] = []

    def _next(self, steps: int) -> int:
        timeframe = self.names[1]
        time = close_time(self.closed[-1].open_time, timeframe) if self.closed else 0
        for _ in range(steps - 1):
            time = close_time(time, timeframe)
        return time

    def _bar(self, time: int, row: tuple) -> Bar:
        return Bar(time, close_time(time, self.names[1]), *row)

    @rule(steps=gaps, row=bars)
    def append(self, steps: int, row: tuple) -> None:
        time = self._next(steps)
        self.writer.append(time, *row)
        self.closed.append(self._bar(time, row))
        if self.unfinished is not None and self.unfinished.open_time <= time:
            self.unfinished = None

    @rule(steps=gaps, row=bars)
    def update(self, steps: int, row: tuple) -> None:
        time = self._next(steps)
        self.writer.update_forming(time, *row)
        self.unfinished = self._bar(time, row)

    @rule(row=bars)
    def refuse_what_is_not_newer(self, row: tuple) -> None:
        if self.closed:
            for write in (self.writer.append, self.writer.update_forming):
                try:
                    write(self.closed[-1].open_time, *row)
                except BadArgumentError:
                    continue
                raise AssertionError("an older bar was written")

    @rule(core=writing)
    def succeed(self, core: cores.Core) -> None:
        self.writer = core.RingWriter(
            self.ring.words,
            self.ring.geometry,
            0,
            self.names,
            self.ring.woken.append,
            self.ring.right,
        )

    @rule(n=asked)
    def view(self, n: int) -> None:
        expected = self._last(min(n, self.ring.geometry.history))
        for reader in self.readers:
            rows = reader.view(n)
            assert rows.valid
            self._agree(rows, expected)
            self.slices.append((rows, expected))

    @rule(n=asked, include_now=st.booleans())
    def snapshot(self, n: int, include_now: bool) -> None:
        most = min(n, self.ring.geometry.history)
        forming = include_now and self.unfinished is not None
        expected = self._last(most - 1) if forming else self._last(most)
        if forming:
            expected.append(self.unfinished)
        for reader in self.readers:
            rows = reader.snapshot(n, include_now)
            assert rows.forming == forming
            self._agree(rows, expected)

    def _last(self, n: int) -> list[Bar]:
        return self.closed[max(0, len(self.closed) - n) :]

    def _agree(self, rows: Rows, expected: list[Bar]) -> None:
        assert [rows.bar(row) for row in range(len(rows))] == expected
        for number, field in enumerate(COLUMNS):
            assert rows[field].tolist() == [bar[number] for bar in expected]
        unfinished = len(expected) if rows.forming else 0
        assert rows.last - bool(unfinished) == self.base + len(self.closed)

    @invariant()
    def newest(self) -> None:
        for reader in getattr(self, "readers", []):
            self._newest_of(reader)

    def _newest_of(self, reader) -> None:
        last = self.closed[-1] if self.closed else None
        newest = self.unfinished or last
        assert reader.count == self.base + len(self.closed)
        assert reader.last_closed() == last
        assert reader.forming() == self.unfinished
        if newest is None:
            assert math.isnan(reader.latest("close"))
        else:
            assert reader.latest("close") == newest.close

    @invariant()
    def slices_are_true_or_say_that_they_are_not(self) -> None:
        for rows, expected in getattr(self, "slices", []):
            closed = self.ring.reader.count - rows.first
            assert rows.valid == (closed <= self.ring.geometry.capacity)
            if rows.valid:
                assert [rows.bar(row) for row in range(len(rows))] == expected


TestRingModel = RingModel.TestCase
