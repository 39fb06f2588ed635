"""The setting `on_event`: the receiver of a feed's events, checked.

Path and query of a webhook are secrets: they are all that a sender needs.
"""

import os
from urllib.parse import urlsplit

from shmfeed.errors import BadArgumentError
from shmfeed.settings.backfill import MAX_WORD, check_command
from shmfeed.settings.endpoint import check_rest_endpoint
from shmfeed.text import repr_short

ACCEPTED = (
    "an http:// or https:// address, the path of a program, or a command as a list (in"
    " a text: a JSON list)"
)
_SCHEMES = ("http:", "https:")
_SHORTEST_SECRET = 8


def check_receiver(value: object) -> str | tuple[str, ...]:
    """Return the address of a webhook, or the words of a command.

    Raises:
        BadArgumentError: The value is neither; the message holds no secret.
    """
    if isinstance(value, list | tuple):
        return check_command(value)
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(text, str):
        raise BadArgumentError(
            f"a value of type {type(value).__name__} is not accepted; {ACCEPTED}"
        )
    if text.lower().startswith(_SCHEMES):
        return check_rest_endpoint(text)
    if "://" in text or not _can_name_a_program(text):
        shown = repr_short(text.partition("://")[0])
        raise BadArgumentError(f"{shown} is not accepted; {ACCEPTED}")
    return (text,)


def _can_name_a_program(text: str) -> bool:
    is_broken = any(char.isspace() or char == "\0" for char in text)
    return 0 < len(text) <= MAX_WORD and not is_broken


def receiver_label(value: str | tuple[str, ...]) -> str:
    """Return a checked receiver without what may be secret."""
    if isinstance(value, str):
        parts = urlsplit(value)
        return f"{parts.scheme}://{parts.netloc}/***"
    return value[0] if len(value) == 1 else f"{value[0]} ***"


def secrets_in(value: str | tuple[str, ...] | None) -> set[str]:
    """Return the parts of a checked receiver that no message may show."""
    if not isinstance(value, str):
        words = value or ()
        return {word for word in words[1:] if len(word) >= _SHORTEST_SECRET}
    parts = urlsplit(value)
    pieces = [*parts.path.split("/"), *parts.query.replace("=", "&").split("&")]
    return {piece for piece in pieces if len(piece) >= _SHORTEST_SECRET}
