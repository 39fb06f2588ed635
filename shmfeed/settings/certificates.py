"""Files of certificates: authorities (`ca_file`) and the client's own (`client_cert`).

They are checked where settings are made, and loaded by the same functions when a
connection is opened. No message quotes a file.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from shmfeed.errors import BadArgumentError
from shmfeed.settings.secret_files import (
    absolute_path,
    read_file,
    warn_if_others_read,
)

if TYPE_CHECKING:  # a process that makes no settings loads no OpenSSL
    import ssl

MAX_BYTES = 4 << 20

_CERTIFICATE = re.compile(
    rb"-----BEGIN (?:X509 )?CERTIFICATE-----[^-]*-----END (?:X509 )?CERTIFICATE-----"
)
_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")
_MISMATCHES = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH")


def check_ca_file(value: object) -> str:
    """Return the absolute path of a file that holds certificates of authorities.

    Raises:
        BadArgumentError: The message says what is wrong with the file.
        ValueError: The value is no path.
    """
    path = absolute_path(value)
    load_authorities(_new_context(), path)
    return path


def check_client_cert(value: object) -> str:
    """Return the absolute path of a file of a client's certificate or key.

    Raises:
        BadArgumentError: The file cannot be read.
        ValueError: The value is no path.
    """
    path = absolute_path(value)
    read_file("file", path, MAX_BYTES)
    return path


def check_client_pair(paths: Sequence[str]) -> None:
    """Raise BadArgumentError unless the files are a certificate and its key."""
    load_client(_new_context(), paths)


def load_authorities(context: "ssl.SSLContext", path: str) -> None:
    """Let `context` trust the authorities in a PEM file, and no others.

    Raises:
        BadArgumentError: The file cannot be read, or holds no authority's certificate.
    """
    import ssl  # noqa: PLC0415  as above

    data, _ = read_file("file", path, MAX_BYTES)
    blocks = [block.decode("ascii", "replace") for block in _CERTIFICATE.findall(data)]
    if not blocks:
        raise BadArgumentError(f"file {path!r} holds no certificate in PEM form")
    try:
        context.load_verify_locations(cadata="\n".join(blocks))
        is_trusted = bool(context.cert_store_stats()["x509_ca"]) or any(
            _is_self_issued(ssl.PEM_cert_to_DER_cert(block)) for block in blocks
        )
    except (ssl.SSLError, TypeError, ValueError, IndexError):
        raise BadArgumentError(
            f"file {path!r} holds a certificate that cannot be read"
        ) from None
    if not is_trusted:
        raise BadArgumentError(
            f"file {path!r} holds certificates of servers only, none of an authority"
        )


def load_client(context: "ssl.SSLContext", paths: Sequence[str]) -> None:
    """Let `context` identify itself by a certificate and its key, in one file or two.

    Raises:
        BadArgumentError: A file cannot be read, or they are no such pair.
    """
    import ssl  # noqa: PLC0415  as above

    cert, key = paths[0], paths[-1]
    if not _CERTIFICATE.search(read_file("file", cert, MAX_BYTES)[0]):
        raise BadArgumentError(f"file {cert!r} holds no certificate in PEM form")
    data, mode = read_file("file", key, MAX_BYTES)
    if not _KEY.search(data):
        raise BadArgumentError(f"file {key!r} holds no private key in PEM form")
    asked: list[bool] = []

    def no_password() -> str:
        asked.append(True)  # otherwise OpenSSL asks for it at the terminal
        return ""

    try:
        context.load_cert_chain(cert, key, password=no_password)
    except (ssl.SSLError, OSError, ValueError) as error:
        raise BadArgumentError(_fault(error, cert, key, bool(asked))) from None
    warn_if_others_read("the key in", key, mode)


def _fault(error: Exception, cert: str, key: str, is_encrypted: bool) -> str:
    if is_encrypted:
        return (
            f"the key in file {key!r} is encrypted; write it without a passphrase:"
            f" openssl pkey -in KEY -out NEWKEY"
        )
    if getattr(error, "reason", "") in _MISMATCHES:
        return f"the key in file {key!r} is not that of the certificate in {cert!r}"
    return f"the certificate in file {cert!r}, or the key in {key!r}, cannot be read"


def _new_context() -> "ssl.SSLContext":
    import ssl  # noqa: PLC0415  as above

    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _is_self_issued(der: bytes) -> bool:
    """Return True if a certificate's issuer and its subject are the same."""
    certificate, _ = _contents(der)
    fields: list[bytes] = []
    rest, _ = _contents(certificate)
    while rest and len(fields) < 6:
        _, after = _contents(rest)
        if rest[0] != 0xA0:  # the version, which may be absent
            fields.append(rest[: len(rest) - len(after)])
        rest = after
    _serial, _algorithm, issuer, _validity, subject = fields[:5]
    return issuer == subject


def _contents(der: bytes) -> tuple[bytes, bytes]:
    """Return the contents of the first element of DER, and what follows it."""
    size, start = der[1], 2
    if size & 0x80:
        start += size & 0x7F
        size = int.from_bytes(der[2:start], "big")
    return der[start : start + size], der[start + size :]
