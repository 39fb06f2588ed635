"""A manager's function that returns history, called in this process.

A thread asks the feeder for a question, calls the function, and brings the rows with
its next request. It calls the function once at a time. An exception is named by its
class and its line: a text may hold a secret.
"""

import logging
import math
import operator
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from numbers import Real
from pathlib import Path
from typing import Any

from shmfeed.errors import BadArgumentError, ShmfeedError
from shmfeed.text import repr_short

WAIT_SECONDS = 2.0  # for which the feeder holds a request without a question
SLACK_SECONDS = 5.0  # beyond it, for the feeder's answer
PAUSE_SECONDS = 0.2  # between requests while no feeder answers
REFUSED_SECONDS = 5.0  # after a feeder that takes no history from a manager
MAX_BARS = 50_000  # that a function may return for one question
MAX_ROWS = 2000  # of them in the range; a feeder asks for half as many at a time

log = logging.getLogger(__name__)

# A symbol, a timeframe, and the first and the last open time in ms UTC.
HistoryFunction = Callable[[str, str, int, int], Iterable[object]]
Row = tuple[int, float, float, float, float, float, float | None]

_FIELDS = ("open_time", "open", "high", "low", "close", "volume")
_ACCEPTED = (
    "a bar is an object or a dict with open_time (ms UTC), open, high, low, close,"
    " volume and maybe money, or a tuple of these in this order"
)


class HistoryResponder:
    """The thread that answers a feeder's questions by a function.

    Attributes:
        function: The function; another one may take its place at any time.

    Thread safety: any thread may call any method.
    """

    def __init__(
        self,
        function: HistoryFunction,
        ask: Callable[..., dict[str, Any]],
        feed: str,
    ) -> None:
        """Start nothing yet.

        Args:
            function: Returns bars, oldest first.
            ask: Sends a request to the feeder and returns its answer.
            feed: The feed's name, for the log.
        """
        self.function = function
        self._ask = ask
        self._feed = feed
        self._told = ""  # the failure that the log has
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="shmfeed-history", daemon=True
        )

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def end(self) -> None:
        """Ask no more; a request under way may still wait for its answer."""
        self._stopping.set()

    def join(self, seconds: float) -> None:
        """Wait for the thread, unless the function holds it for longer."""
        if self._thread.ident is not None:
            self._thread.join(seconds)

    def _run(self) -> None:
        answer: dict[str, Any] = {}
        while not self._stopping.is_set():
            begun = time.monotonic()
            try:
                limit = WAIT_SECONDS + SLACK_SECONDS
                question = self._ask("history", limit, wait=WAIT_SECONDS, **answer)
                pause = 0.0 if question["number"] else PAUSE_SECONDS
                answer = self._answer(question) if question["number"] else {}
            except BadArgumentError:  # no such request, or another source
                answer, pause = {}, REFUSED_SECONDS
            except ShmfeedError:
                answer, pause = {}, PAUSE_SECONDS
            self._stopping.wait(max(0.0, pause - (time.monotonic() - begun)))

    def _answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        number = question["number"]
        where = question["symbol"], question["timeframe"]
        span = question["start_ms"], question["end_ms"]
        try:
            rows = rows_of(self.function(*where, *span), *span)
        except NotBarsError as error:
            self._tell(f"returned no history of {' '.join(where)}: {error}")
            failure = f"returned no history: {error}"
            return {"number": number, "failure": failure, "kind": "malformed"}
        except BaseException as error:  # noqa: BLE001 # whatever a user's function does
            failure = f"failed: {_describe(error)}"
            self._tell(f"{failure}, asked for {' '.join(where)}")
            return {"number": number, "failure": failure, "kind": "away"}
        self._told = ""
        return {"number": number, "rows": rows}

    def _tell(self, failure: str) -> None:
        if failure != self._told:
            self._told = failure
            log.warning("feed %s: the backfill function %s", self._feed, failure)


class NotBarsError(Exception):
    """A function's result that is no list of bars."""


def rows_of(bars: object, first: int, last: int) -> list[Row]:
    """Return the bars that open from `first` to `last` as rows.

    Raises:
        NotBarsError: They are not bars, not oldest first, or too many.
    """
    if isinstance(bars, str | bytes | Mapping) or not isinstance(bars, Iterable):
        raise NotBarsError(f"{repr_short(bars)} is no list of bars")
    rows: list[Row] = []
    before = -math.inf
    for number, bar in enumerate(bars, 1):
        if number > MAX_BARS:
            raise NotBarsError(f"more than {MAX_BARS} bars")
        row = _row_of(bar, number)
        if row[0] <= before:
            raise NotBarsError(
                f"bar {number} opens at {row[0]}, not after the bar before it; bars"
                " must come oldest first, each once"
            )
        before = row[0]
        if first <= row[0] <= last:
            rows.append(row)
    if len(rows) > MAX_ROWS:
        raise NotBarsError(
            f"{len(rows)} bars from {first} to {last}, more than the timeframe has"
        )
    return rows


def _row_of(bar: object, number: int) -> Row:
    values = _values_of(bar)
    if values is None:
        raise NotBarsError(f"bar {number} is {repr_short(bar)}; {_ACCEPTED}")
    opened, *rest, money = values
    try:
        prices = [_number(value) for value in rest]
        time_ms = _whole(opened)
        turnover = None if money is None else _number(money)
    except (TypeError, ValueError, OverflowError, ArithmeticError):
        raise NotBarsError(
            f"bar {number} has a value that is no number: {repr_short(bar)}"
        ) from None
    if not all(map(math.isfinite, prices)):
        raise NotBarsError(f"bar {number} has no finite values: {repr_short(bar)}")
    if turnover is not None and not math.isfinite(turnover):
        turnover = None
    return (time_ms, *prices, turnover)  # type: ignore[return-value] # five prices


def _values_of(bar: object) -> tuple[object, ...] | None:
    """Return the seven values of a bar, None if it is no bar."""
    if isinstance(bar, Mapping):
        found = tuple(bar.get(name) for name in _FIELDS)
        return None if None in found else (*found, bar.get("money"))
    if all(hasattr(bar, name) for name in _FIELDS):
        found = tuple(getattr(bar, name) for name in _FIELDS)
        return (*found, getattr(bar, "money", None))
    values = bar.tolist() if hasattr(bar, "tolist") else bar  # a row of numpy's
    if not isinstance(values, tuple | list):
        return None
    if len(values) == len(_FIELDS):
        return (*values, None)
    return tuple(values) if len(values) == len(_FIELDS) + 1 else None


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, Real | Decimal | str):
        raise TypeError
    return float(value)


def _whole(value: object) -> int:
    """Return a time in ms: an integer, or a float that is one, as pandas may have."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool):
        raise TypeError
    return operator.index(value)  # type: ignore[arg-type] # it raises TypeError


def _describe(error: BaseException) -> str:
    """Return an exception's class and the line that raised it, without its text."""
    frames = traceback.extract_tb(error.__traceback__)
    if len(frames) < 2:  # the call itself
        return type(error).__name__
    at = frames[-1]
    return " at ".join((type(error).__name__, f"{Path(at.filename).name}:{at.lineno}"))
