"""The feed that a read is of: the call's, else the chosen one; and `use`."""

import os
import pwd
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import pytest
from support.forks import Fork
from support.numbered_bars import SYMBOL, opens

import wealthdata
from shmfeed.errors import BadArgumentError, NoDataError
from shmfeed.writer import create
from wealthdata import Context, choices, get_price, query

pytest_plugins = ["support.strategy_process"]
pytestmark = pytest.mark.filterwarnings("ignore::wealthdata.StaleFeedWarning")

ONE, TWO = 100.0, 48_000.0


@contextmanager
def feeding(name: str, price: float) -> Iterator[None]:
    with create(name, 100, 16, 4) as writer:
        for symbol in (SYMBOL, "ETHUSDT"):
            ring = writer.add_stream(symbol, "1h")
            for number in range(20):
                ring.append(opens(number), price, price, price, price, 1)
        yield
        writer.close(unlink=True)


@pytest.fixture
def two(strategy: str) -> Iterator[tuple[str, str]]:
    """Give the names of two feeds, of which the process has chosen the first."""
    names = strategy, f"{strategy}2"
    with ExitStack() as stack:
        for name, price in zip(names, (ONE, TWO), strict=True):
            stack.enter_context(feeding(name, price))
        yield names


def prices(security: Any = SYMBOL, **given: Any) -> set[float]:
    return set(get_price(security, **given)["close"].tolist())


