"""The kind of a run: a backtest or live, and the warning of one that is not marked."""

import warnings
from enum import Enum
from types import SimpleNamespace
from typing import Literal

import pytest
from support.backtest_children import Read
from support.numbered_bars import listed, when

import wealthdata
from shmfeed.errors import BadArgumentError, ContextError
from wealthdata import (
    Context,
    ContextDataAdapter,
    clear_context,
    set_context,
)

pytest_plugins = ["support.backtests"]
pytestmark = [
    pytest.mark.filterwarnings("ignore::wealthdata.StaleFeedWarning"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning"),
]


class Kind(Enum):
    OLD = "Backtest"


BACKTESTS = ["backtest", "simple_backtest", "full_backtest", "BACKTEST", Kind.OLD]
LIVE = [None, "sim_trade", "live", "paper", "Sim_Trade", "LIVE"]


@pytest.mark.parametrize("kind", [*BACKTESTS, *LIVE])
@pytest.mark.parametrize("form", [dict, SimpleNamespace])
def test_a_kind_is_a_backtest_or_live(kind: object, form, read: Read) -> None:
    set_context(Context([listed(0)], run_params=form(type=kind)))
    assert read() == ("context" if kind in BACKTESTS else "live")
    clear_context()


@pytest.mark.parametrize("params", [None, {}, SimpleNamespace(), object()])
def test_a_context_without_a_kind_is_live(params: object, read: Read) -> None:
    set_context(Context([listed(0)], run_params=params))
    assert read() == "live"
    clear_context()


@pytest.mark.parametrize("kind", ["backtst", "", "real", 1, True, b"backtest", [], " "])
def test_another_kind_is_an_error_that_lists_the_kinds(
    kind: object, live_feed: str
) -> None:
    listing = "backtest simple_backtest full_backtest .* sim_trade live paper"
    made = Context([listed(0)], run_params={"type": "live"})
    set_context(made)
    with pytest.raises(BadArgumentError, match=listing):
        set_context(Context(run_params={"type": kind}))
    assert wealthdata.get_context() is made  # the state is untouched
    with pytest.raises(BadArgumentError, match=listing):
        wealthdata.register_data_adapter(
            ContextDataAdapter(Context(run_params={"type": kind}))
        )
    assert wealthdata.get_data_adapter() is None
    made.run_params = {"type": kind}
    for call in (
        lambda: wealthdata.get_price("BTCUSDT"),
        lambda: wealthdata.get_price(["BTCUSDT"]),
        lambda: made.history("BTCUSDT", 1),
    ):
        with pytest.raises(BadArgumentError, match=rf"type is .*{listing}"):
            call()
    clear_context()


def test_run_params_that_are_a_text_are_an_error(live_feed: str) -> None:
    with pytest.raises(BadArgumentError, match="run_params is 'backtest'"):
        set_context(Context(run_params="backtest"))
    with pytest.raises(ContextError):
        wealthdata.get_context()


# A second backtest in the same kernel.


@pytest.mark.parametrize(
    ("feed", "on_stale", "words"),
    [
        (None, "ignore", "If this is a backtest"),
        ("misspelt", "warn", "mark a backtest as one"),
    ],
)
def test_each_unmarked_backtest_is_warned(
    live_feed: str, feed: str | None, on_stale: Literal["ignore", "warn"], words: str
) -> None:
    told = []
    for _ in range(2):  # the same line again, as in a notebook
        made = Context([listed(0, 1)], current_dt=when(12))
        set_context(made)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            for _ in range(2):
                wealthdata.get_price("BTCUSDT", count=20, feed=feed, on_stale=on_stale)
        told.append([str(w.message) for w in caught])
        clear_context()
    assert [len(lines) for lines in told] == [1, 1]
    assert all(words in lines[0] for lines in told)
