"""The note in a segment's header: any bytes can be read, any facts fit."""

import loop

with loop.watched(__name__):
    from shmfeed.layout import NOTE_BYTES, WORD
    from shmfeed.memory.note import pack_note, unpack_note

SEEDS = [
    pack_note({"endpoint": "wss://venue/x", "protocol": "wealthai"}),
    pack_note({"last_error": "\u20ac" * 2000}),
    bytes(16),
    b"\xff" * 8 + b"[1]",
]


def one(data: bytes) -> None:
    cell = data[: WORD + NOTE_BYTES].ljust(WORD + NOTE_BYTES, b"\0")
    assert isinstance(unpack_note(cell), dict)
    text = data.decode("latin-1")
    packed = pack_note({"last_error": text, text[:9]: len(text), "endpoint": text[9:]})
    assert len(packed) == WORD + NOTE_BYTES
    assert isinstance(unpack_note(packed), dict)


if __name__ == "__main__":
    loop.fuzz(one, SEEDS)
