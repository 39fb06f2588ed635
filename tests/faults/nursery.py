"""Writers that can die at any step, forked by a small process that reports their end.

A nursery is a fresh interpreter (its forks take a millisecond) with a fuse in every
store; its writers are the pure core's, whose stores can be counted. It takes one
command a line from its standard input. `open` forks a writer, which takes the commands
from there on until it ends; then the nursery says how. The time is the one that each
command states.
"""

import json
import os
import select
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fuse
import numpy as np
from support import cores

import shmfeed.ringbuf
import shmfeed.segment.recovery
import shmfeed.writer
from shmfeed.errors import ShmfeedError
from shmfeed.layout import E_FORMING, S_INTENT, S_PUBLISHED
from shmfeed.ringbuf import RingWriter
from shmfeed.writer import FeedWriter, create

_TOLD = (shmfeed.writer, shmfeed.ringbuf, shmfeed.segment.recovery)
_PATIENCE = 30.0
ENDED = "ended"


class Clock:
    """CLOCK_BOOTTIME, set by the test."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


class Nursery:
    """The test's side: one writer at a time; `pid` is its pid, None without one."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._in, self._out = process.stdin.fileno(), process.stdout.fileno()
        self._process = process
        self._text = b""
        self.pid: int | None = None
        self.kills = 0

    def ask(self, op: str, *arguments: Any, now: int, step: int = 0) -> list[Any]:
        """Return the outcome of a command, which the writer may die in at a step.

        It is ["done", value], ["refused", kind, text], or ["ended", code] of a writer
        that died at its `step`-th step.
        """
        question = json.dumps([op, arguments, now, step])
        os.write(self._in, question.encode() + b"\n")
        answer = self._answer()
        if op == "open" and answer[0] == "done":
            self.pid = answer[1]
        if answer[0] == ENDED:
            self.pid = None
            self.kills += answer[1] == -9
        elif op == "open" and answer[0] == "refused":
            assert self._answer() == [ENDED, 0]
        return answer

    def kill(self) -> None:
        """Kill the writer while it waits for its next command."""
        assert self.pid is not None
        os.kill(self.pid, 9)
        assert self._answer() == [ENDED, -9]
        self.pid = None
        self.kills += 1

    def _answer(self) -> Any:
        deadline = time.monotonic() + _PATIENCE
        while b"\n" not in self._text:
            left = max(0.0, deadline - time.monotonic())
            assert select.select([self._out], [], [], left)[0], "no answer in time"
            piece = os.read(self._out, 1 << 16)
            if not piece:
                assert self._process.stderr is not None
                raise AssertionError(self._process.stderr.read())
            self._text += piece
        line, _, self._text = self._text.partition(b"\n")
        return json.loads(line)


class Writer:
    """The writer's side: a feed's writer and its rings."""

    def __init__(self, name: str, *geometry: int) -> None:
        self._writer = create(name, *geometry)
        self._rings = {key: self._ring(*key) for key in self._writer.streams()}

    def _ring(self, symbol: str, timeframe: str) -> RingWriter:
        return self._writer.add_stream(symbol, timeframe)

    def add_stream(self, *names: str) -> None:
        self._rings[names] = self._ring(*names)

    def unsubscribe(self, *names: str) -> None:
        self._writer.unsubscribe(*names)

    def append(self, names: list[str], bars: list[list]) -> None:
        ring = self._rings[tuple(names)]
        for bar in bars:
            ring.append(bar[0], *bar[2:])

    def update(self, names: list[str], bar: list) -> None:
        self._rings[tuple(names)].update_forming(bar[0], *bar[2:])

    def replace(self, names: list[str], bars: list[list]) -> None:
        block = np.array(bars, np.float64).T.copy()
        ints = block.view(np.int64)
        for column in (0, 1, 8):
            ints[column] = [bar[column] for bar in bars]
        self._writer.replace_rows(names[0], names[1], block)

    def beat(self) -> None:
        self._writer.beat()

    def state(self, state: str) -> None:
        self._writer.set_state(state)

    def recover(self, names: list[str], recovering: bool) -> None:
        self._writer.mark_stream(tuple(names), gaps=0, recovering=recovering)

    def close(self, unlink: bool) -> None:
        self._writer.close(unlink)
        os._exit(0)


