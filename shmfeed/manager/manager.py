"""The strategy manager's face of a feed: configure, launch, watch, re-subscribe.

The feeder is a process of its own. It outlives its manager, serves several of them,
and is found again by the next.
"""

import copy
import logging
import os
import threading
import uuid
import weakref
from contextlib import suppress
from typing import Any

from shmfeed.codecs import get_codec
from shmfeed.control.platform import check_feeder_platform
from shmfeed.errors import BadArgumentError, SegmentError, ShmfeedError
from shmfeed.manager.supervisor import Callback, Supervisor
from shmfeed.settings import loading
from shmfeed.settings.model import Settings
from shmfeed.status import FeedStatus, status_without_feed
from shmfeed.validation import check_feed_name, check_flag, check_seconds, shown

log = logging.getLogger(__name__)


class WebSocketManager:
    """One feed's manager in this process; `get_websocket_manager` makes it.

    Any thread may call it, callbacks too. A forked child's copy has started nothing:
    `stop` does nothing there.
    """

    def __init__(self, feed: str | None = None) -> None:
        self._feed = feed if feed is None else check_feed_name(feed)
        self._settings: Settings | None = None
        self._callbacks: list[Callback] = []
        self.forget()
        _all.add(self)

    def forget(self) -> None:
        """Begin anew as one that has started nothing: what a forked child does."""
        self._id = uuid.uuid4().hex
        self._supervisor: Supervisor | None = None
        self._failure: ShmfeedError | None = None  # of the last start
        # Held for moments only: nobody waits for a feeder with it.
        self._lock = threading.RLock()
        self._updating = threading.Lock()  # one change of the streams after another

    @property
    def feed(self) -> str | None:
        """The feed's name; None before the settings have named it."""
        settings = self._settings
        return settings.feed if settings is not None else self._feed

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
            if given is not None and shown(given) != shown(self._feed):
                raise BadArgumentError(
                    f"feed is {shown(given)}, but this is the manager of"
                    f" {self._feed!r}; use get_websocket_manager({shown(given)})"
                )
            arguments["feed"] = self._feed
        settings = loading.load(arguments)
        other = _managers.get(settings.feed)
        if self is _managers.get(None) and other not in (None, self):
            raise BadArgumentError(
                f"feed {settings.feed!r} has a manager in this process already:"
                f" get_websocket_manager({settings.feed!r})"
            )
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
        symbols = tuple(dict.fromkeys(symbol for symbol, _ in streams))
        if not streams or symbols == settings.symbols:
            return settings
        return settings.with_subscription(symbols)

    def start(self, timeout: float = 30.0, wait: bool = True) -> None:
        """Have the feeder run and the streams subscribed.

        A feeder of this feed that runs already is adopted. With `wait=False` it
        returns at once and goes on trying. Raises WebSocketConnectionError,
        WebSocketSubscriptionError with the server's words, FeedBusyError,
        SegmentFullError, BadArgumentError; what this call launched is gone then.
        """
        timeout = check_seconds("timeout", timeout, zero=False)
        wait = check_flag("wait", wait)
        check_feeder_platform()
        with self._lock:
            settings = self._settings = self._settings or self._load({})
            if not settings.streams:
                raise BadArgumentError(
                    "there is nothing to subscribe: configure symbols and resolutions"
                )
            before, supervisor = self._supervisor, self._choose(settings)
            self._supervisor, self._failure = supervisor, None
        if supervisor is not before:
            if before is not None:
                before.stop(keep=True)
            supervisor.begin()
        supervisor.retry()
        if wait:
            self._await_connected(supervisor, timeout, began=supervisor is not before)
        if supervisor.settings != settings:
            self._send_difference(supervisor, settings, timeout, wait)

    def _choose(self, settings: Settings) -> Supervisor:
        """The one that runs, if it can serve these settings as well."""
        running = self._supervisor
        if running is not None and (
            running.settings == settings
            or (
                running.state == "connected"
                and _same_but_streams(running.settings, settings)
            )
        ):
            return running
        return Supervisor(settings, self._id, self._callbacks)

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
        self, supervisor: Supervisor, timeout: float, began: bool
    ) -> None:
        try:
            supervisor.await_connected(timeout)
        except ShmfeedError as error:
            if began:
                with self._lock:
                    if self._supervisor is supervisor:
                        self._supervisor, self._failure = None, copy.copy(error)
                supervisor.abandon()
            raise

    def update_subscription(
        self,
        symbols: list[str] | None = None,
        resolutions: list[str] | None = None,
        timeout: float = 30.0,
    ) -> None:
        """Replace what this manager wants; None leaves a part as it is.

        Returns once the server has acknowledged it; before `start` it changes the
        configuration. Raises WebSocketSubscriptionError with the server's words,
        BadArgumentError, or why there is no connection; the old streams go on then.
        """
        timeout = check_seconds("timeout", timeout, zero=False)
        with self._updating:
            with self._lock:
                before, supervisor = self._settings, self._supervisor
                settings = before or self._load({})
                changed = self._changed(settings, symbols, resolutions)
            if supervisor is not None:
                supervisor.subscribe(changed, timeout)
            with self._lock:
                if self._settings is before:  # not configured anew meanwhile
                    self._settings = changed

    def _changed(
        self,
        settings: Settings,
        symbols: list[str] | None,
        resolutions: list[str] | None,
    ) -> Settings:
        changed = self._spelled(settings.with_subscription(symbols, resolutions))
        if not changed.streams:
            raise BadArgumentError("no streams would be left: configure(), or stop()")
        return changed

    def get_status(self) -> FeedStatus:
        """How the feed is: the status keys, plain values, at any time."""
        supervisor, settings = self._supervisor, self._settings
        feed = supervisor.attached() if supervisor else None
        status = status_without_feed(self.feed)
        if feed is not None:
            try:
                status = feed.status()
            except SegmentError as damage:  # nothing of it can be told apart
                status |= {"health": "stale", "last_error": str(damage)}
        if settings is not None and not status["symbols"]:
            status["symbols"] = list(settings.symbols)
            status["resolutions"] = list(settings.resolutions)
            status["protocol"] = settings.protocol
        if supervisor is not None:
            status["state"] = supervisor.state
        error = supervisor.error if supervisor else self._failure
        if error is not None:
            status["last_error"] = str(error)
        return status

    def is_connected(self) -> bool:
        """Whether the venue has acknowledged the subscription and the line is up."""
        supervisor = self._supervisor
        return supervisor is not None and supervisor.state == "connected"

    def on_state_change(self, callback: Callback) -> None:
        """Call `callback(old, new)` at each change of state, in a manager's thread.

        What it raises is logged and stops nothing.
        """
        if not callable(callback):
            raise BadArgumentError(
                f"callback is {shown(callback)}; it must be callable(old, new)"
            )
        self._callbacks.append(callback)

    def stop(self, keep: bool = False) -> None:
        """End the feeder, unless another manager wants it. Idempotent.

        Its segment goes too, unless `keep`. No process, thread or lock stays.
        """
        keep = check_flag("keep", keep)
        with self._lock:
            supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            supervisor.stop(keep)

    def load_config_from_env(self) -> dict[str, Any]:
        """The settings that the environment gives, as a dict for `configure`."""
        return loading.from_env(os.environ)


def _same_but_streams(one: Settings, other: Settings) -> bool:
    return one.with_streams_of(other) == other


_all: weakref.WeakSet[WebSocketManager] = weakref.WeakSet()
_managers: dict[str | None, WebSocketManager] = {}


def get_websocket_manager(feed: str | None = None) -> WebSocketManager:
    """The manager of a feed in this process, one for each; None: the feed that its
    settings name. Raises BadArgumentError for a name that is not accepted."""
    feed = feed if feed is None else check_feed_name(feed)
    manager = _managers.get(feed)
    if manager is None:
        manager = _same_feed(feed) or WebSocketManager(feed)
    return _managers.setdefault(feed, manager)  # another thread may have been faster


def _same_feed(feed: str | None) -> WebSocketManager | None:
    """One that was asked for by the other way to name its feed."""
    if feed is None:
        with suppress(BadArgumentError):  # `configure` will say it
            return _managers.get(loading.load({}).feed)
    unbound = _managers.get(None)
    return unbound if unbound is not None and unbound.feed == feed else None


def _forget_all() -> None:
    for manager in list(_all):
        manager.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
