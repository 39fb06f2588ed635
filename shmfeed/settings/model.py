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
from shmfeed.settings import endpoint as endpoints
from shmfeed.settings import receivers
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
from shmfeed.validation import DEFAULT_FEED, check_case

_MIN_STREAMS = 16
_OWN_MARKET = "the protocol's own"  # no market has this name


class ConflictError(BadArgumentError):
    """Settings that are accepted one by one, but not together; `names` lists them."""

    def __init__(self, message: str, *names: str) -> None:
        super().__init__(message)
        self.names = names


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
        _check_together(self)

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
        if self.csrf_token:
            secrets.add(self.csrf_token)
        return endpoints.mask_secrets(text, secrets)

    def read_token(self) -> str:
        """Return the token, from its file if one is named; "" without a token.

        Raises:
            BadArgumentError: The file cannot be read, or holds no token.
        """
        if self.csrf_token_file is None:
            return self.csrf_token
        return read_secret(TOKEN_FILE, self.csrf_token_file)

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
        _default_market(values.get("protocol"))
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
        n: getattr(settings, n) for n in SETTINGS if n != TOKEN
    }
    if settings.proxy is not None:
        values["proxy"] = endpoints.proxy_label(settings.proxy)
    values["headers"] = {name: "***" for name, _ in settings.headers}
    values["endpoint"] = tuple(map(endpoints.redact, settings.endpoint))
    values["rest_endpoint"] = tuple(map(endpoints.redact, settings.rest_endpoint))
    if settings.on_event is not None:
        values["on_event"] = receivers.receiver_label(settings.on_event)
    return values


def _copy(settings: Settings, changes: Mapping[str, object]) -> Settings:
    # copy.copy() does not call __post_init__, which would check every setting again.
    changed = copy.copy(settings)
    for name, value in changes.items():
        msgspec.structs.force_setattr(changed, name, value)
    _check_together(changed)
    return changed


def _of_timeframe(
    spans: float | tuple[tuple[str, float], ...] | None, timeframe: str
) -> float | None:
    return dict(spans).get(timeframe) if isinstance(spans, tuple) else spans


def _default_market(protocol: object) -> str:
    """Return the market_type of a protocol that has a default one."""
    if isinstance(protocol, str) and protocol in MARKETS:
        raise ConflictError(
            f"protocol {protocol!r} has no default market_type; give one of:"
            f" {' '.join(MARKETS[protocol])}",
            "protocol",
        )
    return DEFAULT_MARKET_TYPE


def _check_together(settings: Settings) -> None:
    _check_token(settings)
    _check_symbols(settings)
    _check_capacity(settings)
    _check_receiver(settings)
    _check_endpoints(settings)
    _check_store(settings)
    _check_proxy(settings)
    _check_delays(settings)
    _check_heartbeat(settings)


def _check_symbols(settings: Settings) -> None:
    try:
        check_case(settings.symbols)
    except BadArgumentError as error:
        raise ConflictError(str(error), "symbols") from None


def _check_token(settings: Settings) -> None:
    if settings.csrf_token and settings.csrf_token_file is not None:
        raise ConflictError(
            "csrf_token and csrf_token_file are both given; leave one of them out",
            TOKEN,
            TOKEN_FILE,
        )


def _check_capacity(settings: Settings) -> None:
    count = len(settings.symbols) * len(settings.resolutions)
    names = ("symbols", "resolutions")
    if count > MAX_STREAMS:
        raise ConflictError(
            f"symbols x resolutions are {count} streams; a feed has at most"
            f" {MAX_STREAMS}: use several feeds",
            *names,
        )
    if settings.max_streams is not None and count > settings.max_streams:
        raise ConflictError(
            f"symbols x resolutions are {count} streams, more than max_streams"
            f" {settings.max_streams}: raise it, or leave it out",
            "max_streams",
            *names,
        )


def _check_receiver(settings: Settings) -> None:
    webhook = settings.on_event if isinstance(settings.on_event, str) else None
    if webhook and not settings.allow_insecure and endpoints.is_exposed(webhook):
        raise ConflictError(
            f"on_event {receivers.receiver_label(webhook)!r} would send plain text"
            " beyond this host; use https://, or allow_insecure",
            "on_event",
            "allow_insecure",
        )


def _check_endpoints(settings: Settings) -> None:
    for endpoint in settings.rest_endpoint:
        if not settings.allow_insecure and endpoints.is_exposed(endpoint):
            raise ConflictError(
                f"rest_endpoint {endpoints.redact(endpoint)!r} would send plain text"
                " beyond this host; use https://, or allow_insecure",
                "rest_endpoint",
                "allow_insecure",
            )
    for endpoint in settings.endpoint:
        shown = endpoints.redact(endpoint)
        port = endpoints.explicit_port(endpoint)
        if port and settings.port and port not in settings.port:
            raise ConflictError(
                f"endpoint {shown!r} names port {port}, port is {settings.port};"
                " leave one of them out",
                "endpoint",
                "port",
            )
        if settings.allow_insecure:
            continue
        if endpoints.is_exposed(endpoint):
            raise ConflictError(
                f"endpoint {shown!r} would send plain text beyond this host; use"
                " wss://, or allow_insecure",
                "endpoint",
                "allow_insecure",
            )
        if endpoints.is_exposed(endpoint, settings.proxy):
            raise ConflictError(
                f"endpoint {shown!r} would send plain text to proxy"
                f" {endpoints.proxy_label(settings.proxy or '')}; use wss://, or"
                " allow_insecure",
                "endpoint",
                "proxy",
                "allow_insecure",
            )


def _check_store(settings: Settings) -> None:
    if settings.store_keep is not None and settings.store is None:
        raise ConflictError(
            "store_keep is of no use: there is no store; give store too, or leave it"
            " out",
            "store_keep",
        )


def _check_proxy(settings: Settings) -> None:
    if settings.proxy_password_file is None:
        return
    if settings.proxy is None or endpoints.proxy_user(settings.proxy) is None:
        raise ConflictError(
            "proxy_password_file is of no use: proxy names no user, as"
            " http://user@host:port does",
            "proxy",
            "proxy_password_file",
        )


def _check_delays(settings: Settings) -> None:
    if settings.reconnect_delay_max < settings.reconnect_delay_base:
        raise ConflictError(
            f"reconnect_delay_max {settings.reconnect_delay_max:g} is less than"
            f" reconnect_delay_base {settings.reconnect_delay_base:g}: raise it",
            "reconnect_delay_base",
            "reconnect_delay_max",
        )


def _check_heartbeat(settings: Settings) -> None:
    # Otherwise the feeder would leave a quiet venue before it has pinged it.
    if settings.heartbeat_timeout <= settings.heartbeat_interval:
        raise ConflictError(
            f"heartbeat_timeout {settings.heartbeat_timeout:g} is not more than"
            f" heartbeat_interval {settings.heartbeat_interval:g}, the time between"
            " the feeder's pings",
            "heartbeat_timeout",
            "heartbeat_interval",
        )


_DEFAULTS = Settings()
