"""The settings of a feeder: one checked value that manager, feeder and commands share.

Every `Settings` that exists has been checked, once: a copy checks only what it changes.
No repr holds the token.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import msgspec

from shmfeed.bar import StreamKey, Timeframe
from shmfeed.errors import BadArgumentError
from shmfeed.identity import REDIS
from shmfeed.settings import endpoint as endpoints
from shmfeed.settings import receivers, relay
from shmfeed.settings.conflicts import ConflictError, check_together
from shmfeed.settings.headers import secrets_in
from shmfeed.settings.schema import (
    DEFAULT_MARKET_TYPE,
    MARKETS,
    MAX_STREAMS,
    SETTINGS,
    TOKEN,
    TOKEN_FILE,
    check_setting,
)
from shmfeed.settings.secret_files import known_secrets, read_secret
from shmfeed.validation import DEFAULT_FEED

_MIN_STREAMS = 16
_OWN_MARKET = "the protocol's own"  # no market has this name


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings.

    Without a `market_type` it is the protocol's default one.

    Raises:
        BadArgumentError: A setting, or a combination, is not accepted.
    """

    protocol: str = "wealthai"
    feed: str = DEFAULT_FEED
    symbols: tuple[str, ...] = ()
    resolutions: tuple[str, ...] = ()
    endpoint: tuple[str, ...] = ()
    port: tuple[int, ...] = ()
    csrf_token: str = ""
    csrf_token_file: str | None = None
    market_type: str = _OWN_MARKET
    venue: str | None = None
    history: int = 1000
    guard: int | None = None
    max_streams: int | None = None
    group: str | None = None
    allow_insecure: bool = False
    proxy: str | None = None
    proxy_password_file: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    origin: str | None = None
    subprotocols: tuple[str, ...] = ()
    ca_file: str | None = None
    client_cert: tuple[str, ...] = ()
    compression: str = "off"
    max_redirects: int = 0
    connect_timeout: float = 10.0
    ack_timeout: float = 10.0
    lines: int = 1
    max_streams_per_connection: int | None = None
    control_interval: float | None = None
    max_connection_age: float | None = None
    on_refused: str = "skip"
    sequence: str = "auto"
    repair_grace: float = 5.0
    stale_after: float | tuple[tuple[str, float], ...] | None = None
    close_grace: float = 2.0
    data_timeout: float | None = None
    heartbeat_interval: float = 15.0
    heartbeat_timeout: float = 30.0
    max_frame_bytes: int = 1 << 20
    max_reconnect_attempts: int | None = 3
    give_up: bool = False
    dials_per_minute: int = 60
    reconnect_delay_base: float = 1.0
    reconnect_delay_max: float = 60.0
    backfill: str | tuple[str, ...] = "auto"
    rest_endpoint: tuple[str, ...] = ()
    warmup: int | None = None
    rest_share: float = 0.25
    rest_settle: float = 10.0
    store: str | None = None
    store_keep: float | tuple[tuple[str, float], ...] | None = None
    source_feed: str | None = None
    publish_to: str | None = None
    flush_interval: float = 0.02
    redis_password: str = ""
    redis_password_file: str | None = None
    stuck_timeout: float = 15.0
    launch: str = "auto"
    stop_with_manager: bool = False
    name: str | None = None
    manager_linger: float = 86_400.0
    lease_linger: float = 10.0
    on_event: str | tuple[str, ...] | None = None
    log_level: str = "INFO"
    log_file: str | None = None
    log_format: str = "text"

    def __post_init__(self) -> None:
        if self.market_type == _OWN_MARKET:
            market = _default_market(self.protocol)
            msgspec.structs.force_setattr(self, "market_type", market)
        for name in SETTINGS:
            value = check_setting(name, getattr(self, name))
            msgspec.structs.force_setattr(self, name, value)
        check_together(self)

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in describe(self).items())
        return f"Settings({given})"

    def __rich_repr__(self) -> Any:
        # msgspec's own method would show the token.
        yield from describe(self).items()

    @property
    def streams(self) -> tuple[StreamKey, ...]:
        """Every subscribed stream, in the order given."""
        resolutions = cast("tuple[Timeframe, ...]", self.resolutions)
        return tuple((s, r) for s in self.symbols for r in resolutions)

    def stale_after_in(self, timeframe: str) -> float | None:
        """Return the limit of silence that is set for a timeframe, in seconds."""
        return _of_timeframe(self.stale_after, timeframe)

    def store_keep_of(self, timeframe: str) -> float | None:
        """Return the age at which the store drops a timeframe's bars, in days."""
        return _of_timeframe(self.store_keep, timeframe)

    @property
    def follows_relay(self) -> bool:
        """True if Redis is the source of the feed."""
        return self.protocol == REDIS

    @property
    def source_name(self) -> str:
        """The name in Redis of the feed that is followed."""
        return self.source_feed or self.feed

    @property
    def warmup_bars(self) -> int:
        """The bars of each stream that history is asked for at the start."""
        return self.history if self.warmup is None else self.warmup

    @property
    def planned_streams(self) -> int:
        """The capacity of a new segment, in streams."""
        if self.max_streams is not None:
            return self.max_streams
        wanted = len(self.symbols) * len(self.resolutions)
        return min(MAX_STREAMS, max(_MIN_STREAMS, 2 * wanted))

    def capacity_beside(self, existing: int, wanted: int) -> int:
        """Return the capacity to plan, given a segment for `existing` streams.

        That segment's capacity is kept if `max_streams` is not set and `wanted`
        streams fit.
        """
        if self.max_streams is not None:
            return self.max_streams
        if existing >= wanted:
            return existing
        return min(MAX_STREAMS, max(self.planned_streams, 2 * wanted))

    def redact(self, text: str) -> str:
        """Return a text, such as a server's message, without the secrets of settings.

        Secrets are the token, the values in the endpoints' queries, those of headers,
        and what this process has read from files that hold one.
        """
        secrets = {
            text
            for url in self.endpoint + self.rest_endpoint
            for text in endpoints.secrets_in(url)
        }
        secrets |= secrets_in(self.headers) | receivers.secrets_in(self.on_event)
        secrets |= known_secrets()
        secrets |= {one for one in (self.csrf_token, self.redis_password) if one}
        return endpoints.mask_secrets(text, secrets)

    def read_token(self) -> str:
        """Return the token, from its file if one is named; "" without a token.

        Raises:
            BadArgumentError: The file cannot be read, or holds no token.
        """
        if self.csrf_token_file is None:
            return self.csrf_token
        return read_secret(TOKEN_FILE, self.csrf_token_file)

    def read_redis_password(self) -> str:
        """Return the password for Redis, from its file if one is named; "" without one.

        Raises:
            BadArgumentError: The file cannot be read, or holds no password.
        """
        if self.redis_password_file is None:
            return self.redis_password
        return read_secret(relay.PASSWORD_FILE, self.redis_password_file)

    def with_subscription(
        self,
        symbols: Sequence[str] | str | None = None,
        resolutions: Sequence[str] | str | None = None,
    ) -> "Settings":
        """Return a copy with another subscription, which alone is checked.

        None leaves the symbols, or the resolutions, as they are.
        """
        changes = {"symbols": symbols, "resolutions": resolutions}
        checked = {
            name: check_setting(name, value)
            for name, value in changes.items()
            if value is not None
        }
        return _copy(self, checked) if checked else self

    def with_token(self, token: str) -> "Settings":
        """Return a copy with another token, of no file, or raise BadArgumentError."""
        return _copy(self, {TOKEN: check_setting(TOKEN, token), TOKEN_FILE: None})

    def with_streams_of(self, other: "Settings") -> "Settings":
        """Return a copy that subscribes the streams of `other`, checked already."""
        changes = {"symbols": other.symbols, "resolutions": other.resolutions}
        return _copy(self, changes)

    def with_values_of(self, other: "Settings", names: Iterable[str]) -> "Settings":
        """Return a copy with the named settings of `other`, checked already.

        Raises:
            ConflictError: They do not go together with the rest.
        """
        return _copy(self, {name: getattr(other, name) for name in names})


