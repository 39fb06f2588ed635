"""A recording of decisions, read: the run, its decisions and their bars."""

import json
from bisect import bisect_right
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from shmfeed.errors import BadArgumentError
from shmfeed.text import printable, repr_short
from wealthdata.runner.recorded_lines import check_header, check_line
from wealthdata.runner.recording import FORMAT, VERSION

BarValues = tuple[float | None, ...]  # open, high, low, close, volume
_StreamOfFile = tuple[str | None, str, str]  # feed, symbol, timeframe
_Place = tuple[int, int]  # a line of the file, and a receipt in it


class Strategy(NamedTuple):
    """A strategy of a run: the name and the SHA-256 of its file."""

    file: str
    digest: str


class RecordedReceipt(NamedTuple):
    """A receipt of a recording, as `receipts.Receipt` is, with its bars.

    Attributes:
        stream: Feed, symbol and timeframe.
        digest: The digest of the bars; None if these are not known.
        bars: The values of the bars by open time, found when it is called.
        forming: The open time and the values of the forming bar.
        unknown: The reason why the bars are not known.
    """

    stream: _StreamOfFile
    digest: str | None
    bars: Callable[[], dict[int, BarValues]]
    forming: tuple[float | None, ...] | None
    unknown: str | None


class RecordedDecision(NamedTuple):
    """A decision of a recording; `line` is that of the file.

    Of an undecided one, `what` is None: it has what was read after the last decision.
    """

    line: int
    time: int
    strategy: str | None
    what: Any
    receipts: tuple[RecordedReceipt, ...]
    truncated: int


class RecordedRun(NamedTuple):
    """A recording.

    Attributes:
        undecided: The reads of each strategy after its last decision.
        first, last: The close times that the run handled first and last, ms UTC: those
            of the first and the last decision where the run was cut off; 0 for none.
        cut_off: True if the recording does not have its last line.
    """

    path: Path
    strategies: tuple[Strategy, ...]
    symbols: tuple[str, ...]
    frequency: str
    mode: str
    decisions: list[RecordedDecision]
    undecided: list[RecordedDecision]
    first: int
    last: int
    cut_off: bool


class _Versions:
    """The bars of one stream by open time: each value with the place that has it."""

    def __init__(self) -> None:
        self._places: dict[int, list[_Place]] = {}
        self._values: dict[int, list[BarValues]] = {}

    def add(self, place: _Place, rows: list[list[Any]]) -> None:
        for opened, *values in rows:
            self._places.setdefault(opened, []).append(place)
            self._values.setdefault(opened, []).append(tuple(map(_number, values)))

    def window(
        self, place: _Place, first: int, last: int, without: set[int]
    ) -> dict[int, BarValues]:
        """Return the bars of a window as of a place."""
        found = {}
        for opened in sorted(t for t in self._places if first <= t <= last):
            at = bisect_right(self._places[opened], place)
            if at and opened not in without:
                found[opened] = self._values[opened][at - 1]
        return found


def read_recording(path: str | Path) -> RecordedRun:
    """Return the run of a recording; a last line that is not whole is left out.

    Raise BadArgumentError naming the file and, where one is damaged, its line.
    """
    path = Path(path)
    lines = _lines(path)
    header: Any = next(lines, (1, None))[1]
    strategies = _check_header(path, header)
    streams: dict[_StreamOfFile, _Versions] = {}
    decisions: list[RecordedDecision] = []
    undecided: list[RecordedDecision] = []
    end: dict[str, Any] | None = None
    for number, line in lines:
        if end is not None:
            raise _damaged(path, number, "it follows the line that ends the recording")
        try:
            checked = check_line(line)
        except ValueError as error:
            raise _damaged(path, number, str(error)) from None
        if checked.get("end"):
            end = {name: checked[name] for name in ("first", "last")}
        else:
            kind = undecided if checked.get("undecided") else decisions
            kind.append(_decision(number, checked, streams))
    times = [decision.time for decision in decisions] or [0]
    first, last = (end["first"], end["last"]) if end else (min(times), max(times))
    return RecordedRun(
        path,
        strategies,
        tuple(header["symbols"]),
        header["frequency"],
        header["mode"],
        decisions,
        undecided,
        first,
        last,
        end is None,
    )


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield the number and the object of each whole line."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    return  # cut off in the middle of a write
                try:
                    yield number, json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise _damaged(path, number, str(error)) from None
    except OSError as error:
        raise BadArgumentError(
            f"cannot read the recording {str(path)!r}: {error.strerror}"
        ) from None


def _damaged(path: Path, line: int, reason: str) -> BadArgumentError:
    if line == 1:
        return BadArgumentError(
            f"{path} is not a recording of decisions; its first line: {reason}"
        )
    return BadArgumentError(f"{path}, line {line} is damaged: {reason}")


def _check_header(path: Path, header: Any) -> tuple[Strategy, ...]:
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise BadArgumentError(
            f"{path} is not a recording of decisions; `python -m wealthdata run"
            " STRATEGY.py --record FILE` writes one"
        )
    if header.get("version") != VERSION:
        raise BadArgumentError(
            f"{path} is a recording of version {repr_short(header.get('version'))};"
            f" this package reads version {VERSION}"
        )
    try:
        check_header(header)
    except ValueError as error:
        raise _damaged(path, 1, str(error)) from None
    return tuple(
        Strategy(printable(each["file"]), each["digest"])
        for each in header["strategies"]
    )


def _decision(
    number: int, line: Any, streams: dict[_StreamOfFile, _Versions]
) -> RecordedDecision:
    receipts = [
        _receipt((number, at), each, streams)
        for at, each in enumerate(line["receipts"])
    ]
    strategy = line["strategy"]
    return RecordedDecision(
        number,
        line["time"],
        None if strategy is None else printable(strategy),
        line.get("what"),
        tuple(receipts),
        line.get("truncated", 0),
    )


def _receipt(
    place: _Place, told: Any, streams: dict[_StreamOfFile, _Versions]
) -> RecordedReceipt:
    stream = told["feed"], told["symbol"], told["timeframe"]
    versions = streams.setdefault(stream, _Versions())
    versions.add(place, told.get("bars", []))
    first, last = told["first"], told["last"]
    without = set(told.get("without", ()))
    forming = told.get("forming")

    def bars() -> dict[int, BarValues]:
        return versions.window(place, first, last, without) if told["rows"] else {}

    return RecordedReceipt(
        stream,
        told["digest"],
        bars,
        None if forming is None else tuple(map(_number, forming)),
        told.get("unknown"),
    )


def _number(value: Any) -> float | None:
    """Return a number of a recording; None is a NaN, which equals no other one."""
    return float(value) if isinstance(value, str) else value
