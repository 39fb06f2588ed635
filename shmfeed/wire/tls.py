"""TLS: the contexts that verify every server, and the handshake on a socket.

A context is kept until one of its files changes, so that a renewed certificate is used
by the next connection.
"""

import os
import select
import socket
import ssl
from functools import lru_cache

from shmfeed.errors import BadArgumentError
from shmfeed.settings.certificates import load_authorities, load_client
from shmfeed.wire.errors import WOULD_BLOCK, ConnectionLostError, events_awaited
from shmfeed.wire.nested_tls import NestedTls
from shmfeed.wire.tcp import ConnectDeadline, Steps, WireSocket

_FileStamp = tuple[int, int, int, int]  # of a file: device, inode, time, size


def tls_context(
    ca_file: str | None = None, client_cert: tuple[str, ...] = ()
) -> ssl.SSLContext:
    """Return the TLS context of these files; it verifies certificate and host name.

    Raises:
        ConnectionLostError: A file cannot be read, or does not hold what it should.
    """
    paths = [*([ca_file] if ca_file else []), *client_cert]
    try:
        return _context(ca_file, client_cert, tuple(map(_stamp, paths)))
    except BadArgumentError as error:
        raise ConnectionLostError(str(error)) from None


def secure(
    sock: WireSocket, host: str, context: ssl.SSLContext, deadline: ConnectDeadline
) -> Steps[WireSocket]:
    """Agree on TLS with `host` on a connected socket, and return the one to use."""
    if isinstance(sock, ssl.SSLSocket):
        tls: NestedTls | ssl.SSLSocket = NestedTls(sock, host, context)
    elif isinstance(sock, socket.socket):
        tls = context.wrap_socket(
            sock, server_hostname=host, do_handshake_on_connect=False
        )
    else:
        raise TypeError
    try:
        while True:
            try:
                tls.do_handshake()
            except WOULD_BLOCK as blocked:
                events = events_awaited(blocked, select.POLLIN)
            else:
                return tls
            deadline.check("the TLS handshake")
            yield tls, events
    except BaseException:
        tls.close()
        raise


@lru_cache(maxsize=16)
def _context(
    ca_file: str | None, client_cert: tuple[str, ...], _files: tuple[_FileStamp, ...]
) -> ssl.SSLContext:
    if ca_file:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # an intermediate will do
        load_authorities(context, ca_file)
    else:
        context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Without renegotiation, no server can make a send wait for a new handshake.
    context.options |= ssl.OP_NO_RENEGOTIATION
    # Session keys go to no file, though SSLKEYLOGFILE may be set. None is documented
    # as its default; only the type stubs do not know it.
    context.keylog_filename = None  # type: ignore[assignment]
    if client_cert:
        load_client(context, client_cert)
    return context


def _stamp(path: str) -> _FileStamp:
    try:
        found = os.stat(path)  # noqa: PTH116  its error names the path as it is
    except OSError:
        return 0, 0, 0, 0  # reading it says what is wrong
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
