"""The backtest of the runner: the bars of a file, and no other bar."""

from collections.abc import Iterator, Sequence
from typing import Self

import numpy as np

from shmfeed.bar import Bar, StreamKey, Timeframe
from shmfeed.validation import DEFAULT_FEED
from wealthdata.attachment import selected_feed
from wealthdata.bar_history import BarHistory
from wealthdata.column_history import ColumnHistory, FeedHistories
from wealthdata.columns import Ints, PrivateColumns, to_bars
from wealthdata.events import Closed
from wealthdata.rolled_history import roll_history
from wealthdata.runner.bar_file import check_streams, read_bar_file
from wealthdata.runner.feed_files import files_by_feed
from wealthdata.runner.report import tell
from wealthdata.runner.steps import Event, RunRequest, Step
from wealthdata.securities import check_securities, check_security

_BLOCK = 4096  # rows that become bars at once


class BacktestMode:
    """A run on the bars of a file, a close time after the other.

    Args:
        request: The streams of the run.
        files: The file; or several as FEED=FILE, one for each feed of the symbols.

    Raises:
        BadArgumentError: A feed of the symbols has no file.
    """

    run_type = "backtest"
    feed: str | None = None

    def __init__(self, request: RunRequest, files: str | Sequence[str]) -> None:
        self._request = request
        self._chosen = selected_feed() or DEFAULT_FEED
        self._securities = check_securities(request.symbols)
        feeds = dict.fromkeys(each.feed or self._chosen for each in self._securities)
        listed = [files] if isinstance(files, str) else files
        self._paths = files_by_feed("--backtest", listed, list(feeds))
        self._streams: list[tuple[str, Timeframe, PrivateColumns]] = []
        self.history: BarHistory | None = None
        self.start = 0

    def __enter__(self) -> Self:
        """Read and check the files.

        Raise BadArgumentError if one is wrong, or lacks the bars of a symbol.
        """
        files = {feed: read_bar_file(path) for feed, path in self._paths.items()}
        for feed, file in files.items():
            of_feed = [s for s in self._securities if (s.feed or self._chosen) == feed]
            symbols = [security.symbol for security in of_feed]
            check_streams(file, symbols, self._request.timeframes)
            for hole in file.holes():
                tell(hole)
        feeds = {feed: ColumnHistory(file.streams) for feed, file in files.items()}
        self.history = FeedHistories(feeds, self._chosen)
        self._streams = [
            (one.written, timeframe, _rows_of(feeds[feed], (one.symbol, timeframe)))
            for timeframe in self._request.timeframes
            for one in self._securities
            for feed in [one.feed or self._chosen]
        ]
        for symbol, timeframe, rows in self._streams:
            if not len(rows):
                path = self._paths[check_security(symbol).feed or self._chosen]
                tell(f"{path} has no whole {timeframe} bar of {symbol}")
        streams = (rows for file in files.values() for rows in file.streams.values())
        self.start = min(int(rows.open_time[0]) for rows in streams)
        return self

    def __exit__(self, *exc: object) -> None:
        self._streams = []

    def steps(self) -> Iterator[Step | Event]:
        """Yield each close time of the streams with its bars."""
        closed: list[Closed] = []
        for one in self._bars():
            if closed and one.bar.close_time != closed[0].bar.close_time:
                yield Step(closed[0].bar.close_time, tuple(closed))
                closed = []
            closed.append(one)
        if closed:
            yield Step(closed[0].bar.close_time, tuple(closed))

    def _bars(self) -> Iterator[Closed]:
        """Yield the bars by close time, and within one in the order of the streams."""
        if not self._streams:
            return
        sizes = [len(rows) for *_, rows in self._streams]
        stream = np.repeat(np.arange(len(sizes)), sizes)
        closes = np.concatenate([rows.close_time for *_, rows in self._streams])
        order = np.lexsort((stream, closes))
        first = np.cumsum([0, *sizes])[:-1]
        for begin in range(0, len(order), _BLOCK):
            yield from self._block(order[begin : begin + _BLOCK], stream, first)

    def _block(self, order: Ints, stream: Ints, first: Ints) -> Iterator[Closed]:
        """Yield the bars of some rows, in their order; of one stream they adjoin."""
        places = stream[order]
        bars: dict[int, Iterator[Bar]] = {}
        for place in np.unique(places).tolist():
            rows = order[places == place] - first[place]
            columns = self._streams[place][2]
            bars[place] = iter(to_bars(columns, int(rows[0]), int(rows[-1]) + 1))
        for place in places.tolist():
            symbol, timeframe, _ = self._streams[place]
            yield Closed(symbol, timeframe, next(bars[place]))


def _rows_of(history: ColumnHistory, key: StreamKey) -> PrivateColumns:
    """Return the bars of a stream, rolled up if the file does not have it."""
    rolled = roll_history(history, key, None)
    return history.rows(key, 1) if rolled is None else rolled.bars
