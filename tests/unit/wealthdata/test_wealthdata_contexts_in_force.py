"""The context that a read is for: whose it is, and when it ends."""

import asyncio
import contextvars
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import pytest
from support.backtest_children import Read, backtest, by_executor, by_fork
from support.numbered_bars import listed, numbers

import wealthdata
from shmfeed.errors import ContextError
from shmfeed.writer import FeedWriter
from wealthdata import (
    Context,
    ContextDataAdapter,
    clear_context,
    contexts_in_force,
    set_context,
)
from wealthdata.backtest_mark import VARIABLE, mark

pytest_plugins = ["support.backtests"]
pytestmark = [
    pytest.mark.filterwarnings("ignore::wealthdata.StaleFeedWarning"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning"),
]


def last_number() -> int:
    found = wealthdata.get_price("BTCUSDT", on_stale="ignore")
    assert found.attrs["shmfeed"].source == "context"
    return numbers(found)[-1]


def test_two_backtests_in_threads_see_their_own_bars(live_feed: str) -> None:
    turn = threading.Barrier(2, timeout=10)

    def run(last: int) -> list[int]:
        set_context(backtest(*range(last + 1)))
        found = []
        for _ in range(3):
            turn.wait()
            found.append(last_number())
        clear_context()
        return found

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(run, (4, 6))) == [[4] * 3, [6] * 3]


def test_two_backtests_in_tasks_see_their_own_bars(live_feed: str) -> None:
    async def run(last: int, turn: asyncio.Barrier) -> list[int]:
        set_context(backtest(*range(last + 1)))
        found = []
        for _ in range(3):
            await turn.wait()
            found.append(last_number())
            found.append(await asyncio.to_thread(last_number))
        return found

    async def main() -> list[list[int]]:
        turn = asyncio.Barrier(2)
        return await asyncio.gather(run(4, turn), run(6, turn))

    assert asyncio.run(main()) == [[4] * 6, [6] * 6]


def test_a_live_strategy_beside_a_backtest_sees_live_bars_alone(
    live_feed: str, writer: FeedWriter
) -> None:
    writer.set_state("connected")  # the C core serves the live reads
    turn = threading.Barrier(2, timeout=10)

    def run(context: Context) -> set[str]:
        found = set()
        for _ in range(5):
            set_context(context)
            turn.wait()
            for _ in range(100):
                frame = wealthdata.get_price("BTCUSDT", on_stale="ignore", count=3)
                found.add(frame.attrs["shmfeed"].source)
            clear_context()
        return found

    live = Context([listed(*range(8))], run_params={"type": "live"})
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(run, (live, backtest()))) == [{"live"}, {"context"}]


def test_a_thread_of_neither_of_two_backtests_is_refused(read: Read) -> None:
    set_context(backtest())
    with ThreadPoolExecutor(1) as other, ThreadPoolExecutor(1) as pool:
        other.submit(set_context, backtest()).result()
        assert pool.submit(read).result() == "ContextError"
        with pytest.raises(ContextError, match=r"2 contexts .*copy_context\(\)\.run"):
            pool.submit(wealthdata.get_price, "BTCUSDT").result()
        handed_over = contextvars.copy_context()
        assert pool.submit(handed_over.run, read).result() == "context"
        other.submit(clear_context).result()
        assert pool.submit(read).result() == "context"
    clear_context()


def test_one_context_in_two_threads_is_one(read: Read) -> None:
    made = backtest()
    set_context(made)
    with ThreadPoolExecutor(1) as other, ThreadPoolExecutor(1) as pool:
        other.submit(set_context, made).result()
        assert pool.submit(read).result() == "context"
        other.submit(clear_context).result()
    clear_context()


