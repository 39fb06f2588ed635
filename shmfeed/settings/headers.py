"""Headers, origin and subprotocols that a handshake adds to its request.

The values of headers are secrets. No message, repr or status shows one.
"""

import json
import re
from collections.abc import Mapping

from shmfeed.errors import BadArgumentError
from shmfeed.text import repr_short

ACCEPTED = 'a mapping of names to values, or lines such as "Name: value"'
MAX_HEADERS = 64
MAX_VALUE = 8192  # characters

_LONG_WORD = 8  # a shorter one may be ordinary
_SHORTEST_SECRET = 4

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_VALUE = re.compile(r"[\x21-\x7e\xa0-\xff]([\x20-\x7e\xa0-\xff]*[\x21-\x7e\xa0-\xff])?")
_ORIGIN = re.compile(
    r"null|[A-Za-z][A-Za-z0-9+.-]{0,31}://"
    r"([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?"
)
# The handshake, the connection and the proxy have these headers from elsewhere.
_RESERVED = re.compile(
    "host|upgrade|connection|keep-alive|content-length|transfer-encoding|te|trailer"
    "|expect|origin|sec-websocket-.*|proxy-.*"
)


class SecretHeaders(tuple[tuple[str, str], ...]):
    """Pairs of a header's name and its value, whose repr hides the values."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr({name: "***" for name, _ in self})


def check_headers(value: object) -> SecretHeaders:
    """Return headers given as a mapping, as pairs, or as lines "Name: value".

    Raises:
        BadArgumentError: The message names a header and what is wrong, not its value.
        TypeError: The value is of another type.
    """
    pairs = _pairs(value)
    if len(pairs) > MAX_HEADERS:
        raise BadArgumentError(f"{len(pairs)} headers; at most {MAX_HEADERS}")
    checked = SecretHeaders(
        _checked(number, name, text) for number, (name, text) in enumerate(pairs, 1)
    )
    names = [name.lower() for name, _ in checked]
    for name in names:
        if names.count(name) > 1:
            raise BadArgumentError(f"the header {name!r} is given twice")
    return checked


def parse_headers(text: str) -> object:
    """Return the headers in a text: a JSON object, or lines.

    Raises:
        BadArgumentError: The text begins like JSON and is not a JSON object.
    """
    if not text.startswith("{"):
        return text
    try:
        return SecretHeaders(json.loads(text, object_pairs_hook=tuple))
    except (ValueError, RecursionError):
        raise BadArgumentError("the headers are not well-formed JSON") from None


def check_origin(value: object) -> str:
    """Return an origin, such as https://example.com; raise ValueError for another text.

    Raises:
        TypeError: The value is not a text.
    """
    if not isinstance(value, str):
        raise TypeError
    if not _ORIGIN.fullmatch(value):
        raise ValueError
    return value


def check_subprotocol(value: object) -> str:
    """Return the name of a subprotocol.

    Raises:
        BadArgumentError: It is not a token of HTTP.
    """
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise BadArgumentError(
            f"{repr_short(value)} is not accepted; a subprotocol's name has letters,"
            " digits and - . _ only"
        )
    return value


def secrets_in(headers: tuple[tuple[str, str], ...]) -> set[str]:
    """Return the values of headers, and their parts, which no message may show.

    The parts are long words, what follows an `=`, and of two words the second, as in
    `Bearer TOKEN`.
    """
    found: set[str] = set()
    for _, value in headers:
        words = re.split(r"[\s;,]+", value)
        found |= {word for word in words if len(word) >= _LONG_WORD}
        found |= {word.partition("=")[2] for word in words}
        found |= {value, *(words[1:] if len(words) == 2 else ())}
    return {text for text in found if len(text) >= _SHORTEST_SECRET}


def _pairs(value: object) -> list[tuple[object, object]]:
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, str):
        value = [line for line in value.split("\n") if line.strip()]
    if not isinstance(value, list | tuple):
        raise TypeError
    return [_pair(number, item) for number, item in enumerate(value, 1)]


def _pair(number: int, item: object) -> tuple[object, object]:
    if isinstance(item, list | tuple) and len(item) == 2:
        return item[0], item[1]
    if not isinstance(item, str):
        raise TypeError
    name, colon, text = item.strip(" \t\r").partition(":")
    if not colon:
        raise BadArgumentError(f'header {number} is not of the form "Name: value"')
    return name, text.strip(" \t")


def _checked(number: int, name: object, value: object) -> tuple[str, str]:
    if not isinstance(name, str) or not _TOKEN.fullmatch(name):
        # The name is not shown: a value may stand in its place.
        raise BadArgumentError(
            f"the name of header {number} is not made of letters, digits and -"
        )
    if _RESERVED.fullmatch(name.lower()):
        raise BadArgumentError(
            f"the header {name!r} is set by the handshake itself; leave it out (an"
            " origin and subprotocols are settings of their own)"
        )
    if not isinstance(value, str):
        raise BadArgumentError(
            f"the value of header {name!r} is of type {type(value).__name__}, not text"
        )
    if len(value) > MAX_VALUE:
        raise BadArgumentError(
            f"the value of header {name!r} is longer than {MAX_VALUE} characters"
        )
    if value and not _VALUE.fullmatch(value):
        raise BadArgumentError(
            f"the value of header {name!r} has a line break, a control character, a"
            " character beyond Latin-1, or space around it"
        )
    return "".join(name), "".join(value)
