"""Settings that are accepted one by one, but do not go together."""

from typing import TYPE_CHECKING

from shmfeed.errors import BadArgumentError
from shmfeed.settings import endpoint as endpoints
from shmfeed.settings import receivers, relay
from shmfeed.settings.schema import MAX_STREAMS, TOKEN, TOKEN_FILE
from shmfeed.validation import check_case

if TYPE_CHECKING:  # which checks itself by this module
    from shmfeed.settings.model import Settings

_ADDRESSES = (
    "a venue's address begins with ws:// or wss://",
    "an address of Redis begins with redis:// or rediss://",
)


class ConflictError(BadArgumentError):
    """Settings that are accepted one by one, but not together; `names` lists them."""

    def __init__(self, message: str, *names: str) -> None:
        super().__init__(message)
        self.names = names


def check_together(settings: "Settings") -> None:
    """Raise ConflictError if values of settings do not go together."""
    _check_secrets(settings)
    _check_relay(settings)
    _check_symbols(settings)
    _check_capacity(settings)
    _check_receiver(settings)
    _check_endpoints(settings)
    _check_store(settings)
    _check_proxy(settings)
    _check_delays(settings)
    _check_heartbeat(settings)


def _check_relay(settings: "Settings") -> None:
    _check_source(settings)
    target = settings.publish_to
    if target is None:
        return
    if settings.follows_relay:
        raise ConflictError(
            "publish_to is of no use with protocol redis: the leader of the feed"
            " publishes it; leave it out",
            "publish_to",
            "protocol",
        )
    if not settings.allow_insecure and endpoints.is_exposed(target):
        raise ConflictError(
            f"publish_to {endpoints.redact(target)!r} would send plain text beyond this"
            " host; use rediss://, or allow_insecure",
            "publish_to",
            "allow_insecure",
        )


def _check_source(settings: "Settings") -> None:
    if not settings.follows_relay:
        if settings.source_feed is not None:
            raise ConflictError(
                f"source_feed is of no use with protocol {settings.protocol}: a feed is"
                " followed by protocol redis; leave it out",
                "source_feed",
                "protocol",
            )
        return
    try:
        relay.check_installed()
    except BadArgumentError as error:
        raise ConflictError(str(error), "protocol") from None
    if not settings.endpoint:
        raise ConflictError(
            "protocol redis has no default endpoint; give endpoint, such as"
            " redis://host:6379/0",
            "protocol",
        )
    if bool(settings.symbols) != bool(settings.resolutions):
        given, other = "symbols", "resolutions"
        if settings.resolutions:
            given, other = other, given
        raise ConflictError(
            f"{given} are given without {other}; give both, or neither to follow all"
            " streams of the leader",
            given,
        )
    if settings.proxy is not None:
        raise ConflictError(
            "proxy is of no use with protocol redis, which connects directly; leave it"
            " out",
            "proxy",
            "protocol",
        )


def _check_symbols(settings: "Settings") -> None:
    try:
        check_case(settings.symbols)
    except BadArgumentError as error:
        raise ConflictError(str(error), "symbols") from None


def _check_secrets(settings: "Settings") -> None:
    if settings.csrf_token and settings.csrf_token_file is not None:
        raise ConflictError(
            "csrf_token and csrf_token_file are both given; leave one of them out",
            TOKEN,
            TOKEN_FILE,
        )
    if settings.redis_password and settings.redis_password_file is not None:
        raise ConflictError(
            "redis_password and redis_password_file are both given; leave one of them"
            " out",
            relay.PASSWORD,
            relay.PASSWORD_FILE,
        )


def _check_capacity(settings: "Settings") -> None:
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


def _check_receiver(settings: "Settings") -> None:
    webhook = settings.on_event if isinstance(settings.on_event, str) else None
    if webhook and not settings.allow_insecure and endpoints.is_exposed(webhook):
        raise ConflictError(
            f"on_event {receivers.receiver_label(webhook)!r} would send plain text"
            " beyond this host; use https://, or allow_insecure",
            "on_event",
            "allow_insecure",
        )


def _check_endpoints(settings: "Settings") -> None:
    for endpoint in settings.rest_endpoint:
        if not settings.allow_insecure and endpoints.is_exposed(endpoint):
            raise ConflictError(
                f"rest_endpoint {endpoints.redact(endpoint)!r} would send plain text"
                " beyond this host; use https://, or allow_insecure",
                "rest_endpoint",
                "allow_insecure",
            )
    for endpoint in settings.endpoint:
        _check_endpoint(settings, endpoint)
        if not settings.allow_insecure:
            _check_secrecy(settings, endpoint)


def _check_endpoint(settings: "Settings", endpoint: str) -> None:
    shown, port = endpoints.redact(endpoint), endpoints.explicit_port(endpoint)
    if endpoints.is_redis(endpoint) != settings.follows_relay:
        raise ConflictError(
            f"endpoint {shown!r} does not go with protocol {settings.protocol};"
            f" {_ADDRESSES[settings.follows_relay]}",
            "endpoint",
            "protocol",
        )
    if port and settings.port and port not in settings.port:
        raise ConflictError(
            f"endpoint {shown!r} names port {port}, port is {settings.port};"
            " leave one of them out",
            "endpoint",
            "port",
        )


def _check_secrecy(settings: "Settings", endpoint: str) -> None:
    shown = endpoints.redact(endpoint)
    if endpoints.is_exposed(endpoint):
        scheme = "rediss" if settings.follows_relay else "wss"
        raise ConflictError(
            f"endpoint {shown!r} would send plain text beyond this host; use"
            f" {scheme}://, or allow_insecure",
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


def _check_store(settings: "Settings") -> None:
    if settings.store_keep is not None and settings.store is None:
        raise ConflictError(
            "store_keep is of no use: there is no store; give store too, or leave it"
            " out",
            "store_keep",
        )


def _check_proxy(settings: "Settings") -> None:
    if settings.proxy_password_file is None:
        return
    if settings.proxy is None or endpoints.proxy_user(settings.proxy) is None:
        raise ConflictError(
            "proxy_password_file is of no use: proxy names no user, as"
            " http://user@host:port does",
            "proxy",
            "proxy_password_file",
        )


def _check_delays(settings: "Settings") -> None:
    if settings.reconnect_delay_max < settings.reconnect_delay_base:
        raise ConflictError(
            f"reconnect_delay_max {settings.reconnect_delay_max:g} is less than"
            f" reconnect_delay_base {settings.reconnect_delay_base:g}: raise it",
            "reconnect_delay_base",
            "reconnect_delay_max",
        )


def _check_heartbeat(settings: "Settings") -> None:
    # Otherwise the feeder would leave a quiet venue before it has pinged it.
    if settings.heartbeat_timeout <= settings.heartbeat_interval:
        raise ConflictError(
            f"heartbeat_timeout {settings.heartbeat_timeout:g} is not more than"
            f" heartbeat_interval {settings.heartbeat_interval:g}, the time between"
            " the feeder's pings",
            "heartbeat_timeout",
            "heartbeat_interval",
        )
