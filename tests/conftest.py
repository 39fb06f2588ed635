"""Fixtures of every test: a census around it, names, child processes and seeds."""

import gc
import glob
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from support import census, cores, dials

from shmfeed.validation import BACKTEST_VARIABLE

SEED = int(os.environ.get("TEST_SEED", "20260101"))

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background job ignores Ctrl-C, and so would each child of it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    # So does nohup with SIGHUP. A child does not inherit a handler: it has the default.
    signal.signal(signal.SIGHUP, lambda *_: None)

os.environ[census.MARK] = str(os.getpid())  # each descendant inherits it
# The threads that numpy's BLAS starts cost each process that imports numpy 50 ms of CPU
# time. Tests start thousands, and none needs them.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Every run has the same examples; HYPOTHESIS_PROFILE=explore looks for new ones.
_SETTINGS = {"deadline": None, "database": None, "print_blob": True}
hypothesis.settings.register_profile("same", derandomize=True, **_SETTINGS)
hypothesis.settings.register_profile("explore", max_examples=1000, **_SETTINGS)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

# They run longest. Each worker runs its list from the front and has its end taken by
# workers that are done: a long test that began last would hold up the run alone.
_LONGEST = (
    "relay/test_relay.py",
    "faults/test_kill.py",
    "faults/test_stateful.py",
    "faults/test_killed_feeder.py",
    "faults/test_bad_input_sanitized.py",
    "faults/test_reconnects.py",
    "faults/test_damaged_segment.py",
    "faults/test_kill_every_store.py",
    "faults/test_malformed.py",
    "faults/test_cuts.py",
    "faults/test_takeover.py",
    "night/test_night.py",
    "unit/project/test_benchmarks.py",
    "unit/project/test_documents.py",
)

SEEN = "seen_of_others"
_SHARED_MEMORY = Path("/dev/shm")
_numbers = itertools.count(1)


def pytest_report_header() -> list[str]:
    from shmfeed import core

    profile = os.environ.get("HYPOTHESIS_PROFILE", "same")
    return [
        f"seeds: TEST_SEED={SEED}, HYPOTHESIS_PROFILE={profile}",
        f"core: {core.build}{core.WHY and f', {core.WHY}'}",
    ]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {f"tests/{name}": place for place, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: places.get(item.nodeid.split("::")[0], len(places)))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Take what is collected out of the garbage collector's sight.

    Each full collection would look through half a million objects, for a quarter of a
    second, and the census needs one after many tests.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand what a worker's census saw to the process that prints the summary."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[SEEN] = sorted(census.seen_of_others)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    census.seen_of_others.update(getattr(node, "workeroutput", {}).get(SEEN, ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if seen := sorted(census.seen_of_others):
        terminalreporter.write_line(
            f"census: {len(seen)} new entries of other programs in /dev/shm, not"
            f" counted: {', '.join(seen[:10])}{', ..' if len(seen) > 10 else ''}"
        )


@pytest.fixture(autouse=True)
def leaves_nothing_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a process, thread, descriptor or /dev/shm entry."""
    dials.forget_dials()
    dials.forget_rest()
    if (files := sys.modules.get("shmfeed.settings.secret_files")) is not None:
        files._known.clear()  # another test's secrets would be masked
    before = census.take()
    yield
    if (receipts := sys.modules.get("wealthdata.receipts")) is not None:
        receipts.tracked.clear()  # after a decision, or a run that was recorded
        receipts.forget_reads()
    # Drop the values of finished fixtures: a mapping holds a descriptor.
    getattr(request.node, "funcargs", {}).clear()
    left = census.leftovers(before)
    if BACKTEST_VARIABLE in os.environ:
        left.append(f"a backtest in force: {BACKTEST_VARIABLE} is in the environment")
        os.environ.pop(BACKTEST_VARIABLE)
    if left:
        pytest.fail("the test left behind:\n  " + "\n  ".join(left), pytrace=False)


@pytest.fixture(params=cores.EACH, ids=str)
def each_core(request: pytest.FixtureRequest) -> Iterator[cores.Core]:
    """Run a test of rings on plain buffers once for each core of this machine."""
    cores.choose(request.param)
    yield request.param
    cores.choose(cores.SERVING)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return an `Authority` of this module's tests."""
    from support.authority import Authority

    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def nest() -> Iterator[Any]:
    """Return a `Nest`, which forks for this module's tests."""
    from support.nest import Nest

    with Nest() as made:
        yield made


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[Any]:
    """Return a `RedisServer` of this test alone; skip where none is installed."""
    from support.redis_server import running

    with running(tmp_path) as server:
        yield server


@pytest.fixture
def engines(redis_server: Any) -> Iterator[Any]:
    """Return an `Engines` of a server of this test alone."""
    from support.redis_engines import Engines

    made = Engines(redis_server)
    yield made
    made.close()


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Return the test's own number, the same in every run with one TEST_SEED."""
    return SEED + zlib.crc32(request.node.nodeid.encode())


@pytest.fixture
def rng(seed: int) -> np.random.Generator:
    random.seed(seed)
    return np.random.default_rng(seed)


@pytest.fixture
def feed_name() -> Iterator[str]:
    """Return a feed's name of this test alone; remove its files afterwards."""
    name = f"t{os.getpid()}x{next(_numbers)}-"
    _remove_feeds(name)  # left by a killed run that had this pid
    yield name + "feed"
    _remove_feeds(name)


def _remove_feeds(name: str) -> None:
    for pattern in (f"shmfeed.*.{name}*", f"shmfeed-*/{name}*"):
        _remove_all(pattern)


def _remove_all(pattern: str) -> None:
    # Path.glob fails when another test removes a folder while it looks.
    for found in glob.iglob(pattern, root_dir=_SHARED_MEMORY):  # noqa: PTH207
        path = _SHARED_MEMORY / found
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


Child = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def child() -> Iterator[Child]:
    """Return a function that starts `python -c code *arguments` with pipes.

    Warnings are errors in the child too. It is killed and reaped after the test.
    """
    started: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: object, **options: object) -> subprocess.Popen:
        command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
        pipe = subprocess.PIPE
        pipes = {"stdin": pipe, "stdout": pipe, "stderr": pipe, "text": True}
        started.append(subprocess.Popen(command, **(pipes | options)))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        with process:  # closes its pipes and reaps it
            pass
