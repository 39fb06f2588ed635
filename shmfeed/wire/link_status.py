"""The status of a link, derived from its connections, its policy and its endpoints."""

from shmfeed.wire.channel import Channel, Dialer
from shmfeed.wire.endpoints import EndpointCycle
from shmfeed.wire.events import SessionStatus
from shmfeed.wire.retry import ReconnectPolicy


class LinkStatus:
    """The status of one chain of connections. It changes nothing in the chain."""

    def __init__(
        self, dialer: Dialer, policy: ReconnectPolicy, endpoints: EndpointCycle
    ) -> None:
        """Begin without a connection."""
        self._dialer = dialer
        self._policy = policy
        self._endpoints = endpoints
        self._was_connected = False
        self._reconnects = 0

    @property
    def has_given_up(self) -> bool:
        """True if no attempt follows."""
        return self._policy.is_exhausted and self._dialer.settings.give_up

    def acknowledged(self) -> bool:
        """Count an acknowledged connection. Return True if it is not the first one."""
        is_reconnect, self._was_connected = self._was_connected, True
        self._reconnects += is_reconnect
        return is_reconnect

    def derive(
        self,
        old: SessionStatus,
        serving: Channel | None,
        incoming: Channel | None,
        last_error: str | None = None,
        error_kind: str = "",
    ) -> SessionStatus:
        """Return the status after `old`.

        Args:
            old: The status so far.
            serving: The connection in use.
            incoming: The connection that is being opened.
            last_error: A new error; None keeps the old one.
            error_kind: Its kind.
        """
        channel = serving or incoming
        if last_error is None:
            last_error, error_kind = old.last_error, error_kind or old.error_kind
        else:  # a server may repeat our secrets
            last_error = self._dialer.settings.redact(last_error)
        return old._replace(
            state=self._state(serving),
            phase=self._phase(serving, incoming),
            endpoint=channel.label if channel else old.endpoint,
            attempts=self._policy.failures,
            reconnects=self._reconnects,
            last_error=last_error,
            error_kind="" if serving is not None else error_kind,
            next_attempt_at=0.0 if channel else self._next_attempt_at(),
        )

    def _state(self, serving: Channel | None) -> str:
        if serving is not None:
            return "connected"
        if self._policy.is_exhausted:
            return "error"
        return "reconnecting" if self._was_connected else "connecting"

    def _phase(self, serving: Channel | None, incoming: Channel | None) -> str:
        if serving is not None:
            return "streaming"
        if incoming is not None and incoming.is_open:
            return "subscribing"
        return "connecting" if incoming or self._endpoints.is_midway else "waiting"

    def _next_attempt_at(self) -> float:
        if self._endpoints.is_midway or self.has_given_up:
            return 0.0
        next_at = self._policy.next_at
        return next_at if next_at > self._dialer.clock() else 0.0
