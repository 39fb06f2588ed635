"""A chain of connections for one set of streams: one ends, the next takes its place.

    waiting -> incoming -> serving          the first connection, or one after a loss
               serving + incoming           a planned change: the new one opens and is
               serving + draining           acknowledged before the old one is closed

An *attempt* is one pass over all endpoints, without a pause between them. It succeeds
when the venue acknowledges the subscription; the connection then serves until it is
lost. `retry.ReconnectPolicy` says when the next attempt begins.

In a planned change both connections deliver, and the ledger takes the duplicates. The
old one is closed once the new one has brought data. A failed new one leaves the old one
alone.
"""

import math
from collections.abc import Iterable

from shmfeed.bar import StreamKey
from shmfeed.wire.channel import Channel, Dialer
from shmfeed.wire.client import CHECK_SECONDS, LeavingError, SilentError
from shmfeed.wire.endpoints import EndpointCycle
from shmfeed.wire.errors import ConnectionLostError, OversizedError
from shmfeed.wire.events import (
    ChangeRefused,
    Connected,
    ConnectionLost,
    NextAttempt,
    Received,
    SessionEvent,
    SessionStatus,
    SettingsRefused,
    Streams,
    StreamsRefused,
    Subscribed,
)
from shmfeed.wire.link_status import LinkStatus
from shmfeed.wire.overlap import Overlap
from shmfeed.wire.poller import Ready
from shmfeed.wire.refusals import PAUSE, RefusalMemory, RefusalSearch
from shmfeed.wire.retry import NO_DEMAND, ReconnectPolicy
from shmfeed.wire.silence import SilenceWatch

# Seconds after which a link looks again if another link has reached the venue.
PROBE_SECONDS = 0.1
NEW_SETTINGS = "settings have changed"  # a reason to replace a connection
# Reasons to put off a dial that the user's feeders share.
BANNED = "the venue has told a feeder of this user to wait"
USED_UP = "the dials of this minute are used up"
_OUTCOMES = (Subscribed, ChangeRefused)