def test_a_call_names_its_feed_and_a_security_names_its_own(
    two: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two
    for _ in range(3):
        assert prices() == {ONE}
        assert prices(feed=other) == {TWO}
        assert prices(f"{SYMBOL}@{other}") == {TWO}
        assert prices(f"{SYMBOL}@{other}", feed=one) == {TWO}
        assert prices([f"{SYMBOL}@{one}"], feed=other) == {ONE}
        assert prices([SYMBOL], feed=other) == {TWO}
    wealthdata.use(feed=other)
    for _ in range(3):
        assert prices() == {TWO}
        assert prices(feed=one) == {ONE}
    choices.forget_choices()
    monkeypatch.setenv("SHMFEED_FEED", one)
    for _ in range(3):
        assert prices() == {ONE}
        assert prices(feed=other) == {TWO}


def test_a_list_may_mix_feeds_and_has_the_codes_as_written(
    two: tuple[str, str],
) -> None:
    one, other = two
    written = [f"{SYMBOL}@{other}", SYMBOL, f"{SYMBOL}@{one}", f"{SYMBOL}@{other}"]
    for _ in range(3):
        frame = get_price(written, count=2)
        assert frame["code"].tolist() == [w for w in written[:3] for _ in range(2)]
        assert frame["close"].tolist() == [TWO, TWO, ONE, ONE, ONE, ONE]
        assert frame.attrs["shmfeed"].feed == f"{other},{one}"
        wide = get_price(written, count=2, fields="close", wide=True)
        assert wide.to_numpy().tolist() == [[TWO, ONE, ONE]] * 2
        assert list(wide.columns) == written[:3]


WHOLE = {
    "off by the environment": lambda patch: patch.setenv("SHMFEED_FEED", "off"),
    "off with spaces": lambda patch: patch.setenv("SHMFEED_FEED", " Off "),
    "off by use": lambda _: wealthdata.use(feed="off"),
    "context only": lambda _: wealthdata.use(context_only=True),
}


@pytest.mark.parametrize("choose", WHOLE.values(), ids=WHOLE)
def test_off_wins_over_all(
    two: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
    choose: Callable[[pytest.MonkeyPatch], None],
) -> None:
    other = two[1]
    reads: tuple[Callable[[], object], ...] = (
        lambda: get_price(SYMBOL),
        lambda: get_price(SYMBOL, feed=other),
        lambda: get_price(f"{SYMBOL}@{other}"),
        lambda: get_price([SYMBOL, f"{SYMBOL}@{other}"]),
        lambda: get_price([f"{SYMBOL}@{other}"]),
    )
    for _ in range(3):
        for read in reads:
            read()
    choose(monkeypatch)
    for read in reads:
        with pytest.raises(NoDataError, match="this process reads no feed"):
            read()


def test_a_feed_that_appears_is_seen_by_the_next_call(two: tuple[str, str]) -> None:
    third = f"{two[0]}3"
    reads: tuple[Callable[[], set[float]], ...] = (
        lambda: prices(feed=third),
        lambda: prices(f"{SYMBOL}@{third}"),
        lambda: prices([f"{SYMBOL}@{third}"]),
    )
    for read in reads:
        with pytest.raises(NoDataError, match=f"no feed {third!r} on this host"):
            read()
    with feeding(third, 7.0):
        for read in reads:
            assert read() == {7.0}
        assert prices([SYMBOL, f"{SYMBOL}@{third}"]) == {ONE, 7.0}


def test_a_misspelt_feed_is_named_with_the_nearest_one(two: tuple[str, str]) -> None:
    wrong = two[0].upper()[:-1]
    reads: tuple[Callable[[], object], ...] = (
        lambda: get_price(SYMBOL, feed=wrong),
        lambda: get_price(f"{SYMBOL}@{wrong}"),
        lambda: get_price([SYMBOL, f"{SYMBOL}@{wrong}"]),
        lambda: get_price([f"{SYMBOL}@{wrong}", SYMBOL], align=True),
    )
    for read in reads:
        with pytest.raises(NoDataError) as caught:
            read()
        said = str(caught.value)
        assert f"no feed {wrong!r} on this host (did you mean {two[0]!r}?" in said
        assert two[1] in said
        assert f"shmfeed run --feed {wrong} " in said


def test_a_bad_feed_after_at_names_the_security(two: tuple[str, str]) -> None:
    for written in (
        f"{SYMBOL}@",
        f"@{two[0]}",
        f"{SYMBOL}@a b",
        f"{SYMBOL}@{two[0]}@x",
    ):
        for security in (written, [written], [SYMBOL, written]):
            with pytest.raises(BadArgumentError) as caught:
                get_price(security)
            assert repr(written) in str(caught.value)
            assert "SYMBOL@FEED" in str(caught.value)


def test_threads_that_name_their_feed_read_it_while_others_choose(
    two: tuple[str, str],
) -> None:
    """`use` chooses for all threads: a read after it may be of the feed of another.

    Each is of one feed, whole, and says which.
    """
    mixed: list[object] = []
    own = dict(zip(two, (ONE, TWO), strict=True))
    start = threading.Barrier(4)

    def choose(name: str) -> None:
        start.wait()
        for _ in range(150):
            wealthdata.use(feed=name)
            frame = get_price(SYMBOL)
            if set(frame["close"]) != {own[frame.attrs["shmfeed"].feed]}:
                mixed.append(frame)

    def name_it(name: str) -> None:
        start.wait()
        for _ in range(300):
            mixed.extend({own[name]} ^ prices(feed=name))
            mixed.extend({own[name]} ^ prices(f"{SYMBOL}@{name}"))

    threads = [
        threading.Thread(target=target, args=(name,))
        for target in (choose, name_it)
        for name in two
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not mixed


def test_a_read_that_was_prepared_for_another_choice_serves_no_call(
    two: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by another thread: it chooses a feed before a read of before is kept."""
    keep = query.keep_query

    def keep_late(*given: Any) -> None:
        wealthdata.use(feed=two[1])
        keep(*given)

    monkeypatch.setattr(query, "keep_query", keep_late)
    assert prices() == {ONE}
    monkeypatch.undo()
    for _ in range(3):
        assert prices() == {TWO}


def test_a_list_is_of_one_feed_though_another_is_chosen_meanwhile(
    two: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by another thread: it chooses between two securities of one read."""
    find = query.find_bars

    def find_late(*given: Any, **more: Any) -> Any:
        found = find(*given, **more)
        wealthdata.use(feed=two[1])
        return found

    monkeypatch.setattr(query, "find_bars", find_late)
    frame = get_price([SYMBOL, "ETHUSDT"], start_date=opens(0))
    assert set(frame["code"]) == {SYMBOL, "ETHUSDT"}
    assert set(frame["close"]) == {ONE}
    assert frame.attrs["shmfeed"].feed == two[0]


REFUSED: dict[str, Any] = {
    "feed": "a b",
    "context_only": "yes",
    "copy": 2,
    "label": "closes",
    "expect": "binance",
    "owner": "another-user",
    "max_age": -1,
    "on_stale": "rasie",
    "on_gap": True,
    "on_short": "",
    "on_unconfirmed": 5,
}
ACCEPTED: dict[str, Any] = {
    "feed": "another",
    "context_only": True,
    "copy": True,
    "label": "open",
    "expect": "binance/usdm",
    "max_age": 5,
    "on_stale": "raise",
    "on_gap": "raise",
    "on_short": "raise",
    "on_unconfirmed": "raise",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_argument_of_use_changes_no_choice(
    two: tuple[str, str], name: str
) -> None:
    wealthdata.use(feed=two[0], label="date", on_gap="warn", copy=True)
    before = choices.current_choices()
    others = {key: value for key, value in ACCEPTED.items() if key != name}
    with pytest.raises(BadArgumentError) as caught:
        wealthdata.use(**others, **{name: REFUSED[name]})
    assert name in str(caught.value) or "feed name" in str(caught.value)
    assert repr(REFUSED[name]) in str(caught.value)
    assert choices.current_choices() is before


def test_an_owner_is_a_user_of_this_host(
    two: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = os.geteuid()
    for owner in (own, str(own), pwd.getpwuid(own).pw_name):
        wealthdata.use(owner=owner)
        assert choices.current_choices().owner == own
        assert prices() == {ONE}
    for unknown in ("another-user", "", b"0", True, -1, 1 << 32, 1.0):
        with pytest.raises(BadArgumentError, match=r"owner is .*the number of a user"):
            wealthdata.use(owner=cast("str", unknown))
    wealthdata.use(owner=own + 1)  # who has no such feed
    with pytest.raises(NoDataError, match=f"user {own + 1} has no feed"):
        prices()
    choices.forget_choices()
    wealthdata.use(feed=two[0])
    monkeypatch.setenv("SHMFEED_OWNER", "another-user")
    with pytest.raises(BadArgumentError, match="SHMFEED_OWNER is 'another-user'"):
        prices()
    monkeypatch.setenv("SHMFEED_OWNER", str(own))
    assert prices() == {ONE}


def test_an_argument_left_out_leaves_its_choice(two: tuple[str, str]) -> None:
    wealthdata.use(**ACCEPTED)
    for name in ACCEPTED:
        before = choices.current_choices()
        wealthdata.use(**{name: None})
        assert choices.current_choices() == before
    wealthdata.use(context_only=False, feed=two[0])
    now = choices.current_choices()
    assert (now.feed, now.expect, now.label) == (two[0], None, "open")
    assert now.reactions.on_gap == "raise"


def test_of_two_threads_neither_loses_its_choice(strategy: str) -> None:
    def choose(argument: str, values: list[Any]) -> None:
        for _ in range(300):
            for value in values:
                wealthdata.use(**{argument: value})
                if getattr(choices.current_choices(), argument) != value:
                    lost.append(argument)

    lost: list[str] = []
    pairs = ("copy", [False, True]), ("label", ["open", "date"])
    threads = [threading.Thread(target=choose, args=pair) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lost == []


def test_a_child_chooses_though_a_thread_of_its_parent_does_so(strategy: str) -> None:
    """The lock that the parent's thread holds at the fork is not the child's."""
    taken, ends = threading.Event(), threading.Event()

    def hold() -> None:
        with choices._changing.lock:
            taken.set()
            ends.wait()

    def choose() -> None:
        wealthdata.use(feed="of-the-child")
        assert choices.current_choices().feed == "of-the-child"

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait()
    try:
        with Fork(choose) as child:
            assert child.result() is None
    finally:
        ends.set()
        thread.join()
    assert choices.current_choices().feed == strategy


def test_a_child_reads_the_feed_that_its_parent_reads(two: tuple[str, str]) -> None:
    def read() -> None:
        for _ in range(3):
            assert prices() == {ONE}
            assert prices(feed=two[1]) == {TWO}

    read()
    with Fork(read) as child:
        assert child.result() is None


def test_a_context_serves_a_security_that_names_a_feed_in_a_backtest(
    two: tuple[str, str],
) -> None:
    wealthdata.use(context_only=True)
    listed = {"symbol": SYMBOL, "timeframe": "1h", "bars": []}
    bar = {"open_time": opens(0), "close_time": opens(1), "volume": 1}
    listed["bars"] = [bar | dict.fromkeys(("open", "high", "low", "close"), 3.0)]
    wealthdata.set_context(Context(market_data_context=[listed]))
    assert prices(f"{SYMBOL}@{two[1]}") == {3.0}
    assert prices(SYMBOL, feed=two[1]) == {3.0}
    assert os.environ.get("SHMFEED_FEED") is None
