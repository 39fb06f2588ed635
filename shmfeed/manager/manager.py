"""The strategy manager's interface to a feed: configure, start, change, observe, stop.

The feeder is a separate process. It outlives its manager, several managers can share
it, and the next manager adopts it.
"""

import copy
import logging
import os
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Unpack, cast

from shmfeed.accounts import user_name
from shmfeed.chosen_feed import other_owner
from shmfeed.codecs import get_codec
from shmfeed.codecs.identity import identity_of
from shmfeed.control.platform import check_feeder_platform
from shmfeed.errors import BadArgumentError, SegmentError, ShmfeedError
from shmfeed.forks import ForkRegistry
from shmfeed.layout import State
from shmfeed.manager.history import HistoryFunction
from shmfeed.manager.supervisor import Callback, Supervisor
from shmfeed.manager.tokens import TokenSource
from shmfeed.segment.identity import busy_with
from shmfeed.segment.mapping import check_layout
from shmfeed.settings import loading
from shmfeed.settings.arguments import SettingsArguments, TimeframeName
from shmfeed.settings.backfill import BACKFILL, MANAGER
from shmfeed.settings.model import Settings
from shmfeed.settings.schema import TOKEN
from shmfeed.status import FeedStatus, status_without_feed
from shmfeed.text import repr_short
from shmfeed.validation import (
    DEFAULT_FEED,
    check_feed_name,
    check_flag,
    check_seconds,
)

log = logging.getLogger(__name__)


