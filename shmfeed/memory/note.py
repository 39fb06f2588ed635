"""Text in a latch: a reason in words, the note, and facts of varying length."""

import json
from collections.abc import Mapping
from typing import Any

from shmfeed.layout import (
    H_TEXT,
    H_WRITER_EPOCH,
    NOTE_BYTES,
    TEXT_WORDS,
    WORD,
    Geometry,
)
from shmfeed.memory.words import Latch, Words

WRITER = "writer"  # the key of the epoch of the writer that published the facts
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


def pack_facts(facts: Mapping[str, object], cell_words: int) -> bytes:
    """Return a latch's cell that holds facts of varying length as JSON.

    If they do not fit, lists are left out of the dicts that a value lists, the last
    dicts first, and then the values that lists are.
    """
    size = (cell_words - 1) * WORD
    text = json.dumps(facts).encode()
    if len(text) > size:
        text = _without_lists(facts, size)
    return len(text).to_bytes(WORD, "little") + text.ljust(size, b" ")


def _without_lists(facts: Mapping[str, object], size: int) -> bytes:
    room = size - len(json.dumps(dict.fromkeys(facts)))
    left: dict[str, object] = {}
    for key, value in facts.items():
        if isinstance(value, list):
            value = _fitting(value, room)  # noqa: PLW2901 # what there is room for
        room -= len(json.dumps(value))
        left[key] = value
    text = json.dumps(left).encode()
    return text if len(text) <= size else b"{}"


def _fitting(dicts: list[Any], room: int) -> list[Any]:
    """Return dicts, the last ones without their lists if there is no room for all."""
    bare = [{k: v for k, v in one.items() if not isinstance(v, list)} for one in dicts]
    sizes = [len(json.dumps(one)) + 2 for one in bare]
    room -= sum(sizes) + 2
    while bare and room < 0:
        bare.pop()
        room += sizes.pop()
    for number, whole in enumerate(dicts[: len(bare)]):
        more = len(json.dumps(whole)) + 2 - sizes[number]
        if more > room:
            break
        room -= more
        bare[number] = whole
    return bare


def read_facts(words: Words, geometry: Geometry) -> dict[str, Any]:
    """Return the facts of varying length that the segment's last writer published.

    Return {} if it published none, or if they are damaged.
    """
    if geometry.version == 1:  # it has other words there
        return {}
    cell = Latch(words, H_TEXT, TEXT_WORDS).read()
    facts = None if cell is None else _unpack_json(cell)
    if facts is None or facts.get(WRITER) != words.ints[H_WRITER_EPOCH]:
        return {}
    return facts


def unpack_note(cell: bytes | None) -> dict[str, Any]:
    """Return the facts of a cell, {} if it was never written.

    A damaged note costs no bars: its only fact is then a `last_error` that says so.
    """
    if cell is None:
        return {}
    facts = _unpack_json(cell)
    return {"last_error": _DAMAGED} if facts is None else facts


def _unpack_json(cell: bytes) -> dict[str, Any] | None:
    """Return the object in a cell, None if the cell is damaged."""
    size = int.from_bytes(cell[:WORD], "little")
    try:
        facts = json.loads(cell[WORD : WORD + size])
    except (ValueError, RecursionError):
        return None
    return facts if isinstance(facts, dict) else None
