"""Bars of a context as columns: nothing is parsed, and a read copies no row."""

from collections.abc import Mapping

from shmfeed.bar import StreamKey
from wealthdata.bar_history import BarHistory
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


class FeedHistories(ColumnHistory):
    """The same for several feeds: a security that names one has its bars alone.

    Args:
        feeds: The bars of each feed.
        chosen: The feed of a security that names none.
    """

    def __init__(self, feeds: Mapping[str, ColumnHistory], chosen: str) -> None:
        listed = {
            (f"{symbol}@{name}", timeframe): history.rows((symbol, timeframe), 1)
            for name, history in feeds.items()
            for symbol, timeframe in history.streams()
        }
        self._feeds = dict(feeds)
        self._unknown = ColumnHistory(listed)
        own = self.of_feed(chosen)
        super().__init__(own._streams)

    def of_feed(self, name: str) -> ColumnHistory:
        """Return the bars of a feed; of an unknown one, streams of all, by feed."""
        return self._feeds.get(name, self._unknown)


def of_feed(history: BarHistory | None, name: str | None) -> BarHistory | None:
    """Return the bars that a history has for a feed; most have the same for each."""
    if name is None or not isinstance(history, FeedHistories):
        return history
    return history.of_feed(name)