@pytest.mark.parametrize("reads", ["once", "twice", "a list"])
def test_a_live_thread_is_never_handed_a_backtests_context(
    reads: str, read: Read, live_feed: str
) -> None:
    with ThreadPoolExecutor(1) as live:
        assert live.submit(read).result() == "live"
        if reads == "twice":
            assert live.submit(read).result() == "live"  # by the C core
        if reads == "a list":
            live.submit(wealthdata.get_price, ["BTCUSDT"]).result()
        set_context(backtest())
        with pytest.raises(ContextError, match=r"has read live bars.*set_context"):
            live.submit(wealthdata.get_price, "BTCUSDT").result()
        assert live.submit(read).result() == "ContextError"
        live.submit(set_context, Context()).result()
        assert live.submit(read).result() == "live"
        live.submit(clear_context).result()
        assert live.submit(read).result() == "ContextError"  # as before
        clear_context()
        assert live.submit(read).result() == "live"


def test_a_live_task_is_never_handed_a_backtests_context(read: Read) -> None:
    async def main() -> str:
        async def live() -> str:
            return read()

        assert await asyncio.create_task(live()) == "live"
        assert read() == "live"
        with ThreadPoolExecutor(1) as other:
            other.submit(set_context, backtest()).result()
            found = await asyncio.create_task(live())
            other.submit(clear_context).result()
        return found

    assert asyncio.run(main()) == "ContextError"