class WebSocketManager:
    """The manager of one feed in this process, made by `get_websocket_manager`.

    Thread safety: any thread may call any method, and so may callbacks. In a forked
    child the manager has started nothing, and `stop` does nothing.
    """

    def __init__(self, feed: str | None = None) -> None:
        self._feed = feed if feed is None else check_feed_name(feed)
        self._settings: Settings | None = None
        self._token_source: TokenSource | None = None
        self._history: HistoryFunction | None = None
        self._callbacks: list[Callback] = []
        self._reset()
        _all.add(self)

    def disown(self) -> None:
        """Reset to a manager that has started nothing, in a forked child."""
        self._reset()

    def _reset(self) -> None:
        self._id = uuid.uuid4().hex
        self._supervisor: Supervisor | None = None
        self._failure: ShmfeedError | None = None  # of the last start
        self._lock = threading.RLock()  # never held while waiting for a feeder
        self._updating = threading.Lock()  # one change of the streams at a time

    @property
    def feed(self) -> str | None:
        """The feed's name, or None before the settings name it."""
        settings = self._settings
        return settings.feed if settings is not None else self._feed

    def configure(self, **settings: "Unpack[SettingsArguments]") -> None:
        """Replace the whole configuration, which the next `start` puts into effect.

        A setting comes from these arguments, else from the environment, else from the
        file that `config_file` names, else from its default.

        Args:
            **settings: Settings by name. A None counts as absent, but for
                `max_reconnect_attempts`. docs/settings.md says what each means,
                and its default. `csrf_token` may be a function that returns the
                token: it is called in this process, at each launch and before each
                dial of the feeder. Without this process the last token holds.
                `backfill` may be a function `f(symbol, timeframe, start_ms, end_ms)`
                that returns the closed bars which open from `start_ms` to `end_ms`,
                both included, oldest first: objects, dicts or tuples. It is called in
                this process, in a thread of its own, for at most 1,000 bars at a
                time, and must return within 10 s. Without this process history
                cannot be asked.

        Settings:
            Streams: feed, symbols, resolutions, on_refused
            Venue: protocol, endpoint, port, market_type, venue
            Token: csrf_token, csrf_token_file
            Memory: history, guard, max_streams, group
            Network: allow_insecure, proxy, proxy_password_file, ca_file, client_cert
            Handshake: headers, origin, subprotocols, compression, max_redirects
            Connections: lines, max_streams_per_connection, control_interval
            Limits: max_connection_age, max_frame_bytes
            Timeouts: connect_timeout, ack_timeout, data_timeout, close_grace
            Data: sequence, repair_grace, stale_after
            History: backfill, rest_endpoint, warmup, rest_share, rest_settle
            Store: store, store_keep
            Relay: source_feed, publish_to, flush_interval
            Redis: redis_password, redis_password_file
            Heartbeat: heartbeat_interval, heartbeat_timeout
            Reconnect: max_reconnect_attempts, reconnect_delay_base, reconnect_delay_max
            Dials: give_up, dials_per_minute
            Process: launch, stuck_timeout, stop_with_manager, on_event
            Wants: name, manager_linger, lease_linger
            Log: log_level, log_file, log_format, config_file

        Raises:
            BadArgumentError: A setting is unknown or its value is not accepted; the
                old configuration stays.

        Thread safety: any thread may call it.
        """
        function, history = settings.get(TOKEN), settings.get(BACKFILL)
        arguments: dict[str, object] = dict(settings)
        if callable(function):
            arguments[TOKEN] = None
        if callable(history):
            arguments[BACKFILL] = MANAGER
        with self._lock:
            self._settings = self._load(arguments)
            self._token_source = TokenSource(function) if callable(function) else None
            self._history = history if callable(history) else None

    def _load(self, arguments: Mapping[str, object]) -> Settings:
        if self._feed is not None:
            given = arguments.get("feed", self._feed)
            if given is not None and repr_short(given) != repr_short(self._feed):
                raise BadArgumentError(
                    f"feed is {repr_short(given)}, but this is the manager of"
                    f" {self._feed!r}; use get_websocket_manager({repr_short(given)})"
                )
            arguments = {**arguments, "feed": self._feed}
        settings = loading.load(arguments)
        other = _managers.get(settings.feed)
        if self is _managers.get(None) and other not in (None, self):
            raise BadArgumentError(
                f"feed {settings.feed!r} already has a manager in this process; use"
                f" get_websocket_manager({settings.feed!r})"
            )
        running = self._supervisor
        if running is not None and running.settings.feed != settings.feed:
            raise BadArgumentError(
                f"feed is {settings.feed!r}, but feed {running.settings.feed!r} is"
                " running; stop() it first"
            )
        return _in_venue_spelling(settings)

    def start(
        self, timeout: float = 30.0, wait: bool = True, replace: bool = False
    ) -> None:
        """Run the feeder and subscribe the streams; adopt a feeder that already runs.

        Args:
            timeout: Seconds to wait for the venue's acknowledgement.
            wait: False returns at once and keeps trying in the background.
            replace: True drops stored bars of another identity (protocol, market,
                venue) before the feeder starts. It ends no running feeder but this
                manager's own.

        Raises:
            WebSocketConnectionError: No connection; the message names the endpoint
                and the reason.
            WebSocketSubscriptionError: The venue refused, in its own words, or did not
                acknowledge in time.
            FeedBusyError: A process that is not a feeder writes this feed, or a feeder
                of another identity runs; the message names both.
            SegmentFullError: The host has no shared memory left.
            BadArgumentError: There are no streams to subscribe, or bars of another
                identity are stored.
            UnsupportedPlatformError: No feeder can run on this host.

            A start that failed leaves no process behind.

        Thread safety: any thread may call it.
        """
        timeout = check_seconds("timeout", timeout, zero=False)
        wait = check_flag("wait", wait)
        replace = check_flag("replace", replace)
        check_feeder_platform()
        _warn_of_owner()
        with self._lock:
            settings = self._settings = self._settings or self._load({})
            if not settings.streams and not settings.follows_relay:
                raise BadArgumentError(
                    "no streams to subscribe; give symbols and resolutions"
                )
            running = self._supervisor
        if running is not None:
            self._reload(running, settings)
        with self._lock:
            before, supervisor = (
                self._supervisor,
                self._supervisor_for(settings, replace),
            )
            self._supervisor, self._failure = supervisor, None
        if supervisor is not before:
            if before is not None:
                before.stop(keep=True)
            supervisor.start()
        supervisor.retry()
        if wait:
            self._await_connected(supervisor, timeout, is_new=supervisor is not before)
        if supervisor.settings != settings:
            self._send_difference(supervisor, settings, timeout, wait)

    def _reload(self, running: Supervisor, settings: Settings) -> None:
        """Give the running feeder the settings that it can take over as it runs.

        Raises:
            BadArgumentError: The feeder refuses them, and nothing has changed.
        """
        if not identity_of(running.settings).matches(identity_of(settings)):
            return
        before = running.token_source
        running.use_token_source(self._token_source)
        running.use_history_function(self._history)
        if running.state != "connected":
            return
        if running.settings.with_streams_of(settings) == settings:
            return
        try:
            running.reload(settings)
        except ShmfeedError:
            running.use_token_source(before)
            raise

    def _supervisor_for(self, settings: Settings, replace: bool) -> Supervisor:
        """Return the running supervisor if it can apply the settings, else another.

        Raises:
            FeedBusyError: This manager's feeder runs with another identity, and
                `replace` is False.
        """
        running = self._supervisor
        if running is not None and (
            running.settings == settings
            or (
                running.state == "connected"
                and running.settings.with_streams_of(settings) == settings
            )
        ):
            return running
        if running is not None and running.running_pid and not replace:
            now, wanted = identity_of(running.settings), identity_of(settings)
            if not now.matches(wanted):
                raise busy_with(settings.feed, now, wanted, running.running_pid)
        return Supervisor(
            settings,
            self._id,
            self._callbacks,
            replace=replace,
            token_source=self._token_source,
            history=self._history,
        )

    def _send_difference(
        self, supervisor: Supervisor, settings: Settings, timeout: float, wait: bool
    ) -> None:
        def send() -> None:
            with self._updating:
                supervisor.subscribe(settings, timeout)

        def send_later() -> None:
            try:
                send()
            except ShmfeedError as error:
                log.warning("feed %s keeps its old streams: %s", settings.feed, error)

        if wait:
            send()
        else:
            threading.Thread(
                target=send_later, name="shmfeed-send", daemon=True
            ).start()

    def _await_connected(
        self, supervisor: Supervisor, timeout: float, is_new: bool
    ) -> None:
        try:
            supervisor.await_connected(timeout)
        except ShmfeedError as error:
            if is_new:
                with self._lock:
                    if self._supervisor is supervisor:
                        self._supervisor, self._failure = None, copy.copy(error)
                supervisor.abandon()
            raise

    def update_subscription(
        self,
        symbols: Sequence[str] | str | None = None,
        resolutions: "Sequence[TimeframeName] | TimeframeName | None" = None,
        timeout: float = 30.0,
    ) -> None:
        """Replace the streams that this manager wants.

        Before `start` this changes the configuration. Afterwards it returns once the
        venue has acknowledged the change.

        Args:
            symbols: The new symbols; None leaves them as they are.
            resolutions: The new timeframes; None leaves them as they are.
            timeout: Seconds to wait for the venue's acknowledgement.

        Raises:
            WebSocketSubscriptionError: The venue refused, in its own words, or did not
                acknowledge in time.
            WebSocketConnectionError: There is no connection.
            BadArgumentError: A value is not accepted, no stream would be left, or the
                feed has no capacity for the streams.

            The old streams stay subscribed after an error.

        Thread safety: any thread may call it; changes happen one after the other.
        """
        timeout = check_seconds("timeout", timeout, zero=False)
        with self._updating:
            with self._lock:
                before, supervisor = self._settings, self._supervisor
                settings = before or self._load({})
                changed = _in_venue_spelling(
                    settings.with_subscription(symbols, resolutions)
                )
                if not changed.streams:
                    raise BadArgumentError(
                        "this change leaves no streams; give symbols and resolutions,"
                        " or call stop()"
                    )
            if supervisor is not None:
                supervisor.subscribe(changed, timeout)
            with self._lock:
                if self._settings is before:  # unless configured again meanwhile
                    self._settings = changed

    def get_status(self) -> FeedStatus:
        """Return the status of the feed as plain values, at any time.

        Returns:
            The keys of `FeedStatus`. `last_error` also says why the last start failed.

        Thread safety: any thread may call it.
        """
        supervisor, settings = self._supervisor, self._settings
        feed = supervisor.attached() if supervisor else None
        status = status_without_feed(self.feed)
        try:
            if feed is not None:
                status = feed.status()
            else:  # a feed of a newer shmfeed cannot be attached to, but may be well
                check_layout(self.feed or DEFAULT_FEED)
        except SegmentError as damage:  # nothing in the segment can be trusted
            status |= {"health": "stale", "last_error": str(damage)}
        if settings is not None and not status["symbols"]:
            status["symbols"] = list(settings.symbols)
            status["resolutions"] = list(settings.resolutions)
            status["protocol"] = settings.protocol
            status["market_type"] = settings.market_type
        if supervisor is not None:
            status["state"] = supervisor.state
            status["differs"] = supervisor.differs
        error = supervisor.error if supervisor else self._failure
        if error is not None:
            status["last_error"] = str(error)
        return status

    def is_connected(self) -> bool:
        """Return True if the venue has acknowledged and the connection is up.

        Thread safety: any thread may call it.
        """
        supervisor = self._supervisor
        return supervisor is not None and supervisor.state == "connected"

    def on_state_change(self, callback: "Callable[[State, State], None]") -> None:
        """Call `callback(old, new)` at each change of the connection's state.

        Args:
            callback: A function of two states. It runs in a thread of the manager and
                may call the manager. An exception that it raises is logged.

        Raises:
            BadArgumentError: `callback` is not callable.

        Thread safety: any thread may call it.
        """
        if not callable(callback):
            raise BadArgumentError(
                f"callback is {repr_short(callback)}; it must be callable(old, new)"
            )
        self._callbacks.append(callback)

    def stop(self, keep: bool = False) -> None:
        """Stop the feeder, unless another manager wants it. Idempotent.

        No process, thread or lock of this manager remains.

        Args:
            keep: True leaves the segment, so that its bars can be read.

        Raises:
            BadArgumentError: `keep` is not True or False.

        Thread safety: any thread may call it.
        """
        keep = check_flag("keep", keep)
        with self._lock:
            supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            supervisor.stop(keep)

    def load_config_from_env(self) -> SettingsArguments:
        """Return the settings that the environment gives, as `configure` takes them.

        Returns:
            The checked values by setting. The token's repr hides it.

        Raises:
            BadArgumentError: A variable has an unknown name or a value that is not
                accepted.

        Thread safety: any thread may call it.
        """
        return cast("SettingsArguments", loading.from_env(os.environ))


