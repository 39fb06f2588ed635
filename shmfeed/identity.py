"""The identity of a feed: the protocol, the market and the venue of its rows."""

from collections.abc import Iterable
from typing import NamedTuple

# The protocol of a follower, whose rows have the identity of their leader.
REDIS = "redis"
_SEPARATOR = "/"
_BETWEEN_VENUES = ","


class FeedIdentity(NamedTuple):
    """The source of a feed's rows.

    Attributes:
        protocol: The protocol's name.
        market_type: The market at the venue, as the protocol names it.
        venues: The names of the venue, by default the hosts of its endpoints. Empty
            if they are not known.
    """

    protocol: str
    market_type: str
    venues: tuple[str, ...] = ()

    def __str__(self) -> str:
        return _SEPARATOR.join((self.protocol, self.market_type, self.venue))

    @property
    def venue(self) -> str:
        """The names of the venue as one text."""
        return _BETWEEN_VENUES.join(self.venues)

    @property
    def is_of_follower(self) -> bool:
        """True for the place of rows in Redis: their own identity is not known yet."""
        return self.protocol == REDIS

    def matches(self, other: "FeedIdentity") -> bool:
        """Return True if both name the same source of rows.

        One venue in common is enough, and a venue that is not known equals any.
        """
        if self[:2] != other[:2]:
            return False
        if not self.venues or not other.venues:
            return True
        return not set(self.venues).isdisjoint(other.venues)

    def shortened(self, limit: int) -> "FeedIdentity":
        """Return the identity with the first venues that fit into `limit` bytes."""
        short = self
        while len(str(short).encode()) > limit and len(short.venues) > 1:
            short = short._replace(venues=short.venues[:-1])
        return short


def make_identity(
    protocol: str, market_type: str, venues: Iterable[str]
) -> FeedIdentity:
    """Return an identity. The case of a venue's name does not count."""
    names = dict.fromkeys(name.lower().rstrip(".") for name in venues)
    return FeedIdentity(protocol, market_type, tuple(names))


def parse_identity(text: str) -> FeedIdentity | None:
    """Return the identity that `str` has written, None for any other text."""
    parts = text.split(_SEPARATOR)
    if len(parts) != len(FeedIdentity._fields) or not all(parts[:2]):
        return None
    venues = tuple(name for name in parts[2].split(_BETWEEN_VENUES) if name)
    return FeedIdentity(parts[0], parts[1], venues)