def test_control_without_the_note_a_live_thread_is_handed_it(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wealthdata.query.note_live_read", lambda: None)
    with ThreadPoolExecutor(1) as live:
        assert live.submit(read).result() == "live"
        set_context(backtest())
        assert live.submit(read).result() == "context"
    clear_context()


def test_a_live_context_is_handed_to_a_thread_that_has_read_live(read: Read) -> None:
    with ThreadPoolExecutor(1) as live:
        assert live.submit(read).result() == "live"
        set_context(Context([listed(*range(8))], run_params={"type": "sim_trade"}))
        found = live.submit(wealthdata.get_price, "BTCUSDT", count=28).result()
        assert found.attrs["shmfeed"].source == "mixed"
        clear_context()


def test_get_context_gives_what_this_thread_has_set(live_feed: str) -> None:
    made = backtest()
    set_context(made)
    with ThreadPoolExecutor(1) as pool, pytest.raises(ContextError, match="set_cont"):
        pool.submit(wealthdata.get_context).result()
    assert wealthdata.get_context() is made
    clear_context()
    with pytest.raises(ContextError):
        wealthdata.get_context()


def test_a_backtests_thread_reads_no_live_bar_through_another_context(
    live_feed: str,
) -> None:
    other = Context([listed(4, 5)])
    set_context(backtest())
    with ThreadPoolExecutor(1) as pool:
        for bars in (
            other.history("BTCUSDT", 30),
            pool.submit(other.history, "BTCUSDT", 30).result(),
            ContextDataAdapter(other).get_history("BTCUSDT", 30),
        ):
            assert [bar.volume % 1 for bar in bars] == [0.5, 0.5]
    clear_context()
    assert len(other.history("BTCUSDT", 30)) > 2  # the control


def test_an_adapter_over_a_backtests_context_is_a_backtests(read: Read) -> None:
    class Own(ContextDataAdapter):
        pass

    for adapter in (ContextDataAdapter(backtest()), Own(backtest())):
        wealthdata.register_data_adapter(adapter)
        assert os.environ[VARIABLE] == "1"
        assert read() == by_executor(read) == "context"
    wealthdata.clear_data_adapter()
    assert read() == "live"


# The end of a context.


def test_a_context_ends_with_its_thread(read: Read) -> None:
    ready, done = threading.Event(), threading.Event()

    def run() -> None:
        set_context(backtest())
        ready.set()
        done.wait(10)

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait(10)
    assert read() == "context"
    assert os.environ[VARIABLE] == "1"
    done.set()
    thread.join()
    assert VARIABLE not in os.environ
    assert read() == "live"


def test_a_context_ends_with_its_task_though_the_task_is_kept(read: Read) -> None:
    async def run() -> str:
        set_context(backtest())
        return await asyncio.get_running_loop().run_in_executor(None, read)

    async def main() -> list[str]:
        task = asyncio.create_task(run())
        found = [await task]
        await asyncio.sleep(0)
        assert VARIABLE not in os.environ
        found.append(await asyncio.get_running_loop().run_in_executor(None, read))
        assert task.done()
        return found

    assert asyncio.run(main()) == ["context", "live"]


def test_a_context_ends_with_a_loop_that_stops_at_once(live_feed: str) -> None:
    loop = asyncio.new_event_loop()

    async def run() -> None:
        set_context(backtest())
        loop.stop()

    task = loop.create_task(run())
    loop.run_forever()
    assert task.done()
    loop.close()  # what the end of the task was to call has never run
    assert os.environ[VARIABLE] == "1"
    found = by_executor(partial(wealthdata.get_price, "BTCUSDT"))
    assert VARIABLE not in os.environ
    assert found.attrs["shmfeed"].source == "live"


@pytest.mark.parametrize("is_shared", [True, False], ids=["shared", "control"])
def test_variables_that_tasks_share_keep_the_context(
    is_shared: bool, read: Read
) -> None:
    """As by the kernel of a notebook, which runs each cell as a task."""
    variables = contextvars.copy_context() if is_shared else None

    async def run(cell: Callable[[], object]) -> object:
        async def main() -> object:
            return cell()

        return await asyncio.create_task(main(), context=variables)

    async def kernel() -> list[object]:
        await run(lambda: set_context(backtest()))
        between = by_executor(read)  # as by a timer, while no cell runs
        found = [between, await run(read), await run(partial(by_executor, read))]
        await run(clear_context)
        return [*found, by_executor(read), os.environ.get(VARIABLE)]

    source = "context" if is_shared else "live"
    assert asyncio.run(kernel()) == [source, source, source, "live", None]


@pytest.mark.parametrize("sets", [True, False], ids=["in the task", "before it"])
def test_a_closed_loop_keeps_no_context_though_its_runner_is_kept(
    sets: bool, read: Read
) -> None:
    """A runner keeps the variables that its tasks have shared."""

    async def main() -> str:
        if sets:
            set_context(backtest())
        return read()

    if not sets:
        set_context(backtest())
    with asyncio.Runner() as runner:
        assert runner.run(main()) == "context"
    clear_context()
    assert by_executor(read) == read() == "live"
    assert runner is not None
    assert VARIABLE not in os.environ


def test_a_task_that_outlives_its_creator_keeps_the_context(read: Read) -> None:
    async def child() -> list[str]:
        await asyncio.sleep(0.01)
        loop = asyncio.get_running_loop()
        first = await loop.run_in_executor(None, read)  # before the task itself reads
        return [first, read(), await loop.run_in_executor(None, read)]

    async def creator() -> asyncio.Task[list[str]]:
        set_context(backtest())
        return asyncio.create_task(child())

    async def main() -> list[str]:
        return await (await asyncio.create_task(creator()))

    assert asyncio.run(main()) == ["context"] * 3


@pytest.mark.parametrize("number", [1, 2])
def test_tasks_keep_the_contexts_that_their_creator_has_dropped(
    number: int, read: Read
) -> None:
    """As one that sets a context for each of its tasks, and then another."""

    async def child(last: int, turn: asyncio.Barrier) -> list[object]:
        await asyncio.sleep(0)  # the creator goes on
        loop = asyncio.get_running_loop()
        first = await loop.run_in_executor(None, read)  # before the task itself reads
        await turn.wait()
        return [first, last_number()]

    async def main() -> list[object]:
        turn, tasks = asyncio.Barrier(number), []
        for last in range(4, 4 + number):
            set_context(backtest(*range(last + 1)))
            tasks.append(asyncio.create_task(child(last, turn)))
        clear_context()
        return [await asyncio.gather(*tasks), by_executor(read), read()]

    source = "context" if number == 1 else "ContextError"
    found = [[source, last] for last in range(4, 4 + number)]
    assert asyncio.run(main()) == [found, "live", "live"]


def test_a_copy_that_is_kept_does_not_keep_the_context_in_force(read: Read) -> None:
    set_context(backtest())
    kept = contextvars.copy_context()
    with ThreadPoolExecutor(1) as pool, ThreadPoolExecutor(1) as other:
        assert pool.submit(kept.run, read).result() == "context"
        clear_context()
        assert VARIABLE not in os.environ
        assert other.submit(read).result() == "live"
        assert pool.submit(kept.run, read).result() == "context"  # as it was


def test_another_context_replaces_the_first(read: Read) -> None:
    set_context(backtest())
    set_context(Context())
    assert VARIABLE not in os.environ
    assert read() == by_executor(read) == "live"
    clear_context()


def test_many_contexts_leave_nothing_behind(live_feed: str) -> None:
    async def main() -> None:
        task = asyncio.current_task()
        for _ in range(20):
            set_context(backtest())
        assert len(contexts_in_force.settings) == 1
        assert len(task._callbacks or ()) <= 2  # type: ignore[union-attr]

    asyncio.run(main())


# The mark for processes.


@pytest.mark.parametrize("earlier", [None, "0", ""])
def test_the_variable_is_restored(
    earlier: str | None, live_feed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if earlier is None:
        monkeypatch.delenv(VARIABLE, raising=False)
    else:
        monkeypatch.setenv(VARIABLE, earlier)
    monkeypatch.setattr(mark, "_earlier", earlier)
    set_context(backtest())
    with ThreadPoolExecutor(1) as other:
        other.submit(set_context, backtest()).result()
        clear_context()
        assert os.environ[VARIABLE] == "1"  # of the other thread
        other.submit(clear_context).result()
        assert os.environ.get(VARIABLE) == earlier
    monkeypatch.undo()


def test_a_process_by_use_marks_those_that_it_starts(live_feed: str) -> None:
    for choice in ({"context_only": True}, {"feed": "off"}):
        wealthdata.use(**choice)
        assert os.environ[VARIABLE] == "1"
        wealthdata.use(feed=live_feed, context_only=False)
        assert VARIABLE not in os.environ


def test_a_kind_that_changes_later_is_seen_at_the_next_read(
    read: Read, live_feed: str
) -> None:
    made = Context([listed(*range(8))])
    set_context(made)
    assert read() == "live"
    assert VARIABLE not in os.environ
    made.run_params = {"type": "BACKTEST"}
    assert by_executor(partial(by_fork, live_feed)) == "NoDataError"
    assert by_executor(read) == "context"
    assert os.environ[VARIABLE] == "1"
    made.run_params = {"type": "live"}
    assert read() == "live"
    assert VARIABLE not in os.environ
    clear_context()


def test_many_threads_leave_the_variable_right(live_feed: str) -> None:
    def run(_: int) -> bool:
        set_context(backtest())
        marked = os.environ.get(VARIABLE) == "1"
        clear_context()
        return marked

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(run, range(400)))


class NoLock:
    def acquire(self, blocking: bool) -> bool:
        return True

    def release(self) -> None:
        pass


@pytest.mark.parametrize("lock", [None, NoLock()], ids=["lock", "control"])
def test_a_backtest_does_not_begin_while_the_end_of_another_is_applied(
    lock: NoLock | None, live_feed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_context(backtest())
    if lock is not None:
        monkeypatch.setattr(mark, "_lock", lock)
    show, lost = mark._show, []

    def interrupted(wanted: bool) -> None:
        began = False
        if not wanted and not lost:
            with suppress(TimeoutError):
                other.submit(set_context, backtest()).result(0.1)
                began = True
            show(wanted)
            lost.append(began and VARIABLE not in os.environ)
        show(wanted)

    monkeypatch.setattr(mark, "_show", interrupted)
    with ThreadPoolExecutor(1) as other:
        clear_context()
        other.submit(clear_context).result()
    assert lost == [lock is not None]
