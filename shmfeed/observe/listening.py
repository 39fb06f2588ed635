"""The address that an observer serves on: loopback, unless another one is given."""

import ipaddress
import socket
from collections.abc import Collection
from typing import NamedTuple

from shmfeed.errors import BadArgumentError
from shmfeed.text import repr_short

DEFAULT_HOST = "127.0.0.1"


class Address(NamedTuple):
    """A resolved address, and whether it is loopback's."""

    family: socket.AddressFamily
    host: str
    port: int
    is_loopback: bool


def resolve(host: str, port: int) -> Address:
    """Return the first address of a host's name, or of an address in numbers.

    Raises BadArgumentError for a name without an address, and for a port beyond 65535.
    """
    if not 0 <= port <= 65535:
        raise BadArgumentError(f"port {port} is not accepted; give one from 0 to 65535")
    try:
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not a host's name"
        raise BadArgumentError(
            f"host {repr_short(host)} has no address: {reason}"
        ) from None
    family, _, _, _, address = found[0]
    text = str(address[0])
    return Address(family, text, port, ipaddress.ip_address(text).is_loopback)


def listen(address: Address) -> socket.socket:
    """Return a socket that listens there.

    Raises OSError, which names the address, where the host refuses: a port in use.
    """
    listener = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address.host, address.port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise OSError(
            f"cannot listen on {address.host} port {address.port}: {error.strerror};"
            " choose another --port"
        ) from error
    return listener


def url_of(listener: socket.socket) -> str:
    """Return the address of what is served there, as a browser opens it."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def is_accepted_host(host: str, is_local: bool, names: Collection[str]) -> bool:
    """Return True if a `Host` header names this server. Its port counts for nothing.

    `names` are in lower case. Without `is_local` each address in numbers is accepted.
    """
    is_bracketed = host.startswith("[")
    name, mark, port = host.removeprefix("[").partition("]" if is_bracketed else ":")
    if is_bracketed and (not mark or (port and not port.startswith(":"))):
        return False
    if name.lower().removesuffix(".") in names:
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or not is_local
