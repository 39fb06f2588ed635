"""Recordings of made-up decisions, for tests of the runner."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from wealthdata import Decision, Receipt
from wealthdata.receipts import digest_of
from wealthdata.runner.recorded_run import RecordedRun, read_recording
from wealthdata.runner.recording import RunDescription, open_recording

MINUTE = 60_000
START = 1_767_225_600_000  # 2026-01-01 UTC
Window = list[tuple[int, list[float]]]  # number of the bar, its values


def bars(number: int, count: int = 3, **changed: float) -> Window:
    """Return a window of numbered bars; `b4=2.5` changes one close, `close` all."""
    return [
        (n, [1.0, 3.0, 0.5, changed.get(f"b{n}", changed.get("close", 1.5)), float(n)])
        for n in range(number, number + count)
    ]


def receipt(window: Window, **others: Any) -> Receipt:
    """Return the receipt of a window of A 1m."""
    opened = np.array([START + number * MINUTE for number, _ in window], np.int64)
    values = np.array([values for _, values in window], float).reshape(-1, 5).T
    ends = (int(opened[0]), int(opened[-1])) if len(opened) else (0, 0)
    told: dict[str, Any] = {
        "feed": "default",
        "identity": None,
        "symbol": "A",
        "timeframe": "1m",
        "source": "live",
        "rolled": None,
        "first": ends[0],
        "last": ends[1],
        "rows": len(opened),
        "digest": digest_of(opened, values),
        "open_time": opened,
        "values": values,
    }
    return Receipt(**told | others)


def decision(
    number: int, what: Any, *receipts: Receipt, strategy: str = "ma.py"
) -> Decision:
    """Return a decision at the close of bar `number` - 1."""
    return Decision(START + number * MINUTE, what, receipts, strategy)


def describe_run(folder: Path, **others: Any) -> RunDescription:
    """Return a run of one strategy, whose file is made."""
    file = folder / "ma.py"
    file.write_text("def handle_bar(context, bar): ...\n")
    run = RunDescription((str(file),), ("A", "B"), "1m", "live", "default")
    return run._replace(**others)


def record(
    path: Path,
    run: RunDescription,
    decisions: Iterable[Decision],
    handled: Iterable[int] = (),
) -> RecordedRun:
    """Write a recording of these decisions, and of more close times; read it."""
    with open_recording(path, run) as recording:
        for number in handled:
            recording.handled(START + number * MINUTE)
        for each in decisions:
            recording.note(each)
            if not handled:
                recording.handled(each.time)
    return read_recording(path)
