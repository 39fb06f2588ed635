"""The strategy manager's face of a feed: configure, launch, watch, re-subscribe.

The feeder is a process of its own. It outlives its manager, serves several of them,
and is found again by the next.
"""

import logging
import os
import threading
import uuid
from collections.abc import Callable
from typing import Any

from shmfeed import config
from shmfeed.codecs import get_codec
from shmfeed.config import Settings
from shmfeed.errors import BadArgumentError, ShmfeedError
from shmfeed.names import check_feed_name
from shmfeed.status import empty_status
from shmfeed.supervisor import Supervisor

log = logging.getLogger(__name__)

StateCallback = Callable[[str, str], None]


class WebSocketManager:
    """One feed's manager in this process; `get_websocket_manager` makes it.

    Any thread may call it. In a forked child it owns nothing: `stop` does nothing
    there, and another manager can be had.
    """

    def __init__(self, feed: str | None = None) -> None:
        self._feed = feed if feed is None else check_feed_name(feed)
        self._id = uuid.uuid4().hex
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._settings: Settings | None = None
        self._supervisor: Supervisor | None = None
        self._callbacks: list[StateCallback] = []

    def configure(self, **settings: Any) -> None:
        """Replace the whole configuration; `start` puts it into effect.

        A setting comes from these arguments, else the environment, else the file that
        `config_file` names, else its default; None is not an argument. Raises
        BadArgumentError, and changes nothing, for what is not accepted.
        """
        with self._lock:
            self._settings = self._load(settings)

    def _load(self, arguments: dict[str, Any]) -> Settings:
        if self._feed is not None:
            given = arguments.setdefault("feed", self._feed)
            if given not in (None, self._feed):
                raise BadArgumentError(
                    f"feed is {given!r}, but this is the manager of {self._feed!r};"
                    f" use get_websocket_manager({given!r})"
                )
            arguments["feed"] = self._feed
        settings = config.load(arguments)
        running = self._supervisor
        if running is not None and running.settings.feed != settings.feed:
            raise BadArgumentError(
                f"feed is {settings.feed!r}, but feed {running.settings.feed!r} is"
                " running; stop() it first"
            )
        return self._spelled(settings)

    @staticmethod
    def _spelled(settings: Settings) -> Settings:
        """The settings with the venue's spelling, refused here where they must be."""
        codec = get_codec(settings.protocol, settings.market_type)
        streams = [codec.stream(*names) for names in settings.streams]
        codec.endpoints(settings.endpoint, settings.port)
        symbols = list(dict.fromkeys(symbol for symbol, _ in streams))
        return settings.with_subscription(
            symbols or settings.symbols, settings.resolutions
        )

    def start(self, timeout: float = 30.0, wait: bool = True) -> None:
        """Have the feeder run and the streams subscribed.

        A feeder of this feed that runs already is adopted. With `wait=False` it
        returns at once and goes on trying. Raises WebSocketConnectionError,
        WebSocketSubscriptionError with the server's words, FeedBusyError,
        SegmentFullError, BadArgumentError; what this call launched is gone then.
        """
        _check_timeout(timeout)
        with self._lock:
            settings = self._settings or self._load({})
            if not settings.streams:
                raise BadArgumentError(
                    "there is nothing to subscribe: configure symbols and resolutions"
                )
            self._settings = settings
            supervisor, began = self._supervise(settings, timeout)
        if not wait:
            return
        try:
            supervisor.await_connected(timeout)
        except ShmfeedError:
            if began:
                self._abandon(supervisor)
            raise

    def _supervise(self, settings: Settings, timeout: float) -> tuple[Supervisor, bool]:
        running = self._supervisor
        if running is not None:
            if _same_but_streams(running.settings, settings):
                running.retry()
                if running.settings != settings:
                    running.subscribe(settings, timeout)
                return running, False
            running.stop(keep=True)
        self._supervisor = Supervisor(settings, self._id, self._report)
        self._supervisor.begin()
        return self._supervisor, True

    def _abandon(self, supervisor: Supervisor) -> None:
        with self._lock:
            if self._supervisor is supervisor:
                self._supervisor = None
        supervisor.abandon()

    def update_subscription(
        self,
        symbols: list[str] | None = None,
        resolutions: list[str] | None = None,
        timeout: float = 30.0,
    ) -> None:
        """Replace what this manager wants; None leaves a part as it is.

        Returns once the server has acknowledged it; before `start` it changes the
        configuration. Raises WebSocketSubscriptionError with the server's words,
        BadArgumentError, or that nobody answered; the old streams go on then.
        """
        _check_timeout(timeout)
        with self._lock:
            settings = self._settings or self._load({})
            changed = self._spelled(
                settings.with_subscription(
                    settings.symbols if symbols is None else symbols,
                    settings.resolutions if resolutions is None else resolutions,
                )
            )
            if self._supervisor is not None:
                self._supervisor.subscribe(changed, timeout)
            self._settings = changed

    def get_status(self) -> dict[str, Any]:
        """How the feed is: the status keys, plain values, at any time."""
        with self._lock:
            supervisor, settings = self._supervisor, self._settings
        feed = supervisor.attached() if supervisor else None
        if supervisor is None or feed is None:
            status = empty_status(settings.feed if settings else self._feed)
        else:
            status = feed.status()
        if settings is not None and not status["symbols"]:
            status["symbols"] = list(settings.symbols)
            status["resolutions"] = list(settings.resolutions)
            status["protocol"] = settings.protocol
        if supervisor is not None:
            status["state"] = supervisor.state
            if supervisor.error is not None:
                status["last_error"] = str(supervisor.error)
        return status

    def is_connected(self) -> bool:
        """Whether the venue has acknowledged the subscription and the line is up."""
        supervisor = self._supervisor
        return supervisor is not None and supervisor.state == "connected"

    def on_state_change(self, callback: StateCallback) -> None:
        """Call `callback(old, new)` at each change of state, in a manager's thread.

        What it raises is logged and stops nothing.
        """
        if not callable(callback):
            raise BadArgumentError(f"callback is {callback!r}; it must be callable")
        self._callbacks.append(callback)

    def _report(self, old: str, new: str) -> None:
        for callback in list(self._callbacks):
            try:
                callback(old, new)
            except Exception:
                log.exception("on_state_change callback failed on %s -> %s", old, new)

    def stop(self, keep: bool = False) -> None:
        """End the feeder, unless another manager wants it. Idempotent.

        Its segment goes too, unless `keep`. No process, thread or lock stays.
        """
        if os.getpid() != self._pid:
            return
        with self._lock:
            supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            supervisor.stop(keep)

    def load_config_from_env(self) -> dict[str, Any]:
        """The settings that the environment gives, as a dict for `configure`."""
        return config.from_env(os.environ)


def _same_but_streams(one: Settings, other: Settings) -> bool:
    return one.with_subscription(other.symbols, other.resolutions) == other


def _check_timeout(timeout: object) -> None:
    number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if not number or not timeout > 0:  # type: ignore[operator] # a number
        raise BadArgumentError(f"timeout is {timeout!r}; it must be seconds, above 0")


_managers: dict[str | None, WebSocketManager] = {}
_managers_lock = threading.Lock()


def get_websocket_manager(feed: str | None = None) -> WebSocketManager:
    """The manager of a feed in this process, one for each; None: the feed that its
    settings name. Raises BadArgumentError for a name that is not accepted."""
    with _managers_lock:
        manager = _managers.get(feed)
        if manager is None or manager._pid != os.getpid():  # this module's own
            manager = _managers[feed] = WebSocketManager(feed)
        return manager
