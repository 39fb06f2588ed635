"""The signs of a leader's life: its last head, and when something was heard of it.

All moments are CLOCK_BOOTTIME ns of this host.
"""

from shmfeed.memory.words import boot_ns
from shmfeed.relay.engine import Joined
from shmfeed.relay.flush import Head

SILENT_SECONDS = 3.0  # a leader that lives is heard of each half second
_SECOND = 1_000_000_000


class LeaderSigns:
    """The signs that one link has brought of its leader.

    Attributes:
        head: The last head, None before the first.
        heard_at: When the link brought something last.
        made_at: When the leader made that, or earlier; 0 before the first.
    """

    def __init__(self) -> None:
        self.head: Head | None = None
        self.heard_at = self.made_at = 0
        self._taken_at = self._lived_at = 0

    def hear(self, at: int, delay: float) -> None:
        """Take what the link brought at a time, and how many seconds it took at most.

        It comes from the log, in order: the leader lives, however slow the link is.
        """
        self.heard_at = self._lived_at = at
        self.made_at = at - round(delay * _SECOND)
        self._taken_at = boot_ns()

    def join(self, joined: Joined, at: int) -> None:
        """Take what a join has told.

        An engine keeps it for as long as it runs, whatever has become of the leader. So
        what is old is no sign of life.
        """
        self.head = joined.head
        self.hear(at, joined.delay)
        if joined.delay >= SILENT_SECONDS:
            self._lived_at = self.made_at

    def take_rings(self) -> None:
        """Take that all rings of a join have come, which may have taken a while."""
        now = boot_ns()
        if self._lived_at == self.heard_at:
            self._lived_at = now
        self.heard_at = now

    def why_away(self) -> str:
        """Return why nothing comes from the leader's feeder, "" if something may."""
        head = self.head
        if head is None:
            return ""
        if head.state == "disconnected":
            return f"the feeder of the leader {head.leader} is dead"
        if (boot_ns() - self._lived_at) / _SECOND < SILENT_SECONDS:
            return ""
        return f"no leader: nothing from {head.leader} for {SILENT_SECONDS:g} s or more"

    def error(self) -> str:
        """Return what is wrong with the leader's feed now, "" for nothing."""
        head, away = self.head, self.why_away()
        if head is None or away or head.state == "connected":
            return away
        why = head.last_error or f"its state is {head.state}"
        return f"the leader {head.leader} has no connection: {why}"

    def lag(self, is_away: bool) -> float | None:
        """Return the seconds from the leader's last publishing to here, None: unknown.

        It grows while the leader is away.
        """
        if not self.made_at:
            return None
        until = boot_ns() if is_away else self._taken_at
        return round((until - self.made_at) / _SECOND, 6)
