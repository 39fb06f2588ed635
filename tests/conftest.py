"""What every test has: a census around it, and names, children and seeds to use."""

import glob
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from support import census, cores

SEED = int(os.environ.get("TEST_SEED", "20260101"))

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As of a shell's background job; what we start would ignore Ctrl-C too.
    signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ[census.MARK] = str(os.getpid())  # each descendant inherits it

# The same examples in every run; HYPOTHESIS_PROFILE=explore looks for new ones.
_SETTINGS = {"deadline": None, "database": None, "print_blob": True}
hypothesis.settings.register_profile("same", derandomize=True, **_SETTINGS)
hypothesis.settings.register_profile("explore", max_examples=1000, **_SETTINGS)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

_SHARED_MEMORY = Path("/dev/shm")
_numbers = itertools.count(1)


def pytest_report_header() -> list[str]:
    from shmfeed import core

    profile = os.environ.get("HYPOTHESIS_PROFILE", "same")
    return [
        f"seeds: TEST_SEED={SEED}, HYPOTHESIS_PROFILE={profile}",
        f"core: {core.build}{core.WHY and f', {core.WHY}'}",
    ]


@pytest.fixture(autouse=True)
def leaves_nothing_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a process, thread, descriptor or /dev/shm entry."""
    before = census.take()
    yield
    # The values of its fixtures, finished by now: a mapping has a descriptor.
    getattr(request.node, "funcargs", {}).clear()
    left = census.leftovers(before)
    if left:
        pytest.fail("the test left behind:\n  " + "\n  ".join(left), pytrace=False)


@pytest.fixture(params=cores.EACH, ids=str)
def each_core(request: pytest.FixtureRequest) -> Iterator[cores.Core]:
    """A test of rings on plain buffers runs once for each core that is here."""
    cores.choose(request.param)
    yield request.param
    cores.choose(cores.SERVING)


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """A number of the test's own, the same in every run with one TEST_SEED."""
    return SEED + zlib.crc32(request.node.nodeid.encode())


@pytest.fixture
def rng(seed: int) -> np.random.Generator:
    random.seed(seed)
    return np.random.default_rng(seed)


@pytest.fixture
def feed_name() -> Iterator[str]:
    """A feed's name that nobody else has; whatever begins with it is removed after."""
    name = f"t{os.getpid()}x{next(_numbers)}-"
    _remove_feeds(name)  # of a killed run that had our pid
    yield name + "feed"
    _remove_feeds(name)


def _remove_feeds(name: str) -> None:
    for pattern in (f"shmfeed.*.{name}*", f"shmfeed-*/{name}*"):
        _remove_all(pattern)


def _remove_all(pattern: str) -> None:
    # Not Path.glob: it fails when a folder of another test goes while it looks.
    for found in glob.iglob(pattern, root_dir=_SHARED_MEMORY):  # noqa: PTH207
        path = _SHARED_MEMORY / found
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


Child = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def child() -> Iterator[Child]:
    """Starts `python -c code *arguments` with pipes; killed and reaped after the test.

    Warnings are errors in it, as they are here.
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
