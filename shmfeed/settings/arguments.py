"""The keyword arguments of functions that take settings, for type checkers.

This file is made from the schema by tests/support/settings_arguments.py.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, TypedDict

from shmfeed.bar import Timeframe, TimeframeAlias

TimeframeName = Timeframe | TimeframeAlias
# Takes a symbol, a timeframe, and the first and the last open time in ms UTC.
HistoryFunction = Callable[[str, str, int, int], Iterable[object]]


class SettingsArguments(TypedDict, total=False):
    """Settings by name. A None counts as absent, but for `max_reconnect_attempts`."""

    protocol: Literal["wealthai", "binance", "redis"] | None
    """Protocol of the venue: wealthai, binance, redis."""
    feed: str | None
    """Name of the feed."""
    symbols: Sequence[str] | str | None
    """Symbols to subscribe."""
    resolutions: Sequence[TimeframeName] | TimeframeName | None
    """Timeframes to subscribe."""
    endpoint: Sequence[str] | str | None
    """Addresses of the venue, or of Redis, tried in turn; empty: the protocol's own."""
    port: Sequence[int] | int | None
    """Ports for endpoints that name none, tried in turn."""
    csrf_token: str | Callable[[], str] | None
    """Token of the wealthai protocol."""
    csrf_token_file: str | os.PathLike[str] | None
    """File with the token, read again at each connect; none: csrf_token."""
    market_type: str | None
    """Market at the venue; protocol binance has no default."""
    venue: str | None
    """Name of the venue in the feed's identity; none: the hosts of the endpoints."""
    history: int | None
    """Closed bars of each stream that a reader may ask for."""
    guard: int | None
    """Bars that may close before the oldest row of a slice is overwritten; none: a
    quarter of history, at least 16.
    """
    max_streams: int | None
    """Capacity of the feed in streams; none: twice the subscribed, at least 16."""
    group: str | int | None
    """Group whose members may read the feed, as readers that name its owner; none:
    this user alone.
    """
    allow_insecure: bool | None
    """Permit ws:// and redis:// beyond this host."""
    proxy: str | None
    """Proxy to connect through; those of the environment are never used; none:
    connect directly.
    """
    proxy_password_file: str | os.PathLike[str] | None
    """File with the password for the proxy, read at each connect; none: no password."""
    headers: Mapping[str, str] | Sequence[str] | str | None
    """Headers of the handshake's request; the values are secrets."""
    origin: str | None
    """Origin that the handshake states; none: state none."""
    subprotocols: Sequence[str] | str | None
    """Subprotocols that the handshake offers, the preferred one first."""
    ca_file: str | os.PathLike[str] | None
    """File of the authorities to trust, instead of the system's; none: the system's."""
    client_cert: Sequence[str | os.PathLike[str]] | str | os.PathLike[str] | None
    """The client's own certificate and key: one PEM file, or two."""
    compression: Literal["off", "deflate"] | None
    """Compression of messages that the handshake offers: off, deflate."""
    max_redirects: int | None
    """Redirects of the handshake to follow; secrets stay with the first host."""
    connect_timeout: float | None
    """Limit of one attempt to connect, seconds."""
    ack_timeout: float | None
    """Limit of the wait for an acknowledgement, seconds."""
    lines: int | None
    """Connections that carry each stream at the same time."""
    max_streams_per_connection: int | None
    """Streams on one connection; none: the protocol's limit."""
    control_interval: float | None
    """Shortest time between two requests on one connection, seconds; none: the
    protocol's limit.
    """
    max_connection_age: float | None
    """Age at which a connection is replaced by a new one, seconds; none: the
    protocol's limit.
    """
    on_refused: Literal["skip", "fail"] | None
    """Treatment of a symbol that is refused at a connect: skip, fail."""
    sequence: Literal["auto", "connection", "stream", "off"] | None
    """Scope of the numbers that the venue gives its messages: auto, connection,
    stream, off.
    """
    repair_grace: float | None
    """Time for which newer bars wait for history, and for which streams are
    recovering after a reconnect, seconds.
    """
    stale_after: float | Mapping[TimeframeName, float] | None
    """Silence after which a stream is stale, for all timeframes or by timeframe,
    seconds; none: 3 bars, at least 30 s.
    """
    close_grace: float | None
    """Delay after its close_time at which the clock closes a bar, where the venue
    sends no flag, seconds.
    """
    data_timeout: float | None
    """Limit of a connection's silence, after which the feeder reconnects, seconds;
    none: 10 of the venue's push intervals, at least 30 s.
    """
    heartbeat_interval: float | None
    """Time between the feeder's pings, seconds."""
    heartbeat_timeout: float | None
    """Limit of the venue's silence, and of the wait for the rest of a message,
    seconds.
    """
    max_frame_bytes: int | None
    """Largest message accepted from the venue."""
    max_reconnect_attempts: int | None
    """Failures in a row after which the feeder's state is error; none: never."""
    give_up: bool | None
    """Stop reconnecting after max_reconnect_attempts."""
    dials_per_minute: int | None
    """Connections to one host and port that all feeders of this user may begin in a
    minute; 0: no limit.
    """
    reconnect_delay_base: float | None
    """Smallest upper limit of the random delay before an attempt, seconds."""
    reconnect_delay_max: float | None
    """Largest upper limit of the random delay before an attempt, seconds."""
    backfill: str | os.PathLike[str] | Sequence[str] | HistoryFunction | None
    """Source of history: auto, off, PROTOCOL:MARKET, a file, or a command."""
    rest_endpoint: Sequence[str] | str | None
    """Base addresses of the REST service, tried in turn; empty: the market's own."""
    warmup: int | None
    """Bars of each stream that history is asked for at the start; none: as many as
    history.
    """
    rest_share: float | None
    """Part of the venue's REST limit that all feeders of this user may use."""
    rest_settle: float | None
    """Time after a bar's close from which REST corrects a closing message, seconds."""
    store: str | os.PathLike[str] | None
    """SQLite file that keeps every version of each closed bar; none: keep none."""
    store_keep: float | Mapping[TimeframeName, float] | None
    """Age at which the store drops bars, for all timeframes or by timeframe, days;
    none: keep all.
    """
    source_feed: str | None
    """Name in Redis of the feed to follow; none: the name of the feed here."""
    publish_to: str | None
    """Redis that other hosts follow this feed by; none: publish nowhere."""
    flush_interval: float | None
    """Time between two flushes of forming bars to Redis, seconds."""
    redis_password: str | None
    """Password for Redis."""
    redis_password_file: str | os.PathLike[str] | None
    """File with the password for Redis; none: redis_password."""
    stuck_timeout: float | None
    """Time for which a feeder's main loop may stand still before its manager replaces
    the feeder, seconds.
    """
    launch: Literal["auto", "never"] | None
    """Launch of a feeder by a manager where none runs: auto, never."""
    stop_with_manager: bool | None
    """End the feeder when its manager ends."""
    name: str | None
    """Name by which a later manager finds the streams of this one; none: the command
    of its process.
    """
    manager_linger: float | None
    """Time for which the streams of a manager stay after its end, seconds."""
    lease_linger: float | None
    """Time for which the streams of a lease stay after its end, seconds."""
    on_event: str | os.PathLike[str] | Sequence[str] | None
    """Receiver of the feed's events: a webhook, or a command; none: tell none."""
    log_level: (
        Literal[
            "DEBUG",
            "INFO",
            "WARNING",
            "ERROR",
            "CRITICAL",
            "debug",
            "info",
            "warning",
            "error",
            "critical",
        ]
        | None
    )
    """Lowest level to log: DEBUG, INFO, WARNING, ERROR, CRITICAL."""
    log_file: str | os.PathLike[str] | None
    """File to log to."""
    log_format: Literal["text", "json"] | None
    """Form of a line of the log: text, json."""
    config_file: str | os.PathLike[str] | None
    """File of settings: YAML, TOML or JSON."""
