"""Streams that go over one connection, or over two where there are two lines.

A stream of a group is covered while one of the group's connections serves.
"""

from collections.abc import Sequence

from shmfeed.wire.channel import Dialer
from shmfeed.wire.events import SessionStatus, Streams
from shmfeed.wire.link import Link

# From best to worst.
STATES = ("connected", "connecting", "disconnected", "reconnecting", "error")


class Group:
    """The links of one set of streams: one a line.

    Attributes:
        links: The links, in the order of their lines.
        streams: The streams to carry.
        agreed: The streams before the change in progress.
        is_joining: True while a change that added this group has no outcome.
    """

    def __init__(
        self,
        dialer: Dialer,
        endpoints: Sequence[str],
        streams: Streams,
        *,
        is_joining: bool = False,
    ) -> None:
        self.streams = streams
        self.agreed: Streams = () if is_joining else streams
        self.is_joining = is_joining
        # The second line begins with another endpoint, where there is one.
        self.links = [
            Link(
                dialer,
                [
                    *endpoints[line % len(endpoints) :],
                    *endpoints[: line % len(endpoints)],
                ],
                streams,
                line,
                may_skip=not is_joining,
            )
            for line in range(dialer.settings.lines)
        ]

    @property
    def status(self) -> SessionStatus:
        """The best status of the links."""
        return min((link.status for link in self.links), key=rank)

    @property
    def has_settled(self) -> bool:
        """True if a link carries the wanted streams, and no live one is changing."""
        live = [link for link in self.links if link.is_live]
        return self.is_parked or (
            bool(live) and not any(link.is_changing for link in live)
        )

    @property
    def is_parked(self) -> bool:
        """True if the venue refuses every stream of the group."""
        return all(link.is_parked for link in self.links)

    @property
    def failure(self) -> str:
        """The reason why no link of a joining group connected; empty if not known."""
        failed = [one.status.last_error for one in self.links if one.status.attempts]
        return failed[-1] if len(failed) == len(self.links) else ""

    def change(self, streams: Streams) -> None:
        """Carry these streams instead; `has_settled` tells the end."""
        self.streams = streams
        for link in self.links:
            link.change(streams)

    def settle(self) -> None:
        """Take the present streams as agreed: the venue accepts the change."""
        self.agreed = self.streams
        self.is_joining = False
        for link in self.links:
            link.may_skip = True

    def roll_back(self) -> None:
        """Carry the streams of before the change again."""
        self.streams = self.agreed
        for link in self.links:
            link.roll_back(self.agreed)

    def close(self, timeout: float = 0.0) -> None:
        """Close every connection."""
        for link in self.links:
            link.close(timeout)


def rank(status: SessionStatus) -> int:
    """Return the place of a state in the order from best to worst."""
    return STATES.index(status.state)
