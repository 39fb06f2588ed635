"""The streams of a feeder by the symbols that the venue writes.

A venue may write a symbol in another case than the subscription did.
"""

from collections.abc import Mapping

from shmfeed.bar import StreamKey
from shmfeed.codecs.interface import BarEvent
from shmfeed.feeder.stream import StreamState

_MOST = 4  # spellings of a symbol that are remembered


def fold(symbol: str, timeframe: str) -> tuple[str, str]:
    """Return a key that is the same for all spellings of a symbol by case."""
    return symbol.casefold(), timeframe


class SpelledStreams:
    """The streams by their symbols, as subscribed and as the venue writes them.

    Attributes:
        known: The streams by the spellings that were seen.
    """

    def __init__(self) -> None:
        self.known: dict[StreamKey, StreamState] = {}
        self._folded: dict[tuple[str, str], StreamState] = {}

    def replace(self, streams: Mapping[StreamKey, StreamState]) -> None:
        """Hold exactly these streams."""
        self.known = dict(streams)
        self._folded = {fold(*key): stream for key, stream in streams.items()}

    def stream_of(self, event: BarEvent) -> StreamState | None:
        """Return the stream of an event, None if it is not carried."""
        return self.known.get((event.symbol, event.timeframe)) or self.find(event)

    def find(self, event: BarEvent) -> StreamState | None:
        """Return the stream whose symbol differs from the event's in case alone."""
        stream = self._folded.get(fold(event.symbol, event.timeframe))
        if stream is not None and len(self.known) < _MOST * len(self._folded):
            self.known[event.symbol, event.timeframe] = stream
        return stream
