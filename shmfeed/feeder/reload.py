"""Settings read again while a feeder runs: which take effect, and which cannot.

A reload is refused as a whole where a setting of it is wrong. Otherwise it takes over
what a running feeder can change, and names the rest, which needs a restart.
"""

import logging
import os
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple

from shmfeed.codecs import Codec
from shmfeed.control.messages import ABSENT, VERSION, ControlRequest
from shmfeed.errors import BadArgumentError, ShmfeedError
from shmfeed.feeder.feed_publisher import FeedPublisher
from shmfeed.feeder.logs import FeederLog
from shmfeed.feeder.requests import PendingRequest
from shmfeed.feeder.subscriptions import SubscriptionQueue
from shmfeed.settings.model import Settings, from_json
from shmfeed.settings.schema import SETTINGS, TOKEN, TOKEN_FILE
from shmfeed.settings.secret_files import remember_secret
from shmfeed.wire.dial_budget import DialBudget
from shmfeed.wire.interface import FeedSession

log = logging.getLogger(__name__)

STREAMS = ("symbols", "resolutions")
LOG = ("log_level", "log_file", "log_format")
# A segment, an identity and a ledger are made for these once.
FIXED = frozenset(
    {
        "feed",
        "protocol",
        "market_type",
        "venue",
        "endpoint",
        "port",
        "history",
        "guard",
        "max_streams",
        "group",
        "lines",
        "max_streams_per_connection",
        "sequence",
        "repair_grace",
        "close_grace",
        "stale_after",
        "backfill",
        "rest_endpoint",
        "warmup",
        "rest_share",
        "rest_settle",
        "store",
        "store_keep",
        "on_event",
        "source_feed",
    }
)
# A manager alone reads these.
OF_A_MANAGER = frozenset(
    {"stuck_timeout", "launch", "stop_with_manager", "name", "manager_linger"}
)
# These take effect from the next connection on, so each one is replaced.
OF_A_CONNECTION = frozenset(
    {
        "csrf_token",
        "csrf_token_file",
        "headers",
        "origin",
        "subprotocols",
        "ca_file",
        "client_cert",
        "compression",
        "allow_insecure",
        "proxy",
        "proxy_password_file",
        "max_redirects",
        "max_frame_bytes",
    }
)
# These too, where the connection is one to Redis.
OF_A_FOLLOWER = frozenset({"redis_password", "redis_password_file"})


class Reload(NamedTuple):
    """The outcome of a comparison of settings.

    `settings` are those in force from now on. `changed` and `fixed` name the settings
    whose new values take effect, and those that need a restart.
    """

    settings: Settings
    changed: tuple[str, ...]
    fixed: tuple[str, ...]

    @property
    def needs_connections(self) -> bool:
        """True if the connections have to be replaced."""
        names = OF_A_CONNECTION
        if self.settings.follows_relay:
            names |= OF_A_FOLLOWER
        return not names.isdisjoint(self.changed)

    @property
    def changes_streams(self) -> bool:
        return not set(STREAMS).isdisjoint(self.changed)

    @property
    def changes_token(self) -> bool:
        return not {TOKEN, TOKEN_FILE}.isdisjoint(self.changed)

    @property
    def changes_log(self) -> bool:
        return not set(LOG).isdisjoint(self.changed)

    def summary(self) -> str:
        """Return the outcome in words."""
        parts = [f"{', '.join(self.changed)} changed" if self.changed else "no change"]
        if self.fixed:
            verb = "needs" if len(self.fixed) == 1 else "need"
            parts.append(f"{', '.join(self.fixed)} {verb} a restart")
        return "; ".join(parts)


def compare(old: Settings, new: Settings, keep: frozenset[str] = frozenset()) -> Reload:
    """Return the outcome of a reload; the settings in `keep` stay as they are.

    Raises:
        BadArgumentError: The values that change do not go together with those that
            need a restart.
    """
    differing = [name for name in SETTINGS if getattr(old, name) != getattr(new, name)]
    changed = tuple(n for n in differing if n not in FIXED | OF_A_MANAGER | keep)
    fixed = tuple(n for n in differing if n in FIXED)
    return Reload(old.with_values_of(new, changed), changed, fixed)


class ReloadTargets(NamedTuple):
    """The parts of a feeder that use settings which may change."""

    codec: Codec
    session: FeedSession
    queue: SubscriptionQueue
    budget: DialBudget
    log: FeederLog | None
    publisher: FeedPublisher


