"""The note: what a feeder says in words, as the bytes of its cell."""

import json
from collections.abc import Mapping
from typing import Any

from shmfeed.layout import NOTE_BYTES, WORD

_DAMAGED = "the feeder's note in the segment is damaged; restart the feeder"


def pack_note(facts: Mapping[str, object]) -> bytes:
    """One cell: the text's length and the text, JSON.

    What is too long for it is cut: the longest value to its half, until all fits.
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
    """The facts of a cell; none of a cell that was never written.

    Words, not data: of a damaged one nothing is lost but what `last_error` then says.
    """
    if cell is None:
        return {}
    size = int.from_bytes(cell[:WORD], "little")
    try:
        facts = json.loads(cell[WORD : WORD + size])
    except (ValueError, RecursionError):
        facts = None
    return facts if isinstance(facts, dict) else {"last_error": _DAMAGED}
