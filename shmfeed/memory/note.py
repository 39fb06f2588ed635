"""The note: text facts of the feeder (endpoint, last error), as a latch's cell."""

import json
from collections.abc import Mapping
from typing import Any

from shmfeed.layout import NOTE_BYTES, WORD

_DAMAGED = "the feeder's note in the segment is damaged; restart the feeder"


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
