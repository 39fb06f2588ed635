"""The subscription of a connection: the streams wanted, requested and acknowledged.

A *subscribe exchange* runs when a connection begins, and on a live one when the wanted
streams change or mute ones are requested again. At most one is in progress. It consists
of one or more requests, and the venue acknowledges each. Until it completes, the
streams acknowledged before stay in force. No I/O.
"""

import math
from collections import deque
from typing import Literal, NamedTuple

from shmfeed.codecs import Codec, Request
from shmfeed.errors import BadArgumentError
from shmfeed.wire.events import ChangeOutcome, ChangeRefused, Streams, Subscribed


class Refusal(NamedTuple):
    """The consequences of a refusal.

    `outcome` is the end of the change in progress, None without one. `then` says what
    happens to the connection: `stay`; `leave` it for a new one, because the venue may
    have applied part of the request; or `fail`, because no streams are left to request.
    """

    outcome: ChangeRefused | None
    then: Literal["stay", "leave", "fail"]


class Subscription:
    """The state of the subscription over one connection after another.

    Attributes:
        acknowledged: The streams that the venue acknowledged last, on this connection
            or a former one.
        wanted: The streams to subscribe.
        is_changing: True while a change has no outcome.
        is_live: True once the connection has been acknowledged.
    """

    def __init__(
        self,
        codec: Codec,
        streams: Streams,
        ack_timeout: float,
        control_interval: float | None = None,
    ) -> None:
        """`control_interval` None stands for the codec's."""
        self.acknowledged = streams
        self.wanted = streams
        self.is_changing = False
        self.is_live = False
        self._codec = codec
        self._ack_timeout = ack_timeout
        self._interval = (
            codec.control_interval if control_interval is None else control_interval
        )
        self._abandoned: set[str] = set()  # ids of requests whose answer is not awaited
        self._is_repeating = False  # the exchange asks for acknowledged streams again
        self._requested: Streams | None = None  # by the exchange in progress
        self._queue: deque[Request] = deque()
        self._unanswered: list[str] = []  # ids of requests sent, oldest first
        self._sent_at = -math.inf
        self._sent = 0  # requests of the exchange in progress

    @property
    def is_repeating(self) -> bool:
        """True while acknowledged streams are requested again."""
        return self._is_repeating

    @property
    def has_request(self) -> bool:
        """True if a waiting change can begin."""
        if self.wanted is self.acknowledged and not self.is_changing:
            return False  # the usual case, asked for each message
        return (
            self.is_live
            and self._requested is None
            and (self.is_changing or self.wanted != self.acknowledged)
        )

    @property
    def has_work(self) -> bool:
        """True if a request waits to be sent, or a change to begin."""
        return bool(self._queue) or self.has_request

    def change(self, streams: Streams) -> None:
        """Replace the wanted streams. A change in progress is superseded."""
        self.is_changing = True
        self.wanted = streams

    def begin(self, streams: Streams) -> Subscribed | None:
        """Request the streams that a connection was just opened for.

        Returns:
            Their acknowledgement if the connection's URL has subscribed them, else
            None.

        Raises:
            BadArgumentError: The codec cannot request these streams. Treat it as a
            refusal.
        """
        self.is_live = False
        self._abandon_exchange()
        self._begin_exchange(streams)
        return self._queue_requests(self._codec.subscribe(streams))

    def narrow(self, streams: Streams) -> None:
        """Want only these streams: the venue refuses the others. `begin` follows."""
        self.wanted = self.acknowledged = streams

    def ask_again(self, streams: Streams) -> bool:
        """Request streams again that the venue has acknowledged but does not send.

        Return False, and do nothing, while another exchange is in progress.
        """
        if not self.is_live or self.is_changing or self._requested is not None:
            return False
        requests = self._codec.ask_again(streams, self.acknowledged)
        if requests:
            self._begin_exchange(self.acknowledged)
            self._is_repeating = True
            self._queue.extend(requests)
        return bool(requests)

    def begin_change(self) -> ChangeOutcome | None:
        """Begin the exchange for a waiting change, once no other is in progress.

        Return its outcome if nothing has to be requested, else None.
        """
        if not self.is_live or self._requested is not None:
            return None
        if self.wanted != self.acknowledged:
            return self._request_change()
        return self._complete(self.wanted) if self.is_changing else None

    def next_frame(self, now: float) -> str | None:
        """Return the frame to send at `now`: at most one per `control_interval`."""
        if not self._queue or now < self._sent_at + self._interval:
            return None
        request = self._queue.popleft()
        self._unanswered.append(request.id)
        self._sent_at = now
        self._sent += 1
        return request.frame

    def due_in(self, now: float) -> float:
        """Return the seconds until a frame is due or a change can begin, at least 0."""
        if self._queue:
            return max(0.0, self._sent_at + self._interval - now)
        return 0.0 if self.has_request else math.inf

    def acknowledge(self, request_id: str | None) -> Subscribed | None:
        """Take the acknowledgement of a request; None acknowledges the oldest one.

        Return the outcome of the exchange if this was its last answer, else None.
        """
        if not self._unanswered:
            return None
        answered = request_id or self._unanswered[0]
        if answered not in self._unanswered:
            return None
        self._unanswered.remove(answered)
        return self._complete_if_answered()

    def concerns(self, request_id: str | None) -> bool:
        """Return True if a refusal of this id is about the exchange in progress.

        Before the connection is acknowledged, every refusal is about it.
        """
        if not self._unanswered or request_id in self._abandoned:
            return False
        return not self.is_live or request_id is None or request_id in self._unanswered

    def refuse(self, message: str) -> Refusal:
        """Take the refusal of the exchange in progress.

        The streams acknowledged before are wanted again, unless `change` has replaced
        them meanwhile.
        """
        asked, live, partly = self._requested, self.is_live, self._sent > 1
        is_repeating = self._is_repeating
        self._abandon_exchange()
        if is_repeating:
            return Refusal(None, "stay")
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
        """Abandon the exchange, because its connection has ended."""
        self.is_live = False
        self._abandon_exchange()

    def _abandon_exchange(self) -> None:
        self._requested = None
        self._is_repeating = False
        self._queue.clear()
        self._abandoned.update(self._unanswered)
        self._unanswered.clear()

    def _request_change(self) -> ChangeOutcome | None:
        self._begin_exchange(self.wanted)
        try:
            return self._queue_requests(
                self._codec.change(self.acknowledged, self.wanted)
            )
        except BadArgumentError as error:
            return self.refuse(str(error)).outcome

    def _begin_exchange(self, streams: Streams) -> None:
        self._requested = streams
        self._sent = 0

    def _queue_requests(self, requests: list[Request]) -> Subscribed | None:
        self._queue.extend(requests)
        return self._complete_if_answered()

    def _complete_if_answered(self) -> Subscribed | None:
        if self._requested is None or self._queue or self._unanswered:
            return None
        return self._complete(self._requested)

    def _complete(self, streams: Streams) -> Subscribed:
        self.acknowledged = streams
        self.is_live = True
        self._requested = None
        self._is_repeating = False
        ends_change = self.is_changing and streams == self.wanted
        if ends_change:
            self.is_changing = False
        return Subscribed(streams, ends_change)
