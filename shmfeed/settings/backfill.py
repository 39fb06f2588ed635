"""The setting `backfill`: where history comes from, checked and parsed."""

import json
import os

from shmfeed.bar_files import ENDINGS
from shmfeed.errors import BadArgumentError
from shmfeed.text import repr_short

BACKFILL = "backfill"  # the setting's name
AUTO, OFF = "auto", "off"
MANAGER = "manager"  # a function of a manager; no file or variable can state it
# Markets whose REST serves history, by protocol.
REST_MARKETS = {"binance": ("spot", "usdm", "coinm", "testnet")}
ACCEPTED = (
    "auto, off, a venue and its market such as binance:spot, the path of a .csv or"
    " .parquet file, or a command as a list (in a text: a JSON list)"
)
_MAX_WORDS, MAX_WORD = 256, 4096


def check_backfill(value: object) -> str | tuple[str, ...]:
    """Return a word, a market, a path, or the words of a command.

    Raises:
        BadArgumentError: The value names no source of history.
    """
    if value is False:  # YAML reads off as a flag
        return OFF
    if isinstance(value, list | tuple):
        return check_command(value)
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(text, str):
        raise BadArgumentError(f"{repr_short(value)} is not accepted; {ACCEPTED}")
    if text.lower() in (AUTO, OFF, MANAGER):
        return text.lower()
    if text.lower().endswith(ENDINGS) and "\0" not in text:
        return text
    protocol, _, market = text.partition(":")
    if market and market in REST_MARKETS.get(protocol, ()):
        return text
    raise BadArgumentError(f"{repr_short(text)} is not accepted; {ACCEPTED}")


def parse_command(text: str) -> object:
    """Return the value of a text; one that begins with [ is a command as JSON."""
    return json.loads(text) if text.startswith("[") else text


def check_command(words: list[object] | tuple[object, ...]) -> tuple[str, ...]:
    """Return the words of a command. Raise BadArgumentError for another list."""
    checked = tuple(word for word in words if isinstance(word, str))
    if (
        not 0 < len(words) <= _MAX_WORDS
        or len(checked) < len(words)
        or not checked[0]
        or any(len(word) > MAX_WORD or "\0" in word for word in checked)
    ):
        raise BadArgumentError(
            "the command is not accepted: it must be a list of texts, and the first one"
            " names a program"
        )
    return checked