def _in_venue_spelling(settings: Settings) -> Settings:
    """Return the settings in the venue's spelling; raise what its codec raises."""
    codec = get_codec(settings.protocol, settings.market_type)
    streams = [codec.stream_key(*key) for key in settings.streams]
    codec.endpoints(settings.endpoint, settings.port)
    symbols = tuple(dict.fromkeys(symbol for symbol, _ in streams))
    if not streams or symbols == settings.symbols:
        return settings
    return settings.with_subscription(symbols)


def _warn_of_owner() -> None:
    """Log a warning if this process reads the feeds of another user."""
    with suppress(BadArgumentError):  # each read raises it
        owner = other_owner()
        if owner is not None:
            log.warning(
                "this process reads the feeds of user %s (SHMFEED_OWNER), and its"
                " manager runs feeds of user %s",
                user_name(owner),
                user_name(os.geteuid()),
            )


_all: ForkRegistry[WebSocketManager] = ForkRegistry()
_managers: dict[str | None, WebSocketManager] = {}


def get_websocket_manager(feed: str | None = None) -> WebSocketManager:
    """Return the manager of a feed in this process, the same one at each call.

    Args:
        feed: The feed's name; None for the feed that the manager's settings name.

    Raises:
        BadArgumentError: The name is not accepted.

    Thread safety: any thread may call it.
    """
    feed = feed if feed is None else check_feed_name(feed)
    manager = _managers.get(feed)
    if manager is None:
        manager = _same_feed(feed) or WebSocketManager(feed)
    return _managers.setdefault(feed, manager)  # another thread may have been faster


def _same_feed(feed: str | None) -> WebSocketManager | None:
    """Return the manager that was made under the other name of this feed."""
    if feed is None:
        with suppress(BadArgumentError):  # `configure` raises it again
            return _managers.get(loading.load({}).feed)
    unbound = _managers.get(None)
    return unbound if unbound is not None and unbound.feed == feed else None
