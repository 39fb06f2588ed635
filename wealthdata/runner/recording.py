"""decisions.jsonl: the decisions of one run, with the bars that they were made on.

The file has one JSON object a line: the header, then a line for each decision. Where
the run has ended, a line for each strategy has what it has read since its last
decision, and the last line the close times that the run handled.

A receipt names its window of a stream by `first`, `last` and `rows`, and has in `bars`
those bars of it, `[open_time, open, high, low, close, volume]`, that the file does not
have yet, or had with other values. `without` has the open times between `first` and
`last` of bars that the file has and the window lacks. So each bar is written once, and
a reader of the file knows each window as it was read.

An earlier recording of that name stays as it is until the run has its first decision,
its first close time or its end. A run that fails before (a misspelt symbol, an error in
`initialize`) replaces nothing.

Each line is written by one call without a buffer, so a process that is killed leaves
whole lines but for the last one. The file is flushed to the disk when it is closed.
"""

import contextlib
import json
import os
import stat
import threading
import time
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, Self

import shmfeed
from shmfeed.errors import BadArgumentError, RecordingError
from wealthdata.decisions import Decision, set_recorder
from wealthdata.receipts import Receipt, undecided_receipts
from wealthdata.runner.recorded_bars import RecordedBars, to_json

FORMAT = "wealthdata decisions"
VERSION = 1
_START = f'{{"format":"{FORMAT}"'


class RunDescription(NamedTuple):
    """The run that a recording is of.

    Attributes:
        strategies: The paths of the strategies' files.
        symbols: The symbols, in the order asked.
        frequency: The timeframe.
        mode: "live", "replay" or "backtest".
        feed: The feed that is read; None in a backtest.
        source: The file of bars or frames; None live.
    """

    strategies: tuple[str, ...]
    symbols: tuple[str, ...]
    frequency: str
    mode: str
    feed: str | None = None
    source: str | None = None


class Recording:
    """An open recording, a recorder for `decisions.set_recorder`.

    A context manager: entering makes it the recorder of this process, leaving writes
    the last line and closes the file. An exception before the first decision and the
    first close time leaves an earlier recording as it was, and no new file.

    Thread safety: any thread may note a decision.
    """

    def __init__(
        self,
        path: Path,
        file: int,
        run: RunDescription,
        header: dict[str, Any],
        is_new: bool,
    ) -> None:
        self.path = path
        self.run = run
        self._file = file
        # By feed, symbol and timeframe.
        self._bars: dict[tuple[str | None, str, str], RecordedBars] = {}
        self._first = self._last = 0  # close times
        self._decisions = 0
        self._failure: OSError | None = None
        self._lock = threading.Lock()
        self._is_new = is_new
        self._header: dict[str, Any] | None = header  # None once it is written
        if not _is_regular(file):
            self._begin()

    def __enter__(self) -> Self:
        set_recorder(self)
        return self

    def __exit__(self, kind: object, *exc: object) -> None:
        set_recorder(None)
        if kind is not None:
            self.abandon()
        self.close()

    def handled(self, close_time: int) -> None:
        """Note that the strategies have handled all bars of a close time, ms UTC."""
        if self._header is not None:
            with self._lock:
                self._begin()
        self._first = self._first or close_time
        self._last = close_time

    def note(self, decision: Decision) -> None:
        """Write a decision.

        Raise RecordingError if that fails, and after it has failed: the recording then
        ends with its last whole line.
        """
        line: dict[str, Any] = {
            "time": decision.time,
            "strategy": decision.strategy,
            "what": decision.what,
        }
        if decision.truncated:
            line["truncated"] = decision.truncated
        with self._lock:  # a later line relies on the bars of an earlier one
            self._begin()
            receipts = [self._receipt(receipt) for receipt in decision.receipts]
            self._write(line | {"receipts": receipts})
            self._decisions += 1

    def abandon(self) -> None:
        """Leave an earlier recording as it was, if this one has no line yet."""
        if self._header is not None:
            self._discard()

    def close(self) -> None:
        """Write the last line and close the file. Later calls do nothing."""
        if self._file < 0:
            return
        file, end = self._file, {"end": True, "first": self._first, "last": self._last}
        try:
            if self._failure is None:
                self._begin()
                self._write_undecided()
                self._write(end | {"decisions": self._decisions})
                with contextlib.suppress(OSError):  # a pipe cannot be flushed
                    os.fsync(file)
        finally:
            self._file = -1
            os.close(file)

    def _begin(self) -> None:
        """Replace an earlier recording by the header, unless that is done."""
        header, self._header = self._header, None
        if header is None:
            return
        if _is_regular(self._file):
            os.ftruncate(self._file, 0)
            os.lseek(self._file, 0, os.SEEK_SET)
        self._write(header)

    def _discard(self) -> None:
        """Close the file as it was found."""
        file, self._file = self._file, -1
        os.close(file)
        if self._is_new:
            self.path.unlink(missing_ok=True)

    def _write_undecided(self) -> None:
        """Write what the strategies have read since their last decisions."""
        labels = strategy_labels(self.run.strategies)
        for strategy, receipts in undecided_receipts().items():
            if strategy not in labels:
                continue  # what the runner itself has read
            read = [self._receipt(receipt) for receipt in receipts]
            self._write(
                {
                    "undecided": True,
                    "time": self._last,
                    "strategy": strategy,
                    "receipts": read,
                }
            )

    def _receipt(self, receipt: Receipt) -> dict[str, Any]:
        key = receipt.feed, receipt.symbol, receipt.timeframe
        told: dict[str, Any] = {
            name: getattr(receipt, name) for name in _FIELDS if _is_told(receipt, name)
        }
        if receipt.forming is not None:
            told["forming"] = to_json(receipt.forming)
        if receipt.rows:
            known = self._bars.setdefault(key, RecordedBars())
            bars, without = known.add(receipt.open_time, receipt.values)
            told["bars"] = bars
            if without:
                told["without"] = without
        return told

    def _write(self, line: dict[str, Any]) -> None:
        if self._failure is not None:
            raise self._error(self._failure)
        text = json.dumps(line, allow_nan=False, separators=(",", ":")) + "\n"
        data = memoryview(text.encode())
        begun = 0
        try:
            while begun < len(data):
                begun += os.write(self._file, data[begun:])
        except OSError as error:
            self._failure = error
            self._take_back(begun)
            raise self._error(error) from None

    def _take_back(self, written: int) -> None:
        """Remove the part of a line that was written, where that can be done."""
        with contextlib.suppress(OSError):
            size = os.fstat(self._file).st_size
            if written and _is_regular(self._file):
                os.ftruncate(self._file, size - written)

    def _error(self, error: OSError) -> RecordingError:
        return RecordingError(
            f"cannot write the recording {str(self.path)!r}: {error.strerror}; it ends"
            " with its last whole line, and later decisions are not recorded"
        )


