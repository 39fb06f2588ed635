"""The streams that followers want, held as leases at the leader's feeder.

A follower's request becomes leases of its own, so that its streams live and end as
those of any strategy of the leader's host, under that feeder's limits. A lease asks for
symbols in one timeframe. A refusal names one reason for all of them, so a lease that is
refused is asked for again in halves, until each refused stream is known by itself.

A leader that resigns, or that is fenced off, gives the leases back; the next one takes
the requests from the engine. So a stream that a leader has for its followers alone says
nothing about its feed: the next leader would have it too.
"""

import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field

from shmfeed.bar import StreamKey
from shmfeed.control.lease_client import LeaseClaim, LeaseKeeper, keeper
from shmfeed.errors import BadArgumentError
from shmfeed.relay.engine import Answer, Request
from shmfeed.segment.mapping import place

SETTLE_SECONDS = 30.0  # after which a lease that is not held is answered as refused
ASK_AGAIN_SECONDS = 60.0  # after a refusal
_MOST_SYMBOLS = 500  # of a lease


@dataclass(slots=True)
class _Lease:
    streams: tuple[StreamKey, ...]
    claim: LeaseClaim
    asked_at: float


@dataclass(slots=True)
class _Refusal:
    reason: str
    at: float


@dataclass(slots=True)
class _Follower:
    leases: list[_Lease] = field(default_factory=list)
    refused: dict[StreamKey, _Refusal] = field(default_factory=dict)


class RequestedStreams:
    """The leases of all followers of one leader. One thread uses it.

    Attributes:
        added: The wanted streams that the feed did not carry before they were asked
            for.
    """

    def __init__(
        self,
        feed: str,
        leases: LeaseKeeper = keeper,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._feed = feed
        self._path = place(feed).socket
        self._keeper = leases
        self._clock = clock
        self._followers: dict[str, _Follower] = {}
        self._wanted: set[StreamKey] = set()
        self.added: set[StreamKey] = set()

    def update(
        self,
        requests: Iterable[Request],
        carried: Callable[[], Collection[StreamKey]] = lambda: (),
    ) -> list[tuple[str, Answer]]:
        """Hold what these requests want, and nothing else.

        Args:
            requests: Of the followers that live.
            carried: Returns the streams that the feed carries now.

        Returns:
            By follower the answers to those whose streams are all held or refused.
        """
        wanted = {one.follower: one for one in requests}
        self._note_added(wanted.values(), carried)
        for name in self._followers.keys() - wanted.keys():
            self._drop(self._followers.pop(name).leases)
        answers = []
        for name, request in wanted.items():
            follower = self._followers.setdefault(name, _Follower())
            self._settle(name, follower)
            self._ask(name, follower, request.streams)
            answer = self._answer(follower, request.streams)
            if answer is not None:
                answers.append((name, answer))
        return answers

    def _note_added(
        self,
        requests: Iterable[Request],
        carried: Callable[[], Collection[StreamKey]],
    ) -> None:
        streams = {stream for one in requests for stream in one.streams}
        new = streams - self._wanted
        if new:
            self.added |= new.difference(carried())
        self.added &= streams
        self._wanted = streams

    def close(self) -> None:
        """Give all leases back."""
        for follower in self._followers.values():
            self._drop(follower.leases)
        self._followers.clear()
        self._wanted.clear()
        self.added.clear()

    def _drop(self, leases: Iterable[_Lease]) -> None:
        for lease in leases:
            self._keeper.drop(lease.claim)

    def _settle(self, name: str, follower: _Follower) -> None:
        """Take the refusals; ask for the halves of a lease of several streams."""
        kept: list[_Lease] = []
        now = self._clock()
        for lease in follower.leases:
            refusal = lease.claim.refusal
            if refusal is None:
                kept.append(lease)
                continue
            self._keeper.drop(lease.claim)
            if len(lease.streams) == 1:
                follower.refused[lease.streams[0]] = _Refusal(str(refusal), now)
            else:
                half = len(lease.streams) // 2
                kept.append(self._lease(name, lease.streams[:half]))
                kept.append(self._lease(name, lease.streams[half:]))
        follower.leases = kept

    def _ask(
        self, name: str, follower: _Follower, streams: Collection[StreamKey]
    ) -> None:
        """Ask for streams that are wanted now, then give back those that are not."""
        wanted = set(streams)
        for stream in follower.refused.keys() - wanted:
            del follower.refused[stream]
        kept = [one for one in follower.leases if wanted.issuperset(one.streams)]
        unwanted = [one for one in follower.leases if one not in kept]
        asked = {stream for lease in kept for stream in lease.streams}
        now = self._clock()
        new = [
            stream
            for stream in dict.fromkeys(streams)
            if stream not in asked and not self._is_refused(follower, stream, now)
        ]
        for group in _groups(new):
            try:
                kept.append(self._lease(name, group))
            except BadArgumentError as error:  # a name that cannot be sent
                refusal = _Refusal(str(error), now)
                follower.refused.update(dict.fromkeys(group, refusal))
        follower.leases = kept
        self._drop(unwanted)

    @staticmethod
    def _is_refused(follower: _Follower, stream: StreamKey, now: float) -> bool:
        refusal = follower.refused.get(stream)
        return refusal is not None and now - refusal.at < ASK_AGAIN_SECONDS

    def _lease(self, follower: str, streams: tuple[StreamKey, ...]) -> _Lease:
        fields: dict[str, object] = {
            "manager": uuid.uuid4().hex,
            "name": f"relay to {follower}",
            "symbols": [symbol for symbol, _ in streams],
            "resolutions": [streams[0][1]],
        }
        claim = LeaseClaim(self._feed, self._path, fields, lambda: None)
        self._keeper.add(claim)
        return _Lease(streams, claim, self._clock())

    def _answer(
        self, follower: _Follower, streams: tuple[StreamKey, ...]
    ) -> Answer | None:
        """Return the answer once each stream is held, refused or late."""
        refused: dict[StreamKey, str] = {}
        now = self._clock()
        for lease in follower.leases:
            if lease.claim.is_held:
                for stream in lease.streams:
                    follower.refused.pop(stream, None)
                continue
            if lease.claim.settled.is_set() and lease.claim.refusal is None:
                continue  # it was held, and is asked for again after a restart
            if now - lease.asked_at < SETTLE_SECONDS:
                if any(one not in follower.refused for one in lease.streams):
                    return None
                continue
            reason = str(lease.claim.timeout_error(SETTLE_SECONDS))
            refused.update(dict.fromkeys(lease.streams, reason))
        known = {key: one.reason for key, one in follower.refused.items()}
        return Answer(streams, {**known, **refused})


def _groups(streams: Iterable[StreamKey]) -> Iterator[tuple[StreamKey, ...]]:
    """Return streams in groups of one timeframe."""
    by_timeframe: dict[str, list[StreamKey]] = {}
    for stream in streams:
        by_timeframe.setdefault(stream[1], []).append(stream)
    for group in by_timeframe.values():
        for start in range(0, len(group), _MOST_SYMBOLS):
            yield tuple(group[start : start + _MOST_SYMBOLS])
