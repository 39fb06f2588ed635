"""A backtest never sees a live bar: its threads, tasks and processes."""

import asyncio
import json
import multiprocessing
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.util import find_spec
from multiprocessing.pool import ThreadPool
from pathlib import Path

import pytest
from support.backtest_children import (
    Read,
    backtest,
    by_executor,
    by_fork,
    read_into,
    source_read,
)

import wealthdata
from wealthdata import (
    Context,
    clear_context,
    contexts_in_force,
    set_context,
)
from wealthdata.backtest_mark import mark

pytest_plugins = ["support.backtests"]
pytestmark = [
    pytest.mark.filterwarnings("ignore::wealthdata.StaleFeedWarning"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning"),
]
TESTS = Path(__file__).parents[2]


# Threads.


def by_thread(read: Read) -> str:
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(read()))
    thread.start()
    thread.join()
    return found[0]


def by_timer(read: Read) -> str:
    found: list[str] = []
    timer = threading.Timer(0.001, lambda: found.append(read()))
    timer.start()
    timer.join()
    return found[0]


def by_thread_pool(read: Read) -> str:
    with ThreadPool(1) as pool:
        return pool.apply(read)


def by_run_in_executor(read: Read) -> str:
    async def main() -> str:
        return await asyncio.get_running_loop().run_in_executor(None, read)

    return asyncio.run(main())


def by_thread_of_a_thread(read: Read) -> str:
    return by_executor(partial(by_executor, read))


def by_joblib(read: Read) -> str:
    import joblib  # not on each machine

    with joblib.Parallel(n_jobs=2, backend="threading") as parallel:
        (found,) = set(parallel(joblib.delayed(read)() for _ in range(4)))
    return str(found)


def by_to_thread(read: Read) -> str:
    return asyncio.run(asyncio.to_thread(read))


def by_task(read: Read) -> str:
    async def main() -> str:
        async def task() -> str:
            return read()

        return await asyncio.create_task(task())

    return asyncio.run(main())


HANDED_OVER = [
    by_thread,
    by_timer,
    by_executor,
    by_thread_pool,
    by_run_in_executor,
    by_thread_of_a_thread,
    pytest.param(
        by_joblib,
        marks=pytest.mark.skipif(
            find_spec("joblib") is None, reason="joblib is not installed"
        ),
    ),
]
INHERITED = [by_to_thread, by_task]


@pytest.mark.parametrize("way", [*HANDED_OVER, *INHERITED])
def test_the_threads_of_a_backtest_see_no_live_bar(way, read: Read) -> None:
    set_context(backtest())
    assert way(read) == "context"
    clear_context()
    assert way(read) == "live"  # the control: the bars are there


@pytest.mark.parametrize("way", HANDED_OVER)
def test_control_a_mark_of_each_thread_alone_lets_them_see_live_bars(
    way, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_context(backtest())
    monkeypatch.setattr("wealthdata.sources.view_in_force", contexts_in_force.own_view)
    assert way(read) == "live"
    clear_context()


# Processes.


def by_multiprocessing(method: str, feed: str) -> str:
    spawning = multiprocessing.get_context(method)
    ours, theirs = spawning.Pipe()
    child = spawning.Process(target=read_into, args=(theirs, feed))
    child.start()
    theirs.close()
    with ours:
        found: str = ours.recv()
    child.join()
    return found


def by_process_pool(feed: str) -> str:
    forking = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(1, mp_context=forking) as pool:
        return pool.submit(source_read, feed).result()


def by_fork_in_another_thread(feed: str) -> str:
    return by_executor(partial(by_fork, feed))


INHERITING = {
    "fork": by_fork,
    "fork in another thread": by_fork_in_another_thread,
    "multiprocessing fork": partial(by_multiprocessing, "fork"),
    "process pool": by_process_pool,
}


@pytest.mark.parametrize("way", INHERITING)
def test_the_forks_of_a_backtest_see_no_live_bar(way: str, live_feed: str) -> None:
    set_context(backtest())
    lost = way == "fork in another thread"  # the context is of a thread left behind
    assert INHERITING[way](live_feed) == ("NoDataError" if lost else "context")
    clear_context()
    assert INHERITING[way](live_feed) == "live"  # the control: the bars are there


def test_control_a_fork_without_the_mark_sees_live_bars(
    live_feed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mark, "in_force", lambda _: False)
    set_context(backtest())
    assert by_fork_in_another_thread(live_feed) == "live"
    clear_context()


def test_a_fork_of_a_live_thread_beside_a_backtest_reads_no_feed(
    live_feed: str,
) -> None:
    set_context(backtest())

    def live() -> str:
        set_context(Context())
        assert source_read(live_feed) == "live"
        return by_fork(live_feed)

    assert by_executor(live) == "StreamNotFoundError"
    clear_context()


def test_a_spawned_process_sees_no_live_bar(
    live_feed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_context(backtest())
    assert by_multiprocessing("spawn", live_feed) == "NoDataError"
    monkeypatch.setattr(mark, "in_force", lambda _: False)
    mark.refresh()
    assert by_multiprocessing("spawn", live_feed) == "live"  # the control
    clear_context()


@pytest.mark.parametrize("told", [True, False], ids=["told", "control"])
def test_a_pool_that_ran_before_is_told_by_its_initializer(
    told: bool, live_feed: str
) -> None:
    forking = multiprocessing.get_context("fork")
    tell = partial(wealthdata.use, context_only=True) if told else None
    with ProcessPoolExecutor(1, forking, tell) as pool:
        assert pool.submit(abs, -1).result() == 1  # it runs
        set_context(backtest())
        found = pool.submit(source_read, live_feed).result()
    clear_context()
    assert found == ("NoDataError" if told else "live")


def run_program(name: str, feed: str) -> dict[str, list[str]]:
    program = [sys.executable, "-m", "support.backtest_programs", name, feed]
    made = subprocess.run(program, cwd=TESTS, capture_output=True, check=False)
    assert made.returncode == 0, made.stderr.decode()
    found: dict[str, list[str]] = json.loads(made.stdout)
    return found


@pytest.mark.parametrize(
    ("name", "module", "in_backtest"),
    [
        ("greenlets", "gevent", "context"),
        ("loky", "joblib", "NoDataError"),
        ("fork_server", "multiprocessing", "NoDataError"),
    ],
)
def test_other_workers_see_no_live_bar(
    name: str, module: str, in_backtest: str, live_feed: str
) -> None:
    pytest.importorskip(module)
    found = run_program(name, live_feed)
    assert set(found["backtest"]) == {in_backtest}
    assert set(found["control"]) == {"live"}
