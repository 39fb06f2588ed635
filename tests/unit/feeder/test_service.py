"""A feeder that a service manager starts: a real socket, and a feeder's process."""

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from support.command_line import end
from support.service_manager import Listener
from support.waiting import until

from shmfeed.feeder.service import ServiceManager
from shmfeed.simulator import Venue

pytest_plugins = ["support.command_process"]
pytestmark = pytest.mark.usefixtures("no_settings")


@pytest.fixture
def listener(tmp_path):
    listening = Listener(str(tmp_path / "notify"))
    yield listening
    listening.close()


def environ(tmp_path, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": str(tmp_path / "notify"), **more}


@pytest.fixture
def start(command, tmp_path, feed_name):
    """Start a feeder as a service manager does."""

    def start(url: str, **more: str):
        options = ["--feed", feed_name, "--endpoint", url]
        options += ["--symbols", "BTCUSDT", "--resolutions", "1s"]
        options += ["--max-reconnect-attempts", "1"]
        env = os.environ | environ(tmp_path, **more)
        # Nothing reads its log: a full pipe would only drop lines.
        return command("run", *options, env=env, stdout=subprocess.DEVNULL, stderr=None)

    return start


def test_a_feeder_is_ready_connected_reloading_and_stopping(listener, start) -> None:
    with Venue(resolutions=["1s"]) as venue:
        process = start(venue.url, WATCHDOG_USEC="600000")
        listener.await_message("READY=1")
        listener.await_message("STATUS=connected")
        listener.await_message("WATCHDOG=1")
        listener.await_message("WATCHDOG=1")
        process.send_signal(signal.SIGHUP)
        reloading = listener.await_message("RELOADING=1\nMONOTONIC_USEC=")
        assert reloading.rpartition("=")[2].isdigit()
        listener.await_message("READY=1")
        assert end(process, signal.SIGTERM)[0] == 0
        listener.await_message("STOPPING=1")


def test_a_feeder_without_its_venue_is_ready_and_says_so(listener, start) -> None:
    """A start that waited for the venue would be ended by its time limit."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    process = start(f"ws://127.0.0.1:{port}")
    listener.await_message("READY=1")
    line = listener.await_message("STATUS=error: ")
    assert f"127.0.0.1:{port}" in line
    assert end(process, signal.SIGTERM)[0] == 0
    assert "WATCHDOG=1" not in listener.messages  # the unit has no watchdog


def test_a_stopped_feeder_feeds_no_watchdog(listener, start) -> None:
    """The control: beats of the heartbeat thread would hide a loop that hangs."""
    with Venue(resolutions=["1s"]) as venue:
        process = start(venue.url, WATCHDOG_USEC="300000")
        listener.await_message("WATCHDOG=1")
        process.send_signal(signal.SIGSTOP)
        until(lambda: stopped(process.pid), what="a process that is stopped")
        with pytest.raises(TimeoutError):
            while True:
                listener.await_message("WATCHDOG=1", 1.0)
        process.send_signal(signal.SIGCONT)
        listener.await_message("WATCHDOG=1")


def stopped(pid: int) -> bool:
    text = Path(f"/proc/{pid}/stat").read_text("ascii")
    return text.rpartition(")")[2].split()[0] == "T"


def test_children_are_not_the_service(tmp_path, listener) -> None:
    given = environ(tmp_path, WATCHDOG_USEC="1000", WATCHDOG_PID=str(os.getpid()))
    service = ServiceManager(given)
    assert given == {}
    service.beat(1.0)
    listener.await_message("WATCHDOG=1")
    service.stopping()


def test_the_watchdog_of_another_process_is_not_fed(tmp_path, listener) -> None:
    service = ServiceManager(environ(tmp_path, WATCHDOG_USEC="1000", WATCHDOG_PID="1"))
    service.beat(1.0)
    service.ready()
    listener.await_message("READY=1")
    assert listener.messages == ["READY=1"]
    service.stopping()


def test_an_abstract_socket_is_told() -> None:
    name = f"@shmfeed-test-{os.getpid()}"
    listening = Listener("\0" + name[1:])
    service = ServiceManager({"NOTIFY_SOCKET": name})
    service.ready()
    listening.await_message("READY=1")
    service.stopping()
    service.ready()  # closed: nothing is sent, nothing raised
    listening.close()


@pytest.mark.parametrize("address", ["", "relative", "/no/such/socket"])
def test_a_socket_that_is_not_there_holds_nothing_up(address, caplog) -> None:
    service = ServiceManager({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "soon"})
    service.ready()
    service.show("error", "refused")
    service.beat(1.0)
    service.stopping()
    said = "NOTIFY_SOCKET='relative' is no socket of a service manager"
    assert caplog.messages == ([said] if address == "relative" else [])


def test_a_full_socket_holds_nothing_up(tmp_path, listener) -> None:
    service = ServiceManager(environ(tmp_path, WATCHDOG_USEC="3"))
    for now in range(5_000):  # no message is read
        service.beat(float(now))
    listener.await_message("WATCHDOG=1")
    service.stopping()


def test_a_status_is_told_once_and_on_one_line(tmp_path, listener) -> None:
    service = ServiceManager(environ(tmp_path))
    service.show("reconnecting", "refused\nREADY=1 " + "x" * 999)
    service.show("reconnecting", "refused\nREADY=1 " + "x" * 999)
    service.show("connected", "refused")
    line = listener.await_message("STATUS=reconnecting: refused\\nREADY=1 xxx")
    assert len(line) < 300
    listener.await_message("STATUS=connected")
    assert len(listener.messages) == 2
    service.stopping()
