"""Text in a latch: a stream's reason in words, and the note, the feeder's facts."""

import json
from collections.abc import Mapping
from typing import Any

from shmfeed.layout import NOTE_BYTES, WORD

_CUT = b".."
_DAMAGED = "the feeder's note in the segment is damaged; restart the feeder"


def pack_text(text: str, cell_words: int) -> bytes:
    """Return a latch's cell that holds a text, shortened if it does not fit."""
    size = (cell_words - 1) * WORD
    encoded = text.encode(errors="replace")
    if len(encoded) > size:
        whole = encoded[: size - len(_CUT)].decode(errors="ignore")
        encoded = whole.encode() + _CUT
    return len(encoded).to_bytes(WORD, "little") + encoded.ljust(size, b"\0")


def unpack_text(cell: bytes | None) -> str:
    """Return the text of a latch's cell, "" if it was never written."""
    if cell is None:
        return ""
    size = int.from_bytes(cell[:WORD], "little")
    return cell[WORD : WORD + size].decode(errors="replace")


def pack_note(facts: Mapping[str, object]) -> bytes:
    """Return one cell: the length of the JSON text, and the text.

    If the text does not fit, its longest value is halved until it does.
    """
    texts = dict(facts)
    text = json.dumps(texts).encode()
    while len(text) > NOTE_BYTES:
        longest = max(texts, key=lambda key: len(str(texts[key])))
        value = str(texts.pop(longest))
        if value:
            texts[longest] = value[: len(value) // 2]
        text = json.dumps(texts).encode()
    return len(text).to_bytes(WORD, "little") + text.ljust(NOTE_BYTES, b" ")


def unpack_note(cell: bytes | None) -> dict[str, Any]:
    """Return the facts of a cell, {} if it was never written.

    A damaged note costs no bars: its only fact is then a `last_error` that says so.
    """
    if cell is None:
        return {}
    size = int.from_bytes(cell[:WORD], "little")
    try:
        facts = json.loads(cell[WORD : WORD + size])
    except (ValueError, RecursionError):
        facts = None
    return facts if isinstance(facts, dict) else {"last_error": _DAMAGED}
