"""The venue's count of request weights: what it refuses, and for how long. No I/O.

As on Binance, the weights of all requests of a calendar minute add up, refused ones
included. Beyond the limit a request is answered with status 429 and the seconds to the
next minute; a client that goes on is banned, and answered with status 418.
"""

import math
import time
from collections.abc import Callable
from typing import NamedTuple

TOO_MANY, BANNED = 429, 418
_MINUTE = 60.0
_WARNINGS = 5  # requests that are answered with 429 before the ban
_BAN_SECONDS = 120.0
_WORDS = {
    TOO_MANY: "Too much request weight used; current limit is %d request weight per 1 "
    "MINUTE. Please use WebSocket Streams for live updates to avoid polling the API.",
    BANNED: "Way too much request weight used; IP banned until %d. Please use "
    "WebSocket Streams for live updates to avoid bans.",
}


class Excess(NamedTuple):
    """The refusal of a request that is one too many.

    Attributes:
        status: The HTTP status, 429 or 418.
        wait: Seconds for `Retry-After`.
        words: The words of the answer.
    """

    status: int
    wait: int
    words: str


class RequestWeights:
    """The weights that clients used within this minute.

    Args:
        limit: The most weight of a minute.
        clock: Seconds since the epoch.

    Attributes:
        used: The weight that was used in the minute of the last request.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.time) -> None:
        self.used = 0
        self._limit, self._clock = limit, clock
        self._minute = self._warnings = 0
        self._banned_until = 0.0

    def take(self, weight: int) -> Excess | None:
        """Count one request; return its refusal, or None if it is permitted."""
        now = self._clock()
        if now < self._banned_until:
            return self._ban(now)
        minute = int(now // _MINUTE)
        if minute != self._minute:
            self._minute, self.used, self._warnings = minute, 0, 0
        self.used += weight
        if self.used <= self._limit:
            return None
        self._warnings += 1
        if self._warnings > _WARNINGS:
            self._banned_until = now + _BAN_SECONDS
            return self._ban(now)
        wait = math.ceil((minute + 1) * _MINUTE - now)
        return Excess(TOO_MANY, max(1, wait), _WORDS[TOO_MANY] % self._limit)

    def _ban(self, now: float) -> Excess:
        wait = self._banned_until - now
        until = int(self._banned_until * 1000)
        return Excess(BANNED, math.ceil(wait), _WORDS[BANNED] % until)


def refusal_words(status: int, wait: float, limit: int) -> str:
    """Return the words of a refusal with this status, which a fault causes."""
    if status == TOO_MANY:
        return _WORDS[TOO_MANY] % limit
    if status == BANNED:
        return _WORDS[BANNED] % int((time.time() + wait) * 1000)
    return "Internal error; unable to process your request. Please try again."
