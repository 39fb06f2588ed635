"""What a venue serves, what it was asked for, and what is wanted. No I/O, no clock.

`in_force` is what the venue acknowledged last, on this connection or a former one;
`wanted` is what it shall serve. Where they differ there is a question: asked when a
connection begins, or on a live one when `wanted` changes. One question at a time, of
one or more requests, each to be acknowledged.
"""

import math
from collections import deque

import msgspec

from shmfeed.bar import StreamKey
from shmfeed.codecs import Codec, Request
from shmfeed.errors import BadArgumentError

Streams = tuple[StreamKey, ...]


class Subscribed(msgspec.Struct):
    """The venue serves these streams from here on."""

    streams: Streams


class ChangeRefused(msgspec.Struct):
    """The change asked for last is off, for the reason given; nothing changed."""

    message: str


class Subscription:
    """The talk about streams over one connection after another.

    `begun`: the present connection has been acknowledged. `tangled`: a change was
    answered in part, and only a new connection makes sure what the venue serves.
    """

    def __init__(self, codec: Codec, streams: Streams, ack_timeout: float) -> None:
        self.in_force = streams
        self.wanted = streams
        self.begun = False
        self.tangled = False
        self._outcomes: list[Subscribed | ChangeRefused] = []
        self._codec = codec
        self._ack_timeout = ack_timeout
        self._changing = False  # someone waits for the outcome of a change
        self._asked: Streams | None = None
        self._queue: deque[Request] = deque()
        self._unanswered: list[str] = []  # ids of requests sent, oldest first
        self._sent_at = -math.inf
        self._sent = 0  # requests of the present question

    @property
    def asking(self) -> bool:
        return self._asked is not None

    def change(self, streams: Streams) -> None:
        """Want these from now on; a change still open is off."""
        if self._changing:
            self._outcomes.append(ChangeRefused("superseded by a later change"))
        self._changing = True
        self.wanted = streams

    def take_outcomes(self) -> list[Subscribed | ChangeRefused]:
        """What the caller is to be told, in order, and has not been yet."""
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def begin(self, streams: Streams) -> None:
        """On a connection just opened for these streams, ask for them.

        BadArgumentError where the codec cannot put it: to be taken for a refusal.
        """
        self.begun = self.tangled = False
        self._sent_at = -math.inf
        self._open(streams)
        self._ask(self._codec.subscribe(streams))

    def next_frame(self, now: float) -> str | None:
        """What is due to be sent at `now`; not before the codec's interval is over."""
        if self.begun and not self.asking and self.wanted != self.in_force:
            self._ask_change()
        elif self.begun and not self.asking and self._changing:
            self._settle(self.wanted)
        if not self._queue or now < self._sent_at + self._codec.control_interval:
            return None
        request = self._queue.popleft()
        self._unanswered.append(request.id)
        self._sent_at = now
        self._sent += 1
        return request.frame

    def due_in(self, now: float) -> float:
        """Seconds until `next_frame` has one to send, at least 0."""
        if not self._queue:
            return math.inf
        return max(0.0, self._sent_at + self._codec.control_interval - now)

    def acknowledge(self, request_id: str | None) -> None:
        """The venue accepts a request; None: the oldest."""
        if not self._unanswered:
            return
        answered = request_id or self._unanswered[0]
        if answered in self._unanswered:
            self._unanswered.remove(answered)
            self._settle_if_answered()

    def concerns(self, request_id: str | None) -> bool:
        """Whether a refusal of this id is about the question that is open.

        Before anything is in force every refusal is.
        """
        if not self._unanswered:
            return False
        return not self.begun or request_id is None or request_id in self._unanswered

    def refuse(self, message: str) -> bool:
        """The question that is open is answered by no.

        False where that leaves nothing to fall back on: the connection's own streams
        were refused. Otherwise the streams in force stay, or are wanted again.
        """
        asked, live = self._asked, self.begun
        self.tangled = live and self._sent > 1
        self._forget()
        if self.wanted == asked:
            if not self._changing:
                return False
            self._changing = False
            self.wanted = self.in_force
            self._outcomes.append(ChangeRefused(message))
        return live or self.wanted != asked

    def overdue(self, now: float) -> bool:
        """Whether an answer has not come in time."""
        late = now > self._sent_at + self._ack_timeout
        return bool(self._unanswered) and not self._queue and late

    def end(self) -> None:
        """The connection has ended; what is wanted is for the next one."""
        self.begun = self.tangled = False
        self._forget()

    def _forget(self) -> None:
        self._asked = None
        self._queue.clear()
        self._unanswered.clear()

    def _ask_change(self) -> None:
        self._open(self.wanted)
        try:
            self._ask(self._codec.change(self.in_force, self.wanted))
        except BadArgumentError as error:
            self.refuse(str(error))

    def _open(self, streams: Streams) -> None:
        self._asked = streams
        self._sent = 0

    def _ask(self, requests: list[Request]) -> None:
        self._queue.extend(requests)
        self._settle_if_answered()

    def _settle_if_answered(self) -> None:
        if self._asked is not None and not self._queue and not self._unanswered:
            self._settle(self._asked)

    def _settle(self, streams: Streams) -> None:
        self.in_force = streams
        self.begun = True
        self._asked = None
        if streams == self.wanted:
            self._changing = False
        self._outcomes.append(Subscribed(streams))