def main(mutant: str) -> None:
    """Run the nursery; `mutant` names the one of MUTANTS that its writers are."""
    warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside BLAS threads
    clock = Clock()
    for module in _TOLD:
        module.boot_ns = clock
    burning = fuse.burn_at_each_step()
    cores.all_purely()
    MUTANTS[mutant]()
    for question in _lines():
        pid = os.fork()
        if not pid:
            _live(question, clock, burning)
        _say([ENDED, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])])


def _lines() -> Any:
    """Yield one line at a time: a writer reads on where its nursery stopped."""
    while line := os.read(0, 1 << 20):
        assert line.endswith(b"\n")
        yield json.loads(line)


def _say(answer: list[Any]) -> None:
    os.write(1, json.dumps(answer).encode() + b"\n")


def _live(question: Any, clock: Clock, burning: fuse.Fuse) -> None:
    try:
        writer = _answer(question, lambda op: Writer, clock, burning)
        if isinstance(writer, Writer):
            for later in _lines():
                _answer(later, lambda op: getattr(writer, op), clock, burning)
    except BaseException:  # noqa: BLE001 # no exception may reach the nursery
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    os._exit(0)


def _answer(
    question: Any, find: Callable[[str], Any], clock: Clock, burning: fuse.Fuse
) -> Any:
    op, arguments, clock.now, step = question
    burning.light(step)
    try:
        value = find(op)(*arguments)
    except ShmfeedError as error:
        value = None
        answer = ["refused", type(error).__name__, str(error)]
    else:
        answer = ["done", os.getpid()]
    burning.light(0)
    _say(answer)
    return value


def _no_mutant() -> None:
    """Change nothing."""


def _publish_first() -> None:
    """Publish a row before it is written."""
    make, store = FeedWriter.add_stream, fuse.FusedView.__setitem__
    intents: set[int] = set()

    def add_stream(writer: FeedWriter, symbol: str, timeframe: str) -> RingWriter:
        ring = make(writer, symbol, timeframe)
        intents.add(ring._slot + S_INTENT)
        return ring

    def store_early(view: fuse.FusedView, key: Any, value: Any) -> None:
        store(view, key, value)
        if not isinstance(key, slice) and key in intents:
            store(view, key - S_INTENT + S_PUBLISHED, value)

    FeedWriter.add_stream = add_stream  # type: ignore[method-assign]
    fuse.FusedView.__setitem__ = store_early  # type: ignore[method-assign]


def _number_from_0() -> None:
    """Let a successor number its rows from 0 again."""
    begin = RingWriter.__init__

    def begin_at_0(ring: RingWriter, *arguments: Any) -> None:
        begin(ring, *arguments)
        ring._row = ring._ints[ring._slot + S_PUBLISHED] = 0

    RingWriter.__init__ = begin_at_0  # type: ignore[method-assign]


def _write_in_place() -> None:
    """Write a forming bar where readers read."""
    update = RingWriter.update_forming

    def write_in_place(ring: RingWriter, *arguments: Any) -> None:
        ints, at = ring._ints, ring._at + E_FORMING
        counter, cells = ints[at], ring._forming
        if counter:
            ring._forming = (cells[counter & 1],) * 2
        update(ring, *arguments)
        if counter:
            ring._forming = cells
            ints[at] = counter

    RingWriter.update_forming = write_in_place  # type: ignore[method-assign]


MUTANTS: dict[str, Callable[[], None]] = {
    "none": _no_mutant,
    "publishes first": _publish_first,
    "numbers from 0": _number_from_0,
    "writes in place": _write_in_place,
}

PROGRAM = f"""
import sys
sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parents[1])!r}]
import nursery
nursery.main(sys.argv[1])
"""
