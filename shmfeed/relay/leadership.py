"""The choice of a leader among the publishers of a feed: lead, stand by, resign.

The engine elects: the first publisher that asks while none leads is the leader, until
it resigns or does not renew in time, and each leader has a higher epoch than all before
it. The rules here say when a publisher asks and when it resigns:

- A leader whose own feed is not fit resigns to a member whose feed is connected and in
  better health. Without such a member it goes on, and its flushes tell the reason.
- A publisher whose feed is not fit leaves the place to one that is, for some seconds.

A feed is fit if its feeder lives, it is connected or was so a moment ago, and no stream
of it is stale. Streams that it has for followers alone do not count: the next leader
would have them too, and would resign in its turn.
"""

import os
import socket
import time
from collections.abc import Callable
from typing import NamedTuple

from shmfeed.health import Health, health_rank
from shmfeed.layout import State
from shmfeed.relay.engine import NO_LEADER, Engine, Leadership, Member

CONFIRM_SECONDS = 3.0  # without a connection before a leader resigns
YIELD_SECONDS = 5.0  # left to a fitter member to become the leader
_STALE = health_rank("stale")


class OwnFeed(NamedTuple):
    """The state and the health of a publisher's own feed."""

    state: State
    health: Health


def member_name() -> str:
    """Return the name of this process among publishers and followers: host:pid."""
    return f"{socket.gethostname()}:{os.getpid()}"


class Candidate:
    """One publisher in the choice of a leader. One thread uses it.

    Attributes:
        name: Its name.
        epoch: Its epoch while it leads, else 0.
        leadership: The leader, as far as it is known.
    """

    def __init__(
        self, engine: Engine, name: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name = name
        self.epoch = 0
        self.leadership = NO_LEADER
        self._engine = engine
        self._clock = clock
        self._connected_at = clock()
        self._vacant_at: float | None = None

    @property
    def leads(self) -> bool:
        """True from `stand_by`'s success until the leadership has ended."""
        return bool(self.epoch)

    def stand_by(self, own: OwnFeed, may_lead: Callable[[], None]) -> bool:
        """Tell that this publisher lives, and lead if no fitter one does.

        Args:
            own: Its feed.
            may_lead: Called before this publisher asks to lead; its error prevents it.

        Returns:
            True if it leads now.
        """
        now = self._clock()
        others = self._others(own, now)
        self.leadership = self._engine.leadership()
        if self.leadership.epoch and self.leadership.leader != self.name:
            self._vacant_at = None
            return False
        if self._vacant_at is None:
            self._vacant_at = now
        yields = not self._is_fit(own, now) and any(map(_is_fit, others))
        if yields and now - self._vacant_at < YIELD_SECONDS:
            return False
        may_lead()
        return self._lead()

    def _lead(self) -> bool:
        since = time.time_ns() // 1_000_000
        epoch = self._engine.lead(self.name, since)
        if epoch is None:
            self.leadership = self._engine.leadership()
            return False
        self._vacant_at = None
        self.epoch = epoch
        self.leadership = Leadership(self.name, epoch, since)
        return True

    def stay(self, own: OwnFeed) -> bool:
        """Tell that this leader lives; return False if it should resign.

        A fitter member waits for its place.
        """
        now = self._clock()
        others = self._others(own, now)
        if self._is_fit(own, now):
            return True
        rank = health_rank(own.health)
        return not any(_is_fit(one) and one.rank < rank for one in others)

    def resign(self) -> None:
        """Leave the place to another member."""
        self.lose()
        self._vacant_at = self._clock()
        self._engine.resign()

    def lose(self) -> None:
        """Note that another one leads, or will."""
        self.epoch = 0
        self.leadership = NO_LEADER
        self._vacant_at = None

    def _others(self, own: OwnFeed, now: float) -> list[Member]:
        """Tell that this publisher lives; return the others that do.

        Another host may have the same name, and its publisher the same pid.
        """
        member = self._member(own, now)
        members = self._engine.stand_by(member)
        if member in members:
            members.remove(member)
        return members

    def _member(self, own: OwnFeed, now: float) -> Member:
        is_connected = own.state == "connected"
        if is_connected:
            self._connected_at = now
        return Member(self.name, is_connected, health_rank(own.health))

    def _is_fit(self, own: OwnFeed, now: float) -> bool:
        was_connected = now - self._connected_at < CONFIRM_SECONDS
        is_broken = own.state == "error" or health_rank(own.health) >= _STALE
        return was_connected and not is_broken


def _is_fit(member: Member) -> bool:
    return member.is_connected and member.rank < _STALE
