"""Decide about each dial: admit it, or refuse it with a status and words. No I/O.

A ban begins at its time in the faults and lasts its length; a dial during the ban makes
it begin again.
"""

import math
import time
from typing import NamedTuple

from shmfeed.simulator.faults import FaultSchedule
from shmfeed.simulator.log import VenueLog

_BANNED, _UNAVAILABLE, _TOO_MANY = 418, 503, 429
_PHRASES = {_BANNED: "I'm a teapot", _TOO_MANY: "Too Many Requests"}
_WORDS = {
    _TOO_MANY: "Too many requests; please use the websocket for live updates.",
    _BANNED: "Way too much request weight used; IP banned until %d.",
}


class Refusal(NamedTuple):
    """The refusal of a connection.

    Attributes:
        status: The HTTP status that answers the handshake; 0 cuts the connection.
        wait: Seconds that the client is asked to wait, in `Retry-After`; 0 without it.
        body: The body of the answer.
    """

    status: int
    wait: float = 0.0
    body: str = "refused\n"

    @property
    def phrase(self) -> str:
        """The words behind the status."""
        return _PHRASES.get(self.status, "Refused")

    @property
    def headers(self) -> dict[str, str]:
        """The headers that the refusal adds."""
        return {"Retry-After": str(math.ceil(self.wait))} if self.wait else {}


class Admission:
    """The venue's decision about each dial.

    Attributes:
        refusal: The refusal that a test asked for; None admits.
        faults: The venue's own faults; assigning new ones ends a ban.
    """

    def __init__(self, log: VenueLog) -> None:
        self.refusal: Refusal | None = None
        self._log = log
        self.faults = FaultSchedule((), "")

    @property
    def faults(self) -> FaultSchedule:
        return self._faults

    @faults.setter
    def faults(self, faults: FaultSchedule) -> None:
        self._faults = faults
        self._banned_until: dict[float, float] = {}  # by the ban's begin, seconds

    def decide(self) -> Refusal | None:
        """Count one dial; return its refusal, or None if it is admitted."""
        ban = self._ban()
        self._log.add_dial(is_banned=ban is not None)
        if self.refusal is not None or ban is not None:
            return self.refusal or ban
        trigger = self._faults.due("refuse")
        if trigger is None:
            return None
        status, wait = int(trigger.fault.argument), trigger.fault.wait
        if wait and not status:
            status = _UNAVAILABLE
        return refusal(status, wait)

    def _ban(self) -> Refusal | None:
        trigger = self._faults.due("ban")
        if trigger is None:
            return None
        begin, length, since = (
            trigger.fault.start,
            trigger.fault.argument,
            self._faults.since,
        )
        if since >= self._banned_until.setdefault(begin, begin + length):
            return None
        self._banned_until[begin] = since + length  # dialling prolongs it
        return refusal(_BANNED, length)


def refusal(status: int, wait: float = 0.0) -> Refusal:
    """Return the refusal with this status, in a venue's words."""
    words = _WORDS.get(status)
    if words is None:
        return Refusal(status, wait)
    if status == _BANNED:
        words %= int((time.time() + wait) * 1000)
    return Refusal(status, wait, f'{{"code":-1003,"msg":"{words}"}}')
