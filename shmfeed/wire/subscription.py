"""The question that is open with the venue: which streams it shall serve. No I/O.

A question is asked when a connection begins, and on a live one when the wanted streams
change. There is one question at a time; it takes one or more requests, and the venue
has to acknowledge each. Until then, the streams acknowledged before stay in force.
"""

import math
from collections import deque
from typing import Literal, NamedTuple

from shmfeed.codecs import Codec, Request
from shmfeed.errors import BadArgumentError
from shmfeed.wire.events import ChangeOutcome, ChangeRefused, Streams, Subscribed


class Refusal(NamedTuple):
    """The consequences of a refusal.

    `outcome` is the end of the open change, if there is one. `then` says what becomes
    of the connection: `stay` on it, `leave` it for a new one because the venue may
    serve a part of what it refused, or `fail` because no streams are left to ask for.
    """

    outcome: ChangeRefused | None
    then: Literal["stay", "leave", "fail"]


class Subscription:
    """The state of the subscription over one connection after another.

    Attributes:
        acknowledged: The streams that the venue acknowledged last, on this connection
            or a former one.
        wanted: The streams that it shall serve.
        is_changing: True while a change has no outcome.
        is_live: True once the present connection has been acknowledged.
    """

    def __init__(self, codec: Codec, streams: Streams, ack_timeout: float) -> None:
        self.acknowledged = streams
        self.wanted = streams
        self.is_changing = False
        self.is_live = False
        self._codec = codec
        self._ack_timeout = ack_timeout
        self._asked: Streams | None = None  # by the question that is open
        self._queue: deque[Request] = deque()
        self._unanswered: list[str] = []  # ids of requests sent, oldest first
        self._sent_at = -math.inf
        self._sent = 0  # requests of the open question

    def change(self, streams: Streams) -> None:
        """Want these streams from now on, instead of any change that is open."""
        self.is_changing = True
        self.wanted = streams

    def begin(self, streams: Streams) -> Subscribed | None:
        """Ask for the streams that a connection was just opened for.

        Returns:
            Their acknowledgement, where the connection's URL has subscribed them.

        Raises:
            BadArgumentError: The codec cannot ask for these streams. Treat it as a
                refusal.
        """
        self.is_live = False
        self._sent_at = -math.inf
        self._open(streams)
        return self._ask(self._codec.subscribe(streams))

    def begin_change(self) -> ChangeOutcome | None:
        """Open the question for a change that waits, once no other is open.

        Return its outcome, where the venue does not have to be asked.
        """
        if not self.is_live or self._asked is not None:
            return None
        if self.wanted != self.acknowledged:
            return self._ask_change()
        return self._settle(self.wanted) if self.is_changing else None

    def next_frame(self, now: float) -> str | None:
        """Return the frame to send at `now`; the codec's interval lies between two."""
        if not self._queue or now < self._sent_at + self._codec.control_interval:
            return None
        request = self._queue.popleft()
        self._unanswered.append(request.id)
        self._sent_at = now
        self._sent += 1
        return request.frame

    def due_in(self, now: float) -> float:
        """Return the seconds until `next_frame` has one to send, at least 0."""
        if not self._queue:
            return math.inf
        return max(0.0, self._sent_at + self._codec.control_interval - now)

    def acknowledge(self, request_id: str | None) -> Subscribed | None:
        """Take the acknowledgement of a request, None: of the oldest.

        Return the outcome of the question, if this was its last answer.
        """
        if not self._unanswered:
            return None
        answered = request_id or self._unanswered[0]
        if answered not in self._unanswered:
            return None
        self._unanswered.remove(answered)
        return self._settle_if_answered()

    def concerns(self, request_id: str | None) -> bool:
        """Return True if a refusal of this id is about the question that is open.

        Before the connection is acknowledged, every refusal is.
        """
        if not self._unanswered:
            return False
        return not self.is_live or request_id is None or request_id in self._unanswered

    def refuse(self, message: str) -> Refusal:
        """Take the refusal of the question that is open.

        The streams acknowledged before are wanted again, unless others have been asked
        for meanwhile.
        """
        asked, live, partly = self._asked, self.is_live, self._sent > 1
        self._forget()
        outcome = None
        if self.wanted == asked and self.is_changing:
            self.is_changing = False
            self.wanted = self.acknowledged
            outcome = ChangeRefused(message)
        elif self.wanted == asked:
            return Refusal(None, "fail")
        if live:
            return Refusal(outcome, "leave" if partly else "stay")
        return Refusal(outcome, "fail" if self.wanted == asked else "leave")

    def is_overdue(self, now: float) -> bool:
        """Return True if an answer has not come in time."""
        late = now > self._sent_at + self._ack_timeout
        return bool(self._unanswered) and not self._queue and late

    def end(self) -> None:
        """Close the question, because its connection has ended."""
        self.is_live = False
        self._forget()

    def _forget(self) -> None:
        self._asked = None
        self._queue.clear()
        self._unanswered.clear()

    def _ask_change(self) -> ChangeOutcome | None:
        self._open(self.wanted)
        try:
            return self._ask(self._codec.change(self.acknowledged, self.wanted))
        except BadArgumentError as error:
            return self.refuse(str(error)).outcome

    def _open(self, streams: Streams) -> None:
        self._asked = streams
        self._sent = 0

    def _ask(self, requests: list[Request]) -> Subscribed | None:
        self._queue.extend(requests)
        return self._settle_if_answered()

    def _settle_if_answered(self) -> Subscribed | None:
        if self._asked is None or self._queue or self._unanswered:
            return None
        return self._settle(self._asked)

    def _settle(self, streams: Streams) -> Subscribed:
        self.acknowledged = streams
        self.is_live = True
        self._asked = None
        ends_change = self.is_changing and streams == self.wanted
        if ends_change:
            self.is_changing = False
        return Subscribed(streams, ends_change)