class Link:
    """One chain of connections. All methods belong to the session's thread.

    Attributes:
        status: The state of this chain.
        streams: The streams to carry.
        subscribed: The streams of the last acknowledgement.
        is_changing: True while a change of `streams` has no outcome.
        may_skip: True if a connect may do without streams that the venue refuses.
        may_park: True if it may do without all streams, because other links serve.
        is_parked: True while it waits, as the venue refuses all of its streams.
    """

    def __init__(
        self,
        dialer: Dialer,
        endpoints: Iterable[str],
        streams: Streams,
        line: int = 0,
        *,
        may_skip: bool = True,
    ) -> None:
        self.status = SessionStatus()
        self.streams = self.subscribed = streams
        self.is_changing = False
        self.may_skip = may_skip
        self.may_park = self.is_parked = False
        self._agreed = streams  # before the change in progress
        self._dialer = dialer
        self._endpoints = EndpointCycle(endpoints)
        self._line = line
        self._policy = ReconnectPolicy(dialer.settings, dialer.rng)
        self._silence = SilenceWatch(dialer.settings, dialer.codec.push_interval)
        self._serving: Channel | None = None
        self._incoming: Channel | None = None
        self._draining: Channel | None = None
        self._overlap = Overlap(0.0)  # of `draining` and `serving`
        self._is_planned = False  # the policy knows that `serving` is to be replaced
        self._left_out: frozenset[StreamKey] = frozenset()
        self._refusals = RefusalMemory()
        self._link_status = LinkStatus(dialer, self._policy, self._endpoints)
        self._has_told_budget = False  # the wait for the budget has been announced
        self._due_at = self._look_at = -math.inf  # for `step`
        self._events: list[SessionEvent] = []

    # Questions of the session

    @property
    def covered(self) -> set[StreamKey]:
        """The streams that a connection of this chain carries now."""
        carried: set[StreamKey] = set()
        for channel in (self._serving, self._draining):
            if channel is not None:
                carried.update(channel.subscription.acknowledged)
        return carried

    @property
    def is_live(self) -> bool:
        """True while a connection serves."""
        return self._serving is not None

    @property
    def channels(self) -> list[Channel]:
        """The connections, the oldest first."""
        return [one for one in (self._draining, self._serving, self._incoming) if one]

    def await_in(self, interests: list[tuple[int, int]], now: float) -> float:
        """Add the sockets to wait for, and the poll events of each.

        Return the seconds until `step` has something to do by the clock.
        """
        due = math.inf
        for channel in (self._draining, self._serving, self._incoming):
            if channel:
                interests.append(channel.interest)
                due = min(due, channel.due_in(now))
        if self._wants_dial():
            due = min(due, max(self._policy.next_at - now, self._dialer.due_in(now)))
        due = max(0.0, due)
        self._due_at = now + due
        return due

    # Orders of the session

    def change(self, streams: Streams) -> None:
        """Replace the streams to carry; a change in progress is superseded.

        The outcome is a ChangeRefused, or a Subscribed with `ends_change`.
        """
        if self.is_parked:
            if streams == self.streams:
                return
            self.is_parked = False
            self._policy.begin_again()
        if not self.is_changing:
            self._agreed = self.streams
        self.streams = streams
        self.is_changing = True
        self._left_out &= frozenset(streams)
        if self._serving is not None and self._incoming is None:
            self._pass_change(self._serving)  # so that nothing is waited for before

    def roll_back(self, streams: Streams) -> None:
        """Carry the streams of before a change that the venue refuses."""
        self.streams = streams
        is_asking = any(one.subscription.is_changing for one in self.channels)
        self.is_changing = self.subscribed != streams or is_asking

    def ask_again(self, streams: Iterable[StreamKey]) -> bool:
        """Request mute streams again on the live connection. Return True if it does."""
        if self._serving is None:
            return False
        carried = set(streams).intersection(self._serving.subscription.acknowledged)
        asked = tuple(
            key for key in self._serving.subscription.acknowledged if key in carried
        )
        return bool(asked) and self._serving.subscription.ask_again(asked)

    def replace(self, reason: str) -> None:
        """Open a new connection now, and close the present one once that one serves."""
        if self._serving is not None:
            self._serving.client.leave(reason)
            self._note_leaving(self._dialer.clock())
        self._policy.next_at = 0.0
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            incoming.close()
            self._endpoints.begin()

    def use_settings(self) -> None:
        """Obey the dialer's settings from now on."""
        self._policy.settings = self._silence.settings = self._dialer.settings
        if self._serving is not None:
            self._serving.client.use_limits(self._dialer.settings)
            self._silence.carry(self._serving.subscription.acknowledged)

    def retry(self) -> list[SessionEvent]:
        """Dial at once, as if nothing had failed. Return the resulting events."""
        if self._serving is None:
            self._policy.begin_again()
            self.status = self.status._replace(error_kind="")
            self._show()
        return self._take_events()

    def close(self, timeout: float = 0.0) -> None:
        """Close every connection; nothing follows."""
        for channel in self.channels:
            channel.close(timeout)
        self._dialer.forget(self)
        self._serving = self._incoming = self._draining = None

    def step(self, ready: Ready, now: float) -> list[SessionEvent]:
        """Do what is due, with the sockets that are ready, and return the events.

        Call it after `await_in`.
        """
        if now < self._look_at and now < self._due_at and self._is_quiet(ready):
            return []  # the usual case beside other links
        self._look_at = now + CHECK_SECONDS
        if self._draining is not None:
            self._step_draining(self._draining, ready, now)
        if self._serving is not None:
            self._step_serving(self._serving, ready, now)
        if self._incoming is not None:
            self._step_incoming(self._incoming, ready, now)
        elif not self._events and self._wants_dial() and self._policy.next_at <= now:
            # After a loss the session hands over its event first: the caller may change
            # the wanted streams before the next connection opens.
            self._dial(now)
        return self._take_events()

    # Steps

    def _is_quiet(self, ready: Ready) -> bool:
        if self._draining is not None or self._incoming is not None:
            return False
        return self._serving is not None and self._serving.interest[0] not in ready

    def _wants_dial(self) -> bool:
        if self._serving is not None and not self._serving.client.leaving:
            return False
        return self._incoming is None and not self._link_status.has_given_up

    def _step_serving(self, channel: Channel, ready: Ready, now: float) -> None:
        if self.is_changing and self._incoming is None:
            self._pass_change(channel)
        try:
            batch = channel.step(ready, now)
        except ConnectionLostError as failure:
            self._lose(channel, failure, now)
            return
        for event in batch:
            if type(event) is not Received and isinstance(event, _OUTCOMES):
                self._settle(channel, event)
        self._deliver(batch)
        if channel.client.leaving:
            self._note_leaving(now)
        elif now >= self._endpoints.return_at and self._incoming is None:
            self._return_home(now)

    def _return_home(self, now: float) -> None:
        """Try the line's own endpoint; the present connection goes on meanwhile."""
        if self._endpoints.begin_return(now, self._may_dial):
            self._dial(now)

    def _may_dial(self, url: str) -> bool:
        return self._dialer.may_dial(url, self)

    def _pass_change(self, channel: Channel) -> None:
        wanted = self._asked()
        if (
            channel.subscription.wanted != wanted
            or not channel.subscription.is_changing
        ):
            channel.subscription.change(wanted)

    def _settle(self, channel: Channel, outcome: Subscribed | ChangeRefused) -> None:
        self.subscribed = channel.subscription.acknowledged
        if isinstance(outcome, ChangeRefused):
            self.streams = self._agreed
            self.is_changing = False
        elif outcome.streams == self._asked():
            self.is_changing = False

    def _asked(self) -> Streams:
        if not self._left_out:
            return self.streams
        return tuple(key for key in self.streams if key not in self._left_out)

    def _step_draining(self, old: Channel, ready: Ready, now: float) -> None:
        try:
            self._events += self._overlap.without_stale(old.step(ready, now))
        except ConnectionLostError as failure:
            self._drop_draining(failure)
            return
        if self._serving is not None and self._overlap.is_over(old, self._serving, now):
            self._events += self._overlap.without_stale(old.client.read_rest())
            self._drop_draining(old.client.leaving)

    def _drop_draining(self, why: ConnectionLostError | str) -> None:
        old, self._draining = self._draining, None
        if old is not None:
            old.close()
            self._report_loss(old, why, is_planned=True)

    def _dial(self, now: float) -> None:
        url = self._endpoints.next(now, self._may_dial)
        if url is None:
            if self._endpoints.failures:
                self._end_attempt(now)
            else:  # the venue wants a wait at each, or another link probes them
                self._endpoints.begin()
                self._policy.next_at = max(self._endpoints.next_at, now + PROBE_SECONDS)
            return
        if self._dialer.due_in(now) or not self._has_budget(url, now):
            return
        search = self._search(now)
        streams = self.streams if search is None else search.asked
        subscribed = self.subscribed if self.is_changing else streams
        self._incoming = self._dialer.dial(
            url, subscribed, streams, self._silence, self._line, search
        )
        self._show()

    def _search(self, now: float) -> RefusalSearch | None:
        is_skipping = self.may_skip and self._dialer.settings.on_refused == "skip"
        if not is_skipping or self.is_changing:
            return None
        return self._refusals.search(self.streams, now)

    def _has_budget(self, url: str, now: float) -> bool:
        wait = self._dialer.reserve(url, now)
        if wait:
            self._policy.next_at = now + wait
            if wait > 1 and not self._has_told_budget:
                self._announce(wait, BANNED if self._dialer.is_banned else USED_UP)
            self._show()
        self._has_told_budget = wait > 1
        return not wait

    def _step_incoming(self, channel: Channel, ready: Ready, now: float) -> None:
        if self.is_changing and self._serving is None:
            self._pass_change(channel)
        was_open = channel.is_open
        try:
            batch = channel.step(ready, now)
        except ConnectionLostError as failure:
            self._fail(channel, failure, now)
            return
        if channel.is_open is not was_open:
            self._dialer.opened(channel.url)
            self._show()
        if channel.is_acknowledged:
            self._take_over(channel)
        for event in batch:
            if isinstance(event, _OUTCOMES):
                self._settle(channel, event)
            elif isinstance(event, StreamsRefused):
                self._left_out |= frozenset(event.streams)
        self._deliver(batch)

    def _deliver(self, batch: list[SessionEvent]) -> None:
        if self._draining is not None:
            self._overlap.note(batch)
        self._events += batch

    def _take_over(self, channel: Channel) -> None:
        if self._draining is not None:
            self._drop_draining("replaced twice")
        old, self._draining = self._serving, self._serving
        self._overlap = Overlap(self._dialer.codec.push_interval)
        self._serving, self._incoming = channel, None
        now, lines = self._dialer.clock(), self._dialer.settings.lines
        self._endpoints.serve(channel.url, now, may_return=lines > 1)
        self._is_planned = self.is_parked = False
        self._left_out = frozenset()
        self._dialer.forget(self)  # an endpoint that it could not reach
        is_reconnect = self._link_status.acknowledged()
        self._policy.acknowledged()
        self._show()
        facts = channel.number, old is not None, channel.label
        self._events.append(Connected(is_reconnect, *facts))

    # Ends

    def _note_leaving(self, now: float) -> None:
        if self._is_planned or self._serving is None:
            return
        self._is_planned = True
        self._policy.planned(now, self._serving.life(now))

    def _lose(self, channel: Channel, failure: ConnectionLostError, now: float) -> None:
        """Take the end of the serving connection."""
        channel.close()
        self._serving = None
        if self._draining is not None:  # it is replaced by the connection before it
            self._serving, self._draining = self._draining, None
        life = channel.life(now)
        if isinstance(failure, SilentError):
            self._silence.ended(had_data=life.had_data)
        self._keep_wait(channel, failure, now)
        demand = self._endpoints.demand_after_loss(failure, now)
        if not self._is_planned or demand != NO_DEMAND:
            self._policy.lost(now, life, demand)
        self._is_planned = self._serving is not None
        if self._incoming is None:
            is_mute = isinstance(failure, SilentError) and not life.had_data
            if self._dialer.settings.lines > 1:  # each line has an endpoint of its own
                self._endpoints.begin(self._endpoints.home, after=is_mute)
            else:
                self._endpoints.begin(channel.url, after=not life.had_data)
        text = f"lost {channel.label}: {failure}"
        self._show(error_kind="connection", last_error=text)
        self._report_loss(channel, failure)
        self._announce(self._policy.next_at - now, text)

    def _fail(self, channel: Channel, failure: ConnectionLostError, now: float) -> None:
        """Take the end of a connection that was not acknowledged."""
        channel.close()
        self._incoming = None
        self._report_loss(channel, failure, was_connected=False)
        if isinstance(failure, LeavingError) or self._refusals.has_learnt(
            channel.client.search, self.streams, now
        ):
            self._endpoints.begin()
            self._show()
            return
        if not channel.is_open and self._wants_dial():
            self._dialer.failed(channel.url, self)
        self._keep_wait(channel, failure, now)
        if self._endpoints.fail(channel.label, failure):
            self._end_attempt(now)
            self._park(channel, now)
        elif not self.status.error_kind and self._serving is None:
            # A pass can take long, so show its failures so far.
            kind, text = self._endpoints.failures.last_error(0)
            self._show(error_kind=kind, last_error=text)

    def _park(self, channel: Channel, now: float) -> None:
        """Do without a connection for a while, if the venue refuses every stream."""
        search = channel.client.search
        if search is None or not self.may_park or self._serving is not None:
            return
        if not set(self.streams) - search.left_out.keys():
            self.is_parked = True
            self._policy.next_at = now + PAUSE
            self._events += search.refused()

    def _end_attempt(self, now: float) -> None:
        failures = self._endpoints.begin()
        self._policy.failed(now, failures.demand)
        if failures.was_refused:
            self._refusals.failed(now)
        kind, text = failures.last_error(self._policy.failures)
        self._show(error_kind=kind, last_error=text)
        if not (failures.rejects_settings and self._keeps_old_settings(text)):
            self._announce(self._policy.next_at - now, text)

    def _keeps_old_settings(self, text: str) -> bool:
        """Go on with the connection that new settings should replace, if one serves."""
        if self._serving is None or self._serving.client.leaving != NEW_SETTINGS:
            return False
        self._serving.client.stay()
        self._is_planned = False
        self._policy.acknowledged()
        self._events.append(SettingsRefused(self._dialer.settings.redact(text)))
        return True

    def _keep_wait(
        self, channel: Channel, failure: ConnectionLostError, now: float
    ) -> None:
        if failure.retry_after:
            self._endpoints.block(channel.url, now + failure.retry_after)
            self._dialer.block(channel.url, failure.retry_after)

    # Events and status

    def _report_loss(
        self,
        channel: Channel,
        why: ConnectionLostError | str,
        *,
        was_connected: bool = True,
        is_planned: bool = False,
    ) -> None:
        lost = ConnectionLost(
            was_connected,
            isinstance(why, OversizedError),
            channel.number,
            is_planned=is_planned,
            reason=self._dialer.settings.redact(str(why)),
            endpoint=channel.label,
        )
        self._events.append(lost)

    def _announce(self, seconds: float, reason: str) -> None:
        if seconds > 0 and not self._link_status.has_given_up:
            reason = self._dialer.settings.redact(reason)
            self._events.append(NextAttempt(seconds, reason, self.status.endpoint))

    def _show(self, *, last_error: str | None = None, error_kind: str = "") -> None:
        self.status = self._link_status.derive(
            self.status, self._serving, self._incoming, last_error, error_kind
        )

    def _take_events(self) -> list[SessionEvent]:
        events, self._events = self._events, []
        return events
