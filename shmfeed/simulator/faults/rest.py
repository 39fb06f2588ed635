"""Faults of REST: edits of an answer's rows, and of the answer itself."""

import json
import math
import random
from collections.abc import Callable
from typing import Any, NamedTuple

from shmfeed.simulator.faults.injection import FaultSchedule, FaultTrigger
from shmfeed.simulator.faults.spec import OTHER
from shmfeed.simulator.request_weights import BANNED, TOO_MANY, refusal_words

_HANG_SECONDS = 60.0  # as a handshake that gets no answer
_ELSEWHERE = "http://elsewhere.invalid"
_HTML = b"<!DOCTYPE html><html><head><title>Maintenance</title></head></html>\n"
_PRICES = slice(1, 5)  # columns of a row
_OPEN_TIME, _CLOSE_TIME = 0, 6
_TOO_MANY_REQUESTS, _DISCONNECTED = -1003, -1001
_SPOT_LIMIT = 6000
_USED_WEIGHT = "X-MBX-USED-WEIGHT-1M"

Row = list[Any]


class Answer(NamedTuple):
    """An answer to a REST request.

    Attributes:
        status: The HTTP status.
        body: The body.
        headers: Headers beside the usual ones, or in their place.
        delay: Seconds after which it is sent.
        sent: Bytes of the body that are sent before the connection is cut; 0: none of
            the head either; None: all, and the connection goes on.
    """

    status: int
    body: bytes
    headers: dict[str, str]
    delay: float = 0.0
    sent: int | None = None


class RestFaults:
    """The faults of one venue's REST.

    Args:
        schedule: The venue's own faults.
    """

    def __init__(self, schedule: FaultSchedule) -> None:
        self._schedule = schedule

    @property
    def age(self) -> float:
        """Seconds for which a closed bar is not in the rows yet."""
        trigger = self._schedule.due("rest-behind")
        return trigger.fault.argument if trigger is not None else 0.0

    def rows(self, rows: list[Row], forming: Callable[[], list[Row]]) -> Any:
        """Return the answer that takes the place of these rows.

        Args:
            rows: The rows that were asked for.
            forming: Returns the row of the forming bar.
        """
        if self._schedule.due("rest-empty"):
            return []
        if self._schedule.due("rest-forming"):
            rows = rows + [row for row in forming() if row not in rows]
        for name, edit in ROW_EDITS.items():
            trigger = self._schedule.due(name)
            if trigger is not None:
                rows = edit(rows, trigger)
        return rows

    def answer(self, answer: Answer, target: str) -> Answer:
        """Return the answer in place of this one to a request of `target`."""
        for name, edit in ANSWER_EDITS.items():
            trigger = self._schedule.due(name)
            if trigger is not None:
                answer = edit(answer, trigger, target)
        return answer


def _unordered(rows: list[Row], trigger: FaultTrigger) -> list[Row]:
    return trigger.random.sample(rows, len(rows))


def _doubled(rows: list[Row], _trigger: FaultTrigger) -> list[Row]:
    return [row for row in rows for _ in range(2)]


def _overlapping(rows: list[Row], _trigger: FaultTrigger) -> list[Row]:
    return [one for row in rows for one in (row, _shifted(row))]


def _off_grid(rows: list[Row], _trigger: FaultTrigger) -> list[Row]:
    return [_shifted(row) for row in rows]


def _shifted(row: Row) -> Row:
    half = (row[_CLOSE_TIME] + 1 - row[_OPEN_TIME]) // 2
    moved = [*row]
    moved[_OPEN_TIME] += half
    moved[_CLOSE_TIME] += half
    return moved


def _priced(rows: list[Row], trigger: FaultTrigger) -> list[Row]:
    factor = trigger.fault.argument
    found = [[*row] for row in rows]
    for row in found:
        row[_PRICES] = [f"{float(price) * factor:.8f}" for price in row[_PRICES]]
    return found


def _rubbish(rows: list[Row], trigger: FaultTrigger) -> Any:
    if not rows:
        return {"rows": "none"}
    found = [[*row] for row in rows]
    number = trigger.random.randrange(len(rows))
    damaged = trigger.random.choice(_DAMAGES)(found[number], trigger.random)
    return damaged if isinstance(damaged, dict) else found


