"""Bars of a context as columns: nothing is parsed, and a read copies no row."""

from collections.abc import Mapping

from shmfeed.bar import StreamKey
from wealthdata.columns import PrivateColumns, from_bars

_NO_BARS = from_bars(())


class ColumnHistory:
    """Streams whose bars are known from the start, as a backtest has them.

    Thread safety: any thread may call any method.
    """

    def __init__(self, streams: Mapping[StreamKey, PrivateColumns]) -> None:
        """Take the rows of each stream, oldest first, one for each open time."""
        self._streams = dict(streams)

    def streams(self) -> list[StreamKey]:
        return list(self._streams)

    def rows(self, key: StreamKey, count: int) -> PrivateColumns:  # noqa: ARG002 # all
        return self._streams.get(key, _NO_BARS)