_FIELDS = (
    "feed",
    "identity",
    "symbol",
    "timeframe",
    "source",
    "rolled",
    "first",
    "last",
    "rows",
    "digest",
    "valid",
    "unknown",
)
_SELDOM = {"identity": None, "rolled": None, "valid": True, "unknown": None}


def _is_told(receipt: Receipt, name: str) -> bool:
    return name not in _SELDOM or getattr(receipt, name) != _SELDOM[name]


def _header(run: RunDescription) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "strategies": [
            {"file": label, "digest": _file_digest(path)}
            for path, label in zip(
                run.strategies, strategy_labels(run.strategies), strict=True
            )
        ],
        "symbols": list(run.symbols),
        "frequency": run.frequency,
        "mode": run.mode,
        "feed": run.feed,
        "source": run.source,
        "begun": time.time_ns() // 1_000_000,
        "package": shmfeed.__version__,
    }


def strategy_labels(paths: Sequence[str]) -> list[str]:
    """Return the name of each file, or its path where two have the same name."""
    names = [Path(path).name for path in paths]
    return [
        name if names.count(name) == 1 else path
        for path, name in zip(paths, names, strict=True)
    ]


def _file_digest(path: str) -> str:
    try:
        return sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise BadArgumentError(
            f"cannot read the strategy {path!r}: {error.strerror}"
        ) from None


def open_recording(path: str | Path, run: RunDescription) -> Recording:
    """Open the file of a recording.

    An earlier recording of that name is replaced once the run begins, any other file is
    left alone. Raise BadArgumentError if the file cannot be written, RecordingError if
    it is a pipe or a device that takes no header.
    """
    path = Path(path)
    header = _header(run)  # raises before the file is touched
    try:
        # A pipe that this process could read as well would never be a closed one.
        is_new = not path.exists()
        writes = os.O_RDWR if is_new or path.is_file() else os.O_WRONLY
        file = os.open(path, writes | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise _cannot_open(path, error) from None
    try:
        _check_replaceable(path, file)
        return Recording(path, file, run, header, is_new)
    except BaseException:
        os.close(file)
        raise


def _is_regular(file: int) -> bool:
    """Return False for a pipe, a terminal or a device."""
    return stat.S_ISREG(os.fstat(file).st_mode)


def _check_replaceable(path: Path, file: int) -> None:
    """Raise BadArgumentError for a file with content that is no recording."""
    if not _is_regular(file):
        return
    start = os.read(file, len(_START))
    if start and start != _START.encode():
        raise BadArgumentError(
            f"{str(path)!r} exists and is not a recording of decisions; give another"
            " name, or remove it"
        )


def _cannot_open(path: Path, error: OSError) -> BadArgumentError:
    return BadArgumentError(
        f"cannot write the recording {str(path)!r}: {error.strerror}"
    )
