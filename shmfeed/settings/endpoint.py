"""Addresses of venues, of a proxy and of Redis: validation and redaction.

The query of an address may carry a key, so no message or status holds it. Of a
refused address with an @, which may carry a password, only the scheme is shown.
"""

import ipaddress
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, unquote_plus, urlsplit

from shmfeed.errors import BadArgumentError

ACCEPTED = (
    "a ws:// or wss:// address without user, password or fragment; with protocol redis"
    " an address such as redis://user@host:6379/0"
)
PROXY_ACCEPTED = (
    "an http://, https:// or socks5h:// address with a port, such as"
    " http://user@host:port, without path or query"
)
REST_ACCEPTED = "an http:// or https:// address without user, password or fragment"
REDIS_ACCEPTED = (
    "a redis:// or rediss:// address such as redis://user@host:6379/0, without password"
    " or query"
)
REST_SCHEMES = ("http", "https")
PROXY_SCHEMES = ("http", "https", "socks5h")
REDIS_SCHEMES = ("redis", "rediss")
REDIS_PORT = 6379
MAX_DATABASE = 65_535
_SHORTEST_SECRET = 4  # a shorter value is no secret, and occurs in ordinary words
_SHORTEST_PART = 8  # mask_secrets() takes no less for a cut secret's beginning
_PRINTABLE = re.compile(r"[!-~]{1,2048}")
# DNS and TLS: no label of a host is empty or longer than 63.
_LABEL = r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}"
_HOST = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*\.?")
_USER = re.compile(r"(?:[A-Za-z0-9!$&'()*+,;=._~-]|%(?!3[Aa])[0-9A-Fa-f]{2})+")
_DATABASE = re.compile(r"[0-9]{1,5}")
_LONGEST_USER = 255  # bytes; SOCKS has no place for more
_NEXT = re.compile(r"\s*,\s*(?=[A-Za-z]+://)")


def split_endpoints(text: str) -> list[str]:
    """Return the addresses of a comma-separated text; a comma within one is kept."""
    pieces = _NEXT.split(text.strip().strip(","))
    return [piece.strip() for piece in pieces if piece.strip()]


def check_endpoint(text: str) -> str:
    """Return the address with its scheme in lower case.

    Raises:
        BadArgumentError: The message holds nothing that may be secret.
    """
    reason = _fault(text, ("ws", "wss"))
    if reason:
        safe = redact_refused(text)
        raise BadArgumentError(f"{safe!r} is not accepted: {reason}; {ACCEPTED}")
    return _with_lower_scheme(text)


def check_rest_endpoint(text: str) -> str:
    """Return the base address of a REST service, its scheme in lower case.

    Raises:
        BadArgumentError: The message holds nothing that may be secret.
    """
    reason = _fault(text, REST_SCHEMES)
    if reason:
        safe = redact_refused(text)
        raise BadArgumentError(f"{safe!r} is not accepted: {reason}; {REST_ACCEPTED}")
    return _with_lower_scheme(text)


def check_proxy(text: str) -> str:
    """Return a proxy's address with its scheme in lower case.

    Raises:
        BadArgumentError: The message holds nothing that may be secret.
    """
    reason = _proxy_fault(text)
    if reason:
        safe = redact_refused(text)
        raise BadArgumentError(f"{safe!r} is not accepted: {reason}; {PROXY_ACCEPTED}")
    parts = urlsplit(text)
    return f"{parts.scheme}://{parts.netloc}"


def check_redis(text: str) -> str:
    """Return an address of Redis with its scheme in lower case.

    Raises:
        BadArgumentError: The message holds nothing that may be secret.
    """
    reason = _redis_fault(text)
    if reason:
        safe = redact_refused(text)
        raise BadArgumentError(f"{safe!r} is not accepted: {reason}; {REDIS_ACCEPTED}")
    return _with_lower_scheme(text)


def check_address(text: str) -> str:
    """Return the address of a venue or of Redis, as `check_endpoint` does."""
    return check_redis(text) if is_redis(text) else check_endpoint(text)


def is_redis(text: str) -> bool:
    """Return True if an address, checked or not, has a scheme of Redis."""
    return text.partition("://")[0].lower() in REDIS_SCHEMES


class RedisAddress(NamedTuple):
    """The parts of an address of Redis; `user` is "" where it names none."""

    host: str
    port: int
    database: int
    user: str
    is_encrypted: bool


def parse_redis(address: str) -> RedisAddress:
    """Return the parts of a checked address of Redis."""
    parts = urlsplit(address)
    return RedisAddress(
        parts.hostname or "",
        parts.port or REDIS_PORT,
        int(parts.path.strip("/") or 0),
        unquote(parts.username or ""),
        parts.scheme == "rediss",
    )


def proxy_user(proxy: str) -> str | None:
    """Return the user in a checked proxy's address, or None without one."""
    user = urlsplit(proxy).username
    return None if user is None else unquote(user)


def proxy_label(proxy: str) -> str:
    """Return a checked proxy's address without its user, fit for logs."""
    parts = urlsplit(proxy)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def explicit_port(endpoint: str) -> int | None:
    """Return the port in a checked endpoint, or None if it names no port."""
    return urlsplit(endpoint).port


