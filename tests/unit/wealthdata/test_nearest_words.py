"""An error about an argument names the nearest word that is accepted."""

from typing import Any

import pytest
from support.numbered_bars import SYMBOL, append

from shmfeed.errors import BadArgumentError, NoDataError, StreamNotFoundError
from shmfeed.ringbuf import RingWriter
from wealthdata import attribute_history, get_bars, get_price, history, use, wait_bar

pytest_plugins = ["support.strategy_process"]

A = (SYMBOL,)
CASES: list[tuple[Any, tuple[Any, ...], dict[str, Any], str]] = [
    (get_price, A, {"frequency": "1min"}, "1m"),
    (get_price, A, {"frequency": "1D"}, "1d"),
    (get_price, A, {"frequency": "1mo"}, "1M"),
    (get_bars, (SYMBOL, 1, "60min"), {}, "60m"),
    (wait_bar, (SYMBOL, "hourly"), {}, "1h"),
    (get_price, A, {"fields": "Close"}, "close"),
    (get_price, A, {"fields": ["close", "vol"]}, "volume"),
    (get_bars, (SYMBOL, 1), {"fields": ["Date", "close"]}, "date"),
    (history, (1, "1h", "closes"), {}, "close"),
    (attribute_history, (SYMBOL, 1, "1h", ("opne",)), {}, "open"),
    (get_price, A, {"label": "Open"}, "open"),
    (use, (), {"label": "dates"}, "date"),
    (get_price, A, {"on_stale": "rasie"}, "raise"),
    (get_bars, A, {"on_gap": "warning"}, "warn"),
    (use, (), {"on_short": "Ignore"}, "ignore"),
]


@pytest.mark.parametrize(("call", "given", "named", "meant"), CASES)
def test_of_a_word_that_is_nearly_right(
    ring: RingWriter, call: Any, given: Any, named: dict[str, Any], meant: str
) -> None:
    append(ring, 0, 1)
    for _ in range(2):
        with pytest.raises(BadArgumentError, match=rf"; did you mean {meant}\?$"):
            call(*given, **named)
        get_price(SYMBOL, count=1)


@pytest.mark.parametrize("word", ["", "xyz", "q" * 10_000, "\ud800", None, 5, ["open"]])
def test_of_no_word_like_it(ring: RingWriter, word: Any) -> None:
    append(ring, 0)
    for named in ({"fields": [word]}, {"label": word or 0}, {"on_gap": word or 0}):
        with pytest.raises(BadArgumentError) as caught:
            get_price(SYMBOL, **named)
        assert "did you mean" not in str(caught.value)


def test_of_symbols_and_feeds(ring: RingWriter, feed_name: str) -> None:
    append(ring, 0)
    with pytest.raises(StreamNotFoundError, match="did you mean BTCUSDT"):
        get_price("btcusdt")
    with pytest.raises(NoDataError, match=f"did you mean '{feed_name}'"):
        get_price(f"{SYMBOL}@{feed_name}x")
