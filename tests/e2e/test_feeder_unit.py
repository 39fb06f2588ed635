"""The feeder's unit of systemd: its commands in real processes, its restarts."""

import os
import signal
from pathlib import Path

import pytest
from support.command_line import end
from support.service_manager import FEEDER, Listener, Unit
from support.waiting import until

import shmfeed
from shmfeed.segment.mapping import place
from shmfeed.simulator import Venue

pytest_plugins = ["support.command_process"]
pytestmark = pytest.mark.usefixtures("no_settings")

UNIT = Unit(FEEDER)
SETTINGS = """
endpoint: {url}
symbols: BTCUSDT
resolutions: 1s
"""


@pytest.fixture
def venue():
    with Venue(resolutions=["1s"], history=5) as running:
        yield running


@pytest.fixture
def settings(tmp_path, venue) -> Path:
    path = tmp_path / "settings.yaml"
    path.write_text(SETTINGS.format(url=venue.url))
    return path


@pytest.fixture
def execute(command, tmp_path, settings, feed_name):
    """Start a command of the unit, for a service of this name."""

    def execute(key: str, service: str):
        words = UNIT.command(key, feed_name)
        words = [
            str(settings) if word.startswith("/etc/shmfeed/") else word
            for word in words
        ]
        environ = os.environ | {"NOTIFY_SOCKET": str(tmp_path / service)}
        return command(*words, env=environ)

    yield execute
    place(feed_name).segment.unlink(missing_ok=True)


@pytest.fixture
def listeners(tmp_path):
    both = [Listener(str(tmp_path / name)) for name in ("first", "second")]
    yield both
    for one in both:
        one.close()


@pytest.mark.timeout(120)
def test_a_second_service_takes_over_and_the_first_one_stays_ended(
    execute, listeners, feed_name
) -> None:
    first = execute("ExecStart", "first")  # where no feeder runs, it starts
    listeners[0].await_message("READY=1")
    with shmfeed.attach(feed_name, timeout=20) as feed:
        ring = feed.ring("BTCUSDT", "1s")
        assert ring.wait(ring.count, timeout=20)
        second = execute("ExecStart", "second")
        listeners[1].await_message("READY=1")
        until(lambda: feed.status()["pid"] == second.pid)  # ready, so it has the feed
        assert first.wait(20) == 0
        assert not UNIT.starts_again(0)
        assert ring.wait(ring.count, timeout=20)
        second.kill()
        assert UNIT.starts_again(second.wait(20))
        third = execute("ExecStart", "second")
        listeners[1].await_message("READY=1")
        until(lambda: feed.status()["pid"] == third.pid)
        assert ring.wait(ring.count, timeout=20)
    assert end(third, signal.SIGTERM)[0] == 0


@pytest.mark.timeout(120)
def test_a_reload_of_the_unit_fails_where_a_setting_is_not_accepted(
    execute, listeners, settings, feed_name
) -> None:
    process = execute("ExecStart", "first")
    listeners[0].await_message("READY=1")
    good = settings.read_text()
    settings.write_text(good + "log_fle: x\n")
    refused = execute("ExecReload", "first")
    errors = refused.communicate(timeout=20)[1]
    assert refused.returncode == 1
    assert "unknown setting 'log_fle'" in errors
    settings.write_text(good + "log_level: WARNING\n")
    taken = execute("ExecReload", "first")
    output = taken.communicate(timeout=20)[0]
    assert (taken.returncode, "log_level" in output) == (0, True)
    assert end(process, signal.SIGTERM)[0] == 0


@pytest.mark.parametrize(
    ("code", "again"),
    [(0, False), (2, False), (1, True), (3, True), (4, True), (-signal.SIGKILL, True)],
)
def test_an_end_that_was_not_asked_for_is_followed_by_a_start(code, again) -> None:
    assert UNIT.starts_again(code) is again
