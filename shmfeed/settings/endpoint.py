"""Addresses as they come in from outside: endpoints, and a proxy, checked once.

What is shown of an address, in a message or a status, never holds its query, which
may carry a key; of a refused one with an @ only the scheme is shown.
"""

import ipaddress
import re
from urllib.parse import SplitResult, unquote_plus, urlsplit

from shmfeed.errors import BadArgumentError

ACCEPTED = "a ws:// or wss:// address without user, password or fragment"
PROXY_ACCEPTED = "an http://host:port address without user, password, path or query"
_SHORTEST_SECRET = 4  # what is shorter guards nothing, and is part of many a word
_SHORTEST_PART = 8  # of a longer one
_PRINTABLE = re.compile(r"[!-~]{1,2048}")
# As the DNS, and TLS, have it: no label is empty or longer than 63.
_LABEL = r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}"
_HOST = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*\.?")
_NEXT = re.compile(r"\s*,\s*(?=[A-Za-z]+://)")


def split(text: str) -> list[str]:
    """The addresses of a comma-separated text; a comma within one stays."""
    pieces = _NEXT.split(text.strip().strip(","))
    return [piece.strip() for piece in pieces if piece.strip()]


def check(text: str) -> str:
    """The address, its scheme in lower case.

    Raises BadArgumentError, which shows nothing that may be secret.
    """
    reason = _fault(text)
    if reason:
        shown = shown_refused(text)
        raise BadArgumentError(f"{shown!r} is not accepted: {reason}; {ACCEPTED}")
    scheme, rest = text.split("://", 1)
    return f"{scheme.lower()}://{rest}"


def check_proxy(text: str) -> str:
    """The address of a proxy, its scheme in lower case; errors as `check` has them."""
    reason = _proxy_fault(text)
    if reason:
        shown = shown_refused(text)
        raise BadArgumentError(f"{shown!r} is not accepted: {reason}; {PROXY_ACCEPTED}")
    return f"http://{urlsplit(text).netloc}"


def explicit_port(endpoint: str) -> int | None:
    """The port that a checked endpoint names, None where it names none."""
    return urlsplit(endpoint).port


def is_exposed(endpoint: str, proxy: str | None = None) -> bool:
    """Whether a checked endpoint would send in the clear beyond this host.

    By way of a checked proxy on another host it does, wherever it is itself.
    """
    parts = urlsplit(endpoint)
    hosts = [parts.hostname, urlsplit(proxy).hostname if proxy else "localhost"]
    return parts.scheme == "ws" and not all(is_loopback(host or "") for host in hosts)


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this host's own."""
    if host.rstrip(".") == "localhost":
        return True
    address = _address(host)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address is not None and address.is_loopback


def shown(endpoint: str) -> str:
    """A checked endpoint as it may be shown: without its query."""
    address, mark, _ = endpoint.partition("?")
    return address + ("?..." if mark else "")


def secrets(endpoint: str) -> set[str]:
    """What a checked endpoint's query may hold that no message may show."""
    query = endpoint.partition("?")[2]
    values = {pair.partition("=")[2] for pair in query.split("&")}
    texts = {query, *values}
    texts |= {unquote_plus(text) for text in texts}
    return {text for text in texts if len(text) >= _SHORTEST_SECRET}


def hide(text: str, secret: str) -> str:
    """The text with *** for a secret, and for a beginning of it that is left where
    somebody cut the text; also with `\\/` for `/`, as some JSON has it."""
    for form in {secret, secret.replace("/", r"\/")}:
        head = form[:_SHORTEST_PART]
        at = text.find(head)
        while at >= 0:
            left = len(form)
            while not text.startswith(form[:left], at):
                left -= 1
            text = f"{text[:at]}***{text[at + left :]}"
            at = text.find(head, at + 3)
    return text


def shown_refused(text: str) -> str:
    """What may be shown of a text that is no endpoint."""
    scheme, mark, _ = text.partition("://")
    if "@" in text:
        return f"{scheme[:8]}://..." if mark else "..."
    return shown(text)[:200]


def _fault(text: str, schemes: tuple[str, ...] = ("ws", "wss")) -> str:
    if not _PRINTABLE.fullmatch(text) or "\\" in text or "#" in text:
        return "a space, a fragment, or a character that is none of an address"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return "its host or port cannot be read"
    if parts.scheme not in schemes:
        return "its scheme"
    return _authority_fault(parts, port)


def _proxy_fault(text: str) -> str:
    reason = _fault(text, ("http",))
    if reason:
        return reason
    parts = urlsplit(text)
    if parts.port is None:
        return "it names no port"
    return "it names more than a host" if parts.path.strip("/") or "?" in text else ""


def _authority_fault(parts: SplitResult, port: int | None) -> str:
    if "@" in parts.netloc:
        return "it names a user or a password"
    if port == 0 or parts.netloc.endswith(":"):
        return "its port"
    if not _is_host(parts.hostname or ""):
        return "its host"
    return ""


def _is_host(host: str) -> bool:
    return bool(_HOST.fullmatch(host)) or _address(host) is not None


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