class Reloader:
    """The settings in force, and their change while the feeder runs.

    Only the main loop uses it.

    Attributes:
        settings: The settings in force.
    """

    def __init__(
        self,
        settings: Settings,
        targets: ReloadTargets,
        own_list: str = "",
        source: Callable[[], Settings] | None = None,
    ) -> None:
        """Change nothing yet.

        Args:
            settings: The settings at the start.
            targets: The parts of the feeder that use them.
            own_list: The name under which the feeder itself wants the streams of the
                settings; empty if only managers want streams.
            source: Returns the settings of a reload that brings none.
        """
        self.settings = settings
        self._codec, self._session, self._queue, self._budget, self._log = targets[:5]
        self._publisher = targets.publisher
        self._own_list = own_list
        self._source = source
        # These come back if the venue refuses the new ones: settings and a token.
        self._before = settings, self._codec.csrf_token

    def reload(self, pending: PendingRequest) -> None:
        """Take over the settings of a request, else of the source, and answer."""
        if self._log is not None:
            self._log.reopen()
        try:
            outcome = self._compared(pending.request)
            # First what may fail, so that a refusal changes nothing.
            token = outcome.settings.read_token() if outcome.needs_connections else None
            if outcome.changes_streams:
                self._change_streams(pending, outcome, token)
            else:
                self._take_over(pending, outcome, token)
        except ShmfeedError as error:
            _refuse(pending, error)

    def take_token(self, token: str, is_answer: bool = False) -> None:
        """Use another token, on connections that replace those with the old one.

        A token that the feeder has asked for is for the next connection alone.
        """
        new = self.settings.with_token(token)
        if new.csrf_token != self.settings.csrf_token:
            remember_secret(TOKEN, token)
            self._put(new, None if is_answer else token)
            self._codec.csrf_token = token

    def revert(self) -> str:
        """Put the settings of before the last change in force again.

        The venue refuses a connection with the new ones, and the old connection stays.
        Return the token that was refused, "" if the token had not changed.
        """
        settings, token = self._before
        refused, self._codec.csrf_token = self._codec.csrf_token, token
        self._put(settings, None)
        return "" if refused == token else refused

    def _compared(self, request: ControlRequest) -> Reload:
        if request.settings != ABSENT:
            new = from_json(bytes(request.settings))
            if request.asks:  # they have no token: the feeder asks for it
                new = new.with_token(self.settings.csrf_token)
        elif self._source is not None:
            new = self._source()
        else:
            new = self.settings
        # The streams of a manager are its own to change.
        keep = frozenset[str]() if self._own_list else frozenset(STREAMS)
        outcome = compare(self.settings, new, keep)
        if new.read_token() != self._codec.csrf_token and not outcome.changes_token:
            # The same file has another token.
            changed = (*outcome.changed, TOKEN_FILE)
            outcome = outcome._replace(changed=changed)
        if self._log is not None and outcome.changes_log:
            self._log.check(new)
        return outcome

    def _change_streams(
        self, pending: PendingRequest, outcome: Reload, token: str | None
    ) -> None:
        """Change the streams first: the venue may refuse them."""
        keys = outcome.settings.streams
        streams = tuple(dict.fromkeys(self._codec.stream_key(*key) for key in keys))
        if not streams:
            raise BadArgumentError(
                "no streams to subscribe; give symbols and resolutions"
            )

        def settled(answer: "Future[dict[str, Any]]") -> None:
            try:
                answer.result()
                self._take_over(pending, outcome, token)
            except ShmfeedError as error:
                _refuse(pending, error)

        own = self._own_list
        request = ControlRequest(
            v=VERSION, id=0, op="subscribe", manager=own, pid=os.getpid()
        )
        change = PendingRequest(request)
        change.answer.add_done_callback(settled)
        self._queue.replace(change, streams)

    def _take_over(
        self, pending: PendingRequest, outcome: Reload, token: str | None
    ) -> None:
        if self._log is not None and outcome.changes_log:
            self._log.change(outcome.settings)
        self._put(outcome.settings, token)
        summary = outcome.summary()
        log.info("settings reloaded: %s", summary)
        pending.finish(changed=outcome.changed, fixed=outcome.fixed, summary=summary)

    def _put(self, settings: Settings, token: str | None) -> None:
        """Put settings in force; with a token, on connections that replace the old."""
        if token is not None:
            self._before = self.settings, self._codec.csrf_token
        self.settings = settings
        self._budget.per_minute = settings.dials_per_minute
        self._publisher.use(settings)
        if token is None:
            self._session.use_settings(settings)
        else:
            self._codec.csrf_token = token
            self._session.replace_connections(settings)


def _refuse(pending: PendingRequest, error: ShmfeedError) -> None:
    # The text alone: a record that is kept would keep the frames of the error.
    text = str(error)
    log.warning("the settings were not reloaded, the old ones stay: %s", text)
    pending.fail(error)