def is_exposed(endpoint: str, proxy: str | None = None) -> bool:
    """Return True if a checked endpoint sends plain text beyond this host.

    A checked proxy on another host counts, even if the endpoint is local.
    """
    parts = urlsplit(endpoint)
    hosts = [parts.hostname, urlsplit(proxy).hostname if proxy else "localhost"]
    return parts.scheme in ("ws", "http", "redis") and not all(
        is_loopback(host or "") for host in hosts
    )


def is_loopback(host: str) -> bool:
    """Return True if a host's name or address is a loopback one."""
    if host.rstrip(".") == "localhost":
        return True
    address = _address(host)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address is not None and address.is_loopback


def redact(endpoint: str) -> str:
    """Return a checked endpoint without its query, and without the user of Redis."""
    address, mark, _ = endpoint.partition("?")
    if is_redis(address):
        scheme, _, place = address.partition("://")
        address = f"{scheme}://{place.rpartition('@')[2]}"
    return address + ("?..." if mark else "")


def secrets_in(endpoint: str) -> set[str]:
    """Return the parts of a checked endpoint's query that no message may show."""
    query = endpoint.partition("?")[2]
    values = {pair.partition("=")[2] for pair in query.split("&")}
    texts = {query, *values}
    texts |= {unquote_plus(text) for text in texts}
    return {text for text in texts if len(text) >= _SHORTEST_SECRET}


def mask_secrets(text: str, secrets: Iterable[str]) -> str:
    r"""Return the text with *** in place of each secret.

    The text may end within a secret, so a beginning of one is masked too. Both are also
    found with `\/` for `/`, as some JSON encoders write it. Secrets may begin alike, so
    all are found before any is masked.
    """
    found = sorted(span for one in secrets for span in _spans(text, one))
    masked: list[str] = []
    end = 0
    for start, stop in found:
        if start >= end:
            masked += text[end:start], "***"
        end = max(end, stop)
    return "".join([*masked, text[end:]])


def _spans(text: str, secret: str) -> Iterator[tuple[int, int]]:
    for form in {secret, secret.replace("/", r"\/"), " ".join(secret.split())}:
        head = form[:_SHORTEST_PART]
        at = text.find(head) if head else -1
        while at >= 0:
            left = len(form)
            while not text.startswith(form[:left], at):
                left -= 1
            yield at, at + left
            at = text.find(head, at + left)


def _with_lower_scheme(text: str) -> str:
    scheme, rest = text.split("://", 1)
    return f"{scheme.lower()}://{rest}"


def redact_refused(text: str) -> str:
    """Return what a message may show of a text that is not a valid endpoint."""
    scheme, mark, _ = text.partition("://")
    if "@" in text:
        return f"{scheme[:8]}://..." if mark else "..."
    return redact(text)[:200]


def _fault(text: str, schemes: tuple[str, ...]) -> str:
    if not _PRINTABLE.fullmatch(text) or "\\" in text or "#" in text:
        return "it holds a space, a fragment, or a character that no address has"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return "its host or port cannot be read"
    if "://" not in text:
        return "its scheme is missing"
    if parts.scheme not in schemes:
        return "its scheme is not " + " or ".join(f"{scheme}://" for scheme in schemes)
    return _authority_fault(parts, port)


def _proxy_fault(text: str) -> str:
    if "://" in text and ":" in text.rpartition("@")[0].partition("://")[2]:
        return "it holds a password; proxy_password_file names a file that does"
    scheme, mark, place = text.partition("://")
    user, at, place = place.rpartition("@")
    reason = _fault(f"{scheme}{mark}{place}", PROXY_SCHEMES)
    if reason:
        return reason
    if at and not _is_user(user):
        return "its user is empty, too long, or not percent-encoded"
    parts = urlsplit(text)
    if parts.port is None:
        return "it names no port"
    has_more = bool(parts.path.strip("/")) or "?" in text
    return "it has a path or a query" if has_more else ""


def _redis_fault(text: str) -> str:
    scheme, mark, place = text.partition("://")
    user, at, place = place.rpartition("@")
    if ":" in user:
        return (
            "it holds a password, which belongs in SHMFEED_REDIS_PASSWORD or in"
            " redis_password_file"
        )
    reason = _fault(f"{scheme}{mark}{place}", REDIS_SCHEMES)
    if reason:
        return reason
    if at and not _is_user(user):
        return "its user is empty, too long, or not percent-encoded"
    if "?" in text:
        return "it has a query"
    database = urlsplit(text).path.removeprefix("/") or "0"
    if not _DATABASE.fullmatch(database) or int(database) > MAX_DATABASE:
        return f"its database is not a number from 0 to {MAX_DATABASE}"
    return ""


def _authority_fault(parts: SplitResult, port: int | None) -> str:
    if "@" in parts.netloc:
        return "it names a user or a password"
    if port == 0 or parts.netloc.endswith(":"):
        return "its port is missing or 0"
    if not _is_host(parts.hostname or ""):
        return "its host is missing or malformed"
    return ""


def _is_user(user: str) -> bool:
    name = unquote(user)
    is_short = 0 < len(name.encode()) <= _LONGEST_USER
    return bool(_USER.fullmatch(user)) and is_short and name.isprintable()


def _is_host(host: str) -> bool:
    return bool(_HOST.fullmatch(host)) or _address(host) is not None


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
