"""The keys of a feed in Redis.

All begin with the feed's name in braces, so that the nodes of a cluster keep them
together, and a script may use all of them.

    leader      who leads, and the epoch; expires unless it is renewed
    epoch       hash: the fence, the sequence of flushes, and what loses its place
    live        stream: an entry for each flush, the newest thousand or so
    head        the last head
    catalog     the streams
    state       marks and forming bars of all streams, as of one entry of `live`
    ring:S:T    closed rows of symbol S and timeframe T
    members     hash: publishers that live
    wants       hash: the streams that each follower wants
    answers     hash: the leader's answer to each
"""

from shmfeed.bar import StreamKey


class FeedKeys:
    """The names of the keys of one feed.

    Attributes:
        fence: `epoch`, which all scripts look at first.
        leader, live, head, catalog, state, members, wants, answers: As above.
    """

    def __init__(self, name: str) -> None:
        self._prefix = f"{{shmfeed:{name}}}:"
        self.leader = self._prefix + "leader"
        self.fence = self._prefix + "epoch"
        self.live = self._prefix + "live"
        self.head = self._prefix + "head"
        self.catalog = self._prefix + "catalog"
        self.state = self._prefix + "state"
        self.members = self._prefix + "members"
        self.wants = self._prefix + "wants"
        self.answers = self._prefix + "answers"

    def ring(self, stream: StreamKey) -> str:
        """Return the key of a stream's ring."""
        symbol, timeframe = stream
        return f"{self._prefix}ring:{symbol}:{timeframe}"