def from_checked(values: Mapping[str, object]) -> Settings:
    """Return settings of values that `schema.check_setting` has returned.

    Defaults fill the rest.

    Raises:
        ConflictError: Values are not accepted together.
    """
    if "market_type" not in values:
        market = _default_market(values.get("protocol"))
        values = {**values, "market_type": market}
    return _copy(_DEFAULTS, values)


def to_json(settings: Settings) -> bytes:
    """Return the settings as JSON for the pipe to a feeder; it holds the token."""
    return msgspec.json.encode(settings)


def from_json(data: bytes) -> Settings:
    """Return the settings that `to_json` wrote, or raise BadArgumentError."""
    try:
        return msgspec.json.decode(data, type=Settings)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if isinstance(error.__cause__, BadArgumentError):
            raise error.__cause__ from None  # a value, such as a file that is gone
        raise BadArgumentError(
            f"cannot decode settings: {error}; was this feeder started by another"
            " version?"
        ) from None


def describe(settings: Settings) -> dict[str, object]:
    """Return the settings for display: no secrets, no queries of endpoints."""
    values: dict[str, object] = {
        n: getattr(settings, n) for n in SETTINGS if n not in (TOKEN, relay.PASSWORD)
    }
    if settings.proxy is not None:
        values["proxy"] = endpoints.proxy_label(settings.proxy)
    values["headers"] = {name: "***" for name, _ in settings.headers}
    values["endpoint"] = tuple(map(endpoints.redact, settings.endpoint))
    if settings.publish_to is not None:
        values["publish_to"] = endpoints.redact(settings.publish_to)
    values["rest_endpoint"] = tuple(map(endpoints.redact, settings.rest_endpoint))
    if settings.on_event is not None:
        values["on_event"] = receivers.receiver_label(settings.on_event)
    return values


def _copy(settings: Settings, changes: Mapping[str, object]) -> Settings:
    # copy.copy() does not call __post_init__, which would check every setting again.
    changed = copy.copy(settings)
    for name, value in changes.items():
        msgspec.structs.force_setattr(changed, name, value)
    check_together(changed)
    return changed


def _of_timeframe(
    spans: float | tuple[tuple[str, float], ...] | None, timeframe: str
) -> float | None:
    return dict(spans).get(timeframe) if isinstance(spans, tuple) else spans


def _default_market(protocol: object) -> str:
    """Return the market_type of a protocol that has a default one."""
    if protocol == REDIS:
        return relay.MARKET
    if isinstance(protocol, str) and protocol in MARKETS:
        raise ConflictError(
            f"protocol {protocol!r} has no default market_type; give one of:"
            f" {' '.join(MARKETS[protocol])}",
            "protocol",
        )
    return DEFAULT_MARKET_TYPE


_DEFAULTS = Settings()
