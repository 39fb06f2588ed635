"""T27: feeders that die at once, twenty in all; managers that are killed.

A manager launches the next feeder after a random delay whose limit doubles, and gives
up after five in a row. Its state is `error` then, with the feeder's last words.
"""

import itertools
import os
import signal
import time
from pathlib import Path

import pytest
from support.feeding import managing, replace_interpreter
from support.waiting import until

from shmfeed.manager import restart_policy
from shmfeed.manager.restart_policy import MAX_FAILURES
from shmfeed.segment.mapping import place

DEATHS = 20
BASE, MOST = 0.1, 0.4  # s, the limits of the delays
LAST_WORDS = "MemoryError: no luck today"


@pytest.fixture
def lives(tmp_path, monkeypatch):
    """Let each feeder die at once; return the file that has a line for each life."""
    file = tmp_path / "lives"
    replace_interpreter(
        tmp_path,
        monkeypatch,
        f"echo $$ $(date +%s.%N) >> {file}; echo '{LAST_WORDS}' >&2; exit 9",
    )
    return file


def lived(file: Path) -> list[tuple[int, float]]:
    """Return pid and begin of each life."""
    lines = file.read_text().splitlines() if file.exists() else []
    return [(int(pid), float(begin)) for pid, begin in map(str.split, lines)]


def zombies() -> list[int]:
    """Return the pids of this process's children that ended and were not reaped."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, _, rest = stat.read_text().partition(" (")
        except OSError:
            continue
        state, parent = rest.rpartition(") ")[2].split()[:2]
        if state == "Z" and int(parent) == os.getpid():
            found.append(int(pid))
    return found


def loop(manager) -> str:
    """Start, and return the last error once the manager has given up."""
    manager.start(wait=False)
    until(lambda: "in a row" in (manager.get_status()["last_error"] or ""))
    until(lambda: manager.get_status()["state"] == "error")
    return manager.get_status()["last_error"]


def test_a_crash_loop_ends_in_error_with_the_last_words(feed_name, lives) -> None:
    states = []
    given = {"reconnect_delay_base": BASE, "reconnect_delay_max": MOST}
    with managing(feed_name, "ws://127.0.0.1:9/", **given) as manager:
        manager.on_state_change(lambda old, new: states.append(new))
        for turn in range(1, DEATHS // MAX_FAILURES + 1):
            told = loop(manager)
            assert "the feeder died 5 times in a row before it was connected" in told
            assert told.endswith(f"ended with code 9: {LAST_WORDS}")
            assert len(lived(lives)) == turn * MAX_FAILURES
            assert zombies() == []
        assert states.count("error") == DEATHS // MAX_FAILURES
        # Nothing more is tried, for longer than any delay.
        end = time.monotonic() + 2 * MOST
        until(lambda: time.monotonic() > end)
        assert len(lived(lives)) == DEATHS
        status = manager.get_status()
        assert (status["state"], status["health"]) == ("error", "dead")
        assert LAST_WORDS in status["last_error"]
    begins = [begin for _, begin in lived(lives)]
    for number, (a, b) in enumerate(itertools.pairwise(begins), 1):
        failures = number % MAX_FAILURES
        if failures:  # between two starts of the user there is no delay
            assert b - a >= min(BASE * 2 ** (failures - 1), MOST) / 2
    assert not place(feed_name).segment.exists()


def test_control_without_a_limit_it_goes_on(feed_name, lives, monkeypatch) -> None:
    """The control: what the test above looks for."""
    monkeypatch.setattr(restart_policy, "MAX_FAILURES", 10**6)
    given = {"reconnect_delay_base": 0.02, "reconnect_delay_max": 0.02}
    with managing(feed_name, "ws://127.0.0.1:9/", **given) as manager:
        manager.start(wait=False)
        until(lambda: len(lived(lives)) > MAX_FAILURES + 1)
        assert manager.get_status()["state"] != "error"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_each_signal_is_named(feed_name, tmp_path, monkeypatch, number) -> None:
    command = f"ulimit -c 0; kill -{int(number)} $$"
    replace_interpreter(tmp_path, monkeypatch, command)
    given = {"reconnect_delay_base": 0.02, "reconnect_delay_max": 0.02}
    with managing(feed_name, "ws://127.0.0.1:9/", **given) as manager:
        assert f"was killed by signal {int(number)}" in loop(manager)