def _cell(column: int, value: object) -> Callable[[Row, random.Random], None]:
    def damage(row: Row, _random: random.Random) -> None:
        row[column] = value

    return damage


def _short(row: Row, _random: random.Random) -> None:
    del row[5:]


def _high_below_low(row: Row, _random: random.Random) -> None:
    row[2], row[3] = row[3], f"{float(row[2]) + 1:.8f}"


def _no_list(_row: Row, _random: random.Random) -> dict[str, Any]:
    return {"code": 0, "data": None}


_DAMAGES: tuple[Callable[[Row, random.Random], Any], ...] = (
    _cell(0, "soon"),
    _cell(1, "NaN"),
    _cell(2, "1e999"),
    _cell(3, None),
    _cell(4, ["1"]),
    _cell(5, "-1"),
    _short,
    _high_below_low,
    _no_list,
)

# In the order in which they are applied.
ROW_EDITS: dict[str, Callable[[list[Row], FaultTrigger], Any]] = {
    "rest-prices": _priced,
    "rest-grid": _off_grid,
    "rest-overlap": _overlapping,
    "rest-doubled": _doubled,
    "rest-unordered": _unordered,
    "rest-rubbish": _rubbish,
}


def _used(answer: Answer, trigger: FaultTrigger, _target: str) -> Answer:
    used = int(answer.headers.get(_USED_WEIGHT, "0")) + int(trigger.fault.argument)
    headers = answer.headers | {_USED_WEIGHT: str(used)}
    return answer._replace(headers=headers)


def _html(answer: Answer, _trigger: FaultTrigger, _target: str) -> Answer:
    headers = answer.headers | {"Content-Type": "text/html"}
    return answer._replace(body=_HTML, headers=headers)


def _huge(answer: Answer, trigger: FaultTrigger, _target: str) -> Answer:
    return answer._replace(body=answer.body.ljust(int(trigger.fault.argument)))


def _truncated(answer: Answer, _trigger: FaultTrigger, _target: str) -> Answer:
    return answer._replace(body=answer.body[: len(answer.body) // 2])


def _redirected(answer: Answer, trigger: FaultTrigger, target: str) -> Answer:
    host = _ELSEWHERE if trigger.fault.choice == OTHER else ""
    headers = answer.headers | {"Location": host + target}
    return Answer(int(trigger.fault.argument), b"", headers)


def _refused(answer: Answer, trigger: FaultTrigger, _target: str) -> Answer:
    status, wait = int(trigger.fault.argument), trigger.fault.wait
    headers = dict(answer.headers)
    if wait:
        headers["Retry-After"] = str(math.ceil(wait))
    code = _TOO_MANY_REQUESTS if status in {TOO_MANY, BANNED} else _DISCONNECTED
    words = refusal_words(status, wait, _SPOT_LIMIT)
    return Answer(status, json.dumps({"code": code, "msg": words}).encode(), headers)


def _slow(answer: Answer, trigger: FaultTrigger, _target: str) -> Answer:
    return answer._replace(delay=trigger.fault.argument)


def _cut(answer: Answer, _trigger: FaultTrigger, _target: str) -> Answer:
    return answer._replace(sent=max(1, len(answer.body) // 2))


def _hanging(answer: Answer, _trigger: FaultTrigger, _target: str) -> Answer:
    return answer._replace(delay=_HANG_SECONDS, sent=0)


def _away(answer: Answer, _trigger: FaultTrigger, _target: str) -> Answer:
    return answer._replace(delay=0.0, sent=0)


# In the order in which they are applied.
ANSWER_EDITS: dict[str, Callable[[Answer, FaultTrigger, str], Answer]] = {
    "rest-used": _used,
    "rest-html": _html,
    "rest-huge": _huge,
    "rest-truncated": _truncated,
    "rest-redirect": _redirected,
    "rest-status": _refused,
    "rest-slow": _slow,
    "rest-cut": _cut,
    "rest-hang": _hanging,
    "rest-away": _away,
}
