"""What a connection may do to get where it shall: proxy and redirects. No I/O.

Without settings that say so it does neither, whatever the environment or a server says.
"""

from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

from shmfeed.errors import BadArgumentError
from shmfeed.settings import endpoint
from shmfeed.wire.handshake import HandshakeError, RedirectedError, Target, parse, words

_SCHEMES = {"http": "ws", "https": "wss"}  # as servers also write them in a Location


class Rules(NamedTuple):
    """The settings of that name, and whether a token will be sent once it is open."""

    allow_insecure: bool = False
    proxy: str | None = None
    max_redirects: int = 0
    has_token: bool = False


def start(url: str, rules: Rules) -> Target:
    """Take the URL of a connection apart, without touching the network.

    BadArgumentError where it is none, or where it would send in the clear beyond this
    host and that is not allowed.
    """
    target = parse(url)
    address = url.partition("?")[0]
    if not rules.allow_insecure and endpoint.is_exposed(address, rules.proxy):
        way = f", on its way to proxy {rules.proxy}," if rules.proxy else ""
        raise BadArgumentError(
            f"{target.shown}{way} is not encrypted and not on this host; "
            "use wss://, or set allow_insecure"
        )
    return target


def follow(redirect: RedirectedError, target: Target, rules: Rules) -> Target:
    """Where a server sends us on to from `target`; HandshakeError where we do not go.

    Never from wss:// to ws://; elsewhere only where neither a query nor a token, which
    may be secret, would have to go there too.
    """
    if not redirect.location:
        raise _unfollowed(redirect, "to nowhere")
    try:
        following = start(_location(redirect, target), rules)
    except BadArgumentError as error:
        raise _unfollowed(redirect, f"to what is not accepted: {error}") from error
    if target.secure and not following.secure:
        raise _unfollowed(redirect, f"from wss:// to {following.shown}")
    is_elsewhere = _origin(following) != _origin(target)
    if is_elsewhere and (rules.has_token or "?" in target.resource):
        raise _unfollowed(
            redirect,
            f"to {following.shown}, which is not to be given our token or query;"
            " if it is the venue's, name it as endpoint",
        )
    return following


def proxy_address(proxy: str) -> tuple[str, int]:
    """Host and port of a checked proxy."""
    parts = urlsplit(proxy)
    return parts.hostname or "", parts.port or 80


def _location(redirect: RedirectedError, target: Target) -> str:
    base = target.shown.partition("?")[0]
    try:
        url = urljoin(base, redirect.location)
    except ValueError as error:
        raise _unfollowed(redirect, "to what is no address") from error
    scheme, mark, rest = url.partition("://")
    return _SCHEMES.get(scheme.lower(), scheme) + mark + rest


def _unfollowed(redirect: RedirectedError, why: str) -> HandshakeError:
    return HandshakeError(f"the server redirects ({redirect.code}) {words(why, 500)}")


def _origin(target: Target) -> tuple[bool, str, int]:
    return target.secure, target.host.lower(), target.port
