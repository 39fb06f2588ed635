"""`decide`: a strategy's decision, with receipts of the bars that it was made on."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

from wealthdata.json_values import plain_value
from wealthdata.read_log import Alone, acting, tracked
from wealthdata.receipts import Receipt, receipts_of_frames, receipts_of_task
from wealthdata.sources import current_views, strategy_time


class Decision(NamedTuple):
    """A decision of a strategy, as `decide` returns it.

    Attributes:
        time: When it was made, ms UTC: the context's `current_dt`, else this host's
            clock.
        what: The decision, as JSON gives it back.
        receipts: The bars that it was made on, a receipt for each window of a stream.
        strategy: The name of the strategy's file; None outside of the runner.
        truncated: The number of reads that have no receipt, as there were more than
            4,096 since the last decision, or more than 64 MiB of bars; the oldest ones.
    """

    time: int
    what: Any
    receipts: tuple[Receipt, ...]
    strategy: str | None = None
    truncated: int = 0


class Recorder(Protocol):
    """The place where the decisions of this process are kept."""

    def note(self, decision: Decision, /) -> None:
        """Keep a decision. Raise OSError if it cannot be kept."""
        ...


class _Process:
    """The recorder of this process."""

    recorder: Recorder | None = None


def set_recorder(recorder: Recorder | None) -> None:
    """Keep the decisions of this process in a recorder, None for none.

    While there is one, each read of this process keeps its bars until the next
    decision.
    """
    _Process.recorder = recorder
    if recorder is None:
        tracked.discard("recorder")
    else:
        tracked.add("recorder")


@contextmanager
def acting_strategy(name: str) -> Iterator[None]:
    """Mark the decisions of this thread or task as those of a strategy."""
    token = acting.set(name)
    try:
        yield
    finally:
        acting.reset(token)


@contextmanager
def acting_alone(name: str) -> Iterator[None]:
    """Mark the decisions of this process, in any thread, as those of a strategy."""
    Alone.strategy = name
    try:
        with acting_strategy(name):
            yield
    finally:
        Alone.strategy = None


def decide(what: object, *frames: object) -> Decision:
    """Note a decision, with receipts of the bars that it was made on.

    Args:
        what: The decision: a str, a bool, an int, a finite float, None, a list, or a
            dict whose keys are str. Tuples become lists, numpy's scalars plain values.
        frames: The frames that it was made on. Without any: all that this thread or
            asyncio task has read since its last decision.

    Returns:
        The decision, with its time and its receipts. It is written to the recording of
        the run, if there is one.

    Raises:
        BadArgumentError: `what` holds something else, or a frame is not one that a read
            has returned. Nothing is written.
        ContextError: Several contexts are in force, and this thread or task has set
            none, so that its time is not clear.
        RecordingError: The recording cannot be written; it ends with its last whole
            line.

    Thread safety:
        Any thread may call it.
    """
    plain = plain_value(what, "what")
    views, _ = current_views()
    moment = strategy_time(views)
    if moment is None:
        moment = time.time_ns() // 1_000_000
    truncated = 0
    if frames:
        receipts = receipts_of_frames(frames)
    else:
        receipts, truncated = receipts_of_task()
    strategy = acting.get() or Alone.strategy
    decision = Decision(moment, plain, tuple(receipts), strategy, truncated)
    recorder = _Process.recorder
    if recorder is not None:
        recorder.note(decision)
    return decision
