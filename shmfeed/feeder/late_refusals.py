"""Errors of a venue about symbols that it has acknowledged."""

from collections.abc import Iterable

from shmfeed.bar import StreamKey
from shmfeed.codecs.interface import Refused
from shmfeed.codecs.refusals import named_symbols
from shmfeed.feeder.throttled import SeenTexts


class LateRefusals:
    """Errors that name acknowledged symbols, which explain why streams are silent.

    A venue may repeat an error without end, and each search costs time by the number
    of streams, so an error that was searched already is not searched again.
    """

    def __init__(self) -> None:
        self._searched = SeenTexts()

    def streams_of(
        self, refused: Refused, silent: Iterable[StreamKey]
    ) -> list[StreamKey]:
        """Return which of the silent streams an error names; none at its repetition."""
        if not self._searched.is_new(f"{refused.symbol} {refused.message}"):
            return []
        keys = list(silent)
        symbols = [symbol for symbol, _ in keys]
        named = named_symbols(refused.message, symbols, refused.symbol)
        return [key for key in keys if key[0] in named]
