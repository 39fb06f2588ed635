"""From a target to a socket: name, TCP, proxy, TLS, as far as the settings permit.

Any request of the feeder takes `connect`, the handshake of a WebSocket or another.
Nothing here waits: each step is a generator that yields a socket and the poll events to
wait for, and the caller waits in its own way.

Only the policy enables a proxy or redirects; no environment variable and no server can.
"""

from typing import NamedTuple

from shmfeed.errors import BadArgumentError
from shmfeed.settings import endpoint
from shmfeed.settings.headers import SecretHeaders
from shmfeed.settings.model import Settings
from shmfeed.settings.secret_files import read_secret
from shmfeed.wire.deflate import OFFER
from shmfeed.wire.errors import ConnectionLostError, explained
from shmfeed.wire.handshake import PLAIN_REQUEST, Request, Target, parse_target
from shmfeed.wire.proxies import parse_proxy, tunnel
from shmfeed.wire.tcp import ConnectDeadline, Steps, WireSocket, connect_tcp
from shmfeed.wire.tls import secure, tls_context


class ConnectPolicy(NamedTuple):
    """The settings that limit where a connection leads, and what it sends there.

    `has_token` says that a token will be sent once the connection is open.
    """

    allow_insecure: bool = False
    proxy: str | None = None
    max_redirects: int = 0
    has_token: bool = False
    request: Request = PLAIN_REQUEST
    ca_file: str | None = None
    client_cert: tuple[str, ...] = ()
    proxy_password_file: str | None = None

    @property
    def has_secrets(self) -> bool:
        """True if a connection carries secrets, for the venue alone."""
        return self.has_token or bool(self.request.headers)


def policy_of(settings: Settings) -> ConnectPolicy:
    """Return the policy that the settings state."""
    request = Request(
        SecretHeaders(settings.headers),
        settings.origin,
        settings.subprotocols,
        OFFER if settings.compression == "deflate" else "",
    )
    return ConnectPolicy(
        settings.allow_insecure,
        settings.proxy,
        settings.max_redirects,
        has_token=bool(settings.csrf_token or settings.csrf_token_file),
        request=request,
        ca_file=settings.ca_file,
        client_cert=settings.client_cert,
        proxy_password_file=settings.proxy_password_file,
    )


def check_target(url: str, policy: ConnectPolicy) -> Target:
    """Return where `url` leads, without touching the network.

    Raises:
        BadArgumentError: It is not the URL of a WebSocket, or it would send
            unencrypted beyond this host, which the policy does not allow.
    """
    target = parse_target(url)
    address = url.partition("?")[0]
    if not policy.allow_insecure and endpoint.is_exposed(address, policy.proxy):
        proxy = endpoint.proxy_label(policy.proxy) if policy.proxy else ""
        way = f", on its way to proxy {proxy}," if proxy else ""
        raise BadArgumentError(
            f"{target.label}{way} is not encrypted and not on this host; "
            "use wss://, or set allow_insecure"
        )
    return target


def connect(
    target: Target, policy: ConnectPolicy, deadline: ConnectDeadline
) -> Steps[WireSocket]:
    """Return a socket to `target`, through the policy's proxy and with TLS.

    After an error, or when it is closed, nothing stays open.

    Raises:
        ConnectionLostError, OSError: It cannot be connected to.
    """
    # Without encryption the policy allows only names of this host. `connect_tcp`
    # verifies that after the lookup.
    local = not (target.is_secure or policy.allow_insecure)
    if policy.proxy is None:
        sock: WireSocket = yield from connect_tcp(
            target.host, target.port, deadline, on_this_host=local
        )
    else:
        with explained(f"proxy {endpoint.proxy_label(policy.proxy)}: "):
            sock = yield from _reach_by_proxy(target, policy, deadline, local)
    if not target.is_secure:
        return sock
    try:
        context = tls_context(policy.ca_file, policy.client_cert)
        return (yield from secure(sock, target.host, context, deadline))
    except BaseException:
        sock.close()
        raise


def _reach_by_proxy(
    target: Target, policy: ConnectPolicy, deadline: ConnectDeadline, local: bool
) -> Steps[WireSocket]:
    proxy = parse_proxy(policy.proxy or "", _password(policy))
    sock: WireSocket = yield from connect_tcp(
        proxy.host, proxy.port, deadline, on_this_host=local
    )
    try:
        if proxy.scheme == "https":
            context = tls_context(policy.ca_file)
            sock = yield from secure(sock, proxy.host, context, deadline)
        yield from tunnel(sock, proxy, target, deadline)
    except BaseException:
        sock.close()
        raise
    return sock


def _password(policy: ConnectPolicy) -> str:
    if policy.proxy_password_file is None:
        return ""
    try:
        return read_secret("proxy_password_file", policy.proxy_password_file)
    except BadArgumentError as error:
        raise ConnectionLostError(str(error)) from None
