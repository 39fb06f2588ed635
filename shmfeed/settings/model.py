"""The settings of a feeder: one checked value that manager, feeder and commands share.

`load` takes each setting from the arguments, else the environment, else a file, else
the default. Every Settings that exists has been checked; the token is in no repr.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from shmfeed.errors import BadArgumentError
from shmfeed.settings import endpoint as endpoints
from shmfeed.settings.loading import (
    CONFIG_FILE,
    VARIABLES,
    checked,
    from_env,
    from_options,
    gather,
)
from shmfeed.settings.schema import MAX_STREAMS, OPTIONS, SETTINGS, TOKEN, Option, check

__all__ = [
    "CONFIG_FILE",
    "OPTIONS",
    "VARIABLES",
    "Option",
    "Settings",
    "describe",
    "from_env",
    "from_json",
    "from_options",
    "load",
    "to_json",
]

_MIN_STREAMS = 16


class ConflictError(BadArgumentError):
    """Settings that are each accepted, but not together; `names` are theirs."""

    def __init__(self, message: str, *names: str) -> None:
        super().__init__(message)
        self.names = names


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings; BadArgumentError where one, or two together, are not accepted."""

    protocol: str = "wealthai"
    feed: str = "default"
    symbols: tuple[str, ...] = ()
    resolutions: tuple[str, ...] = ()
    endpoint: tuple[str, ...] = ()
    port: tuple[int, ...] = ()
    csrf_token: str = ""
    market_type: str = "binance-testnet"
    history: int = 1000
    guard: int | None = None
    max_streams: int | None = None
    allow_insecure: bool = False
    proxy: str | None = None
    max_redirects: int = 0
    connect_timeout: float = 10.0
    ack_timeout: float = 10.0
    close_grace: float = 2.0
    data_timeout: float | None = None
    heartbeat_interval: float = 15.0
    heartbeat_timeout: float = 30.0
    max_frame_bytes: int = 1 << 20
    max_reconnect_attempts: int | None = 3
    reconnect_delay_base: float = 1.0
    reconnect_delay_max: float = 60.0
    stop_with_manager: bool = False
    log_level: str = "WARNING"
    log_file: str | None = None

    def __post_init__(self) -> None:
        for name in SETTINGS:
            value = check(name, getattr(self, name))
            msgspec.structs.force_setattr(self, name, value)
        _check_room(self)
        _check_endpoints(self)
        _check_delays(self)
        _check_heartbeat(self)

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in describe(self).items())
        return f"Settings({given})"

    def __rich_repr__(self) -> Any:
        # msgspec's own would show the token.
        yield from describe(self).items()

    @property
    def streams(self) -> tuple[tuple[str, str], ...]:
        """Every (symbol, timeframe) subscribed, in the order given."""
        return tuple((s, r) for s in self.symbols for r in self.resolutions)

    @property
    def planned_streams(self) -> int:
        """How many streams the segment shall have room for."""
        if self.max_streams is not None:
            return self.max_streams
        wanted = len(self.symbols) * len(self.resolutions)
        return min(MAX_STREAMS, max(_MIN_STREAMS, 2 * wanted))

    def streams_beside(self, there: int, wanted: int) -> int:
        """The planned room, where a segment with room for `there` streams exists.

        That stays as it is, if nobody said how much it shall be and it will do.
        """
        if self.max_streams is None and there >= wanted:
            return there
        return self.planned_streams

    def hidden(self, text: str) -> str:
        """A text, such as a server's words, without the token and keys of endpoints."""
        secrets = {one for url in self.endpoint for one in endpoints.secrets(url)}
        if self.csrf_token:
            secrets.add(self.csrf_token)
        for secret in sorted(secrets, key=len, reverse=True):
            text = endpoints.hide(text, secret)
        return text

    def with_subscription(
        self,
        symbols: Sequence[str] | str | None = None,
        resolutions: Sequence[str] | str | None = None,
    ) -> "Settings":
        """A checked copy with another subscription; None leaves a half as it is."""
        changes: dict[str, Any] = {"symbols": symbols, "resolutions": resolutions}
        given = {name: value for name, value in changes.items() if value is not None}
        return msgspec.structs.replace(self, **given)


def load(
    arguments: Mapping[str, object], environ: Mapping[str, str] | None = None
) -> Settings:
    """The settings from all sources; `config_file` among the arguments names a file.

    An argument that is None is not given, except `max_reconnect_attempts`, whose None
    means for ever. `environ` is by default the process's. BadArgumentError names
    setting, value, what is accepted, and where the value came from.
    """
    given = gather(arguments, os.environ if environ is None else environ)
    values: dict[str, Any] = {name: checked(name, one) for name, one in given.items()}
    try:
        return Settings(**values)
    except ConflictError as error:
        origins = [f"{n} from {given[n].origin}" for n in error.names if n in given]
        raise BadArgumentError(f"{error} ({'; '.join(origins)})") from None


def to_json(settings: Settings) -> bytes:
    """The settings for the pipe to a feeder, the token among them."""
    return msgspec.json.encode(settings)


def from_json(data: bytes) -> Settings:
    """What `to_json` wrote; BadArgumentError for anything else."""
    try:
        return msgspec.json.decode(data, type=Settings)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadArgumentError(
            f"these bytes are no settings of this version: {error}"
        ) from None


def describe(settings: Settings) -> dict[str, object]:
    """The settings as they may be shown: without the token and queries of endpoints."""
    values: dict[str, object] = {
        n: getattr(settings, n) for n in SETTINGS if n != TOKEN
    }
    values["endpoint"] = tuple(map(endpoints.shown, settings.endpoint))
    return values


def _check_room(settings: Settings) -> None:
    count = len(settings.symbols) * len(settings.resolutions)
    names = ("symbols", "resolutions")
    if count > MAX_STREAMS:
        raise ConflictError(
            f"symbols x resolutions are {count} streams; a feed has at most"
            f" {MAX_STREAMS}: use several",
            *names,
        )
    if settings.max_streams is not None and count > settings.max_streams:
        raise ConflictError(
            f"symbols x resolutions are {count} streams,"
            f" max_streams {settings.max_streams} has no room for them: raise it, or"
            " leave it out",
            "max_streams",
            *names,
        )


def _check_endpoints(settings: Settings) -> None:
    for endpoint in settings.endpoint:
        port = endpoints.explicit_port(endpoint)
        if port and settings.port and port not in settings.port:
            raise ConflictError(
                f"endpoint {endpoints.shown(endpoint)!r} names port {port},"
                f" port says {settings.port}; leave one of them out",
                "endpoint",
                "port",
            )
        if settings.allow_insecure:
            continue
        if endpoints.is_exposed(endpoint):
            raise ConflictError(
                f"endpoint {endpoints.shown(endpoint)!r} would send in the clear;"
                " use wss://, or allow_insecure",
                "endpoint",
                "allow_insecure",
            )
        if endpoints.is_exposed(endpoint, settings.proxy):
            raise ConflictError(
                f"endpoint {endpoints.shown(endpoint)!r} would send in the clear to"
                f" proxy {settings.proxy}; use wss://, or allow_insecure",
                "endpoint",
                "proxy",
                "allow_insecure",
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
    # Else a venue with nothing to say would be given up before it is asked.
    if settings.heartbeat_timeout <= settings.heartbeat_interval:
        raise ConflictError(
            f"heartbeat_timeout {settings.heartbeat_timeout:g} is not more than"
            f" heartbeat_interval {settings.heartbeat_interval:g}, the time between"
            " our pings",
            "heartbeat_timeout",
            "heartbeat_interval",
        )
