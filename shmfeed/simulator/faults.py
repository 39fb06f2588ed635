"""What goes wrong on the way: frames lost, spoilt, doubled, late, connections cut.

A specification is `name:rate` pairs, comma-separated; a rate is the share of frames
that it happens to. Which frames depends on the seed alone.
"""

import random
from collections import deque
from collections.abc import Callable, Sequence

from shmfeed.errors import BadArgumentError
from shmfeed.simulator.frames import Row, payload_of, text_frame
from shmfeed.simulator.market import STEPS

KINDS = {
    "lost": "the frame is not sent",
    "malformed": "a spoilt copy of the frame is sent before it",
    "duplicate": "the frame is sent twice",
    "late": "an older closed bar is sent again after the frame",
    "cut": "the connection is cut after the frame, without a word",
}
_REMEMBERED = 8  # closed bars
_STEP = 8  # a row's step


def parse_faults(text: str) -> dict[str, float]:
    """The rates by name; BadArgumentError lists the names that there are."""
    rates: dict[str, float] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, _, number = part.partition(":")
        try:
            rates[name] = float(number)
        except ValueError:
            rates[name] = -1.0
        if name not in KINDS or not 0.0 <= rates[name] <= 1.0:
            raise BadArgumentError(
                f"fault {part!r} is not accepted; name:rate with a rate from 0 to 1 "
                f"and a name of: {' '.join(KINDS)}"
            )
    return rates


class Faults:
    """What goes wrong on one connection."""

    def __init__(self, rates: dict[str, float], seed: int) -> None:
        self._rates = rates
        self._random = random.Random(seed)  # noqa: S311  # repeatable, not secret
        self._old: deque[bytes] = deque(maxlen=_REMEMBERED)

    def spoil(self, frames: Sequence[bytes], rows: Sequence[Row]) -> list[bytes]:
        """What is sent in place of these frames of these rows."""
        sent: list[bytes] = []
        for frame, row in zip(frames, rows, strict=True):
            if self._happens("malformed"):
                sent.append(text_frame(self._broken(payload_of(frame))))
            if not self._happens("lost"):
                sent.append(frame)
            if self._happens("duplicate"):
                sent.append(frame)
            if self._happens("late") and self._old:
                sent.append(self._old[0])
            if row[_STEP] == STEPS:
                self._old.append(frame)
        return sent

    def cuts(self, count: int) -> bool:
        """Whether the connection is cut after `count` more frames."""
        rate = self._rates.get("cut", 0.0)
        return rate > 0.0 and self._random.random() < 1.0 - (1.0 - rate) ** count

    def _happens(self, name: str) -> bool:
        rate = self._rates.get(name, 0.0)
        return rate > 0.0 and self._random.random() < rate

    def _broken(self, payload: bytes) -> bytes:
        return self._random.choice(_BREAKS)(payload)


# Half a message, no UTF-8, no number, an impossible volume.
_BREAKS: tuple[Callable[[bytes], bytes], ...] = (
    lambda payload: payload[: len(payload) // 2],
    lambda payload: b"\xff" + payload,
    lambda payload: payload.replace(b'"high":"', b'"high":"x').replace(
        b'"h":"', b'"h":"x'
    ),
    lambda payload: payload.replace(b'"volume":"', b'"volume":"-').replace(
        b'"v":"', b'"v":"-'
    ),
)
