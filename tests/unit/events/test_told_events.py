"""Events as an operator gets them: real feeders, managers, receivers, processes."""

import itertools
import json
import os
import queue
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from support.authority import Authority
from support.command_line import end
from support.loopback import raw
from support.proxies import SocksProxy
from support.waiting import until

import shmfeed
from shmfeed.control.relay_client import RelayReporter
from shmfeed.errors import BadArgumentError, WebSocketConnectionError
from shmfeed.events.sender import EventSender
from shmfeed.feeder.feeder_events import FeederEvents
from shmfeed.manager.lifecycle import FeederLifecycle
from shmfeed.manager.restart_policy import MAX_FAILURES
from shmfeed.segment.mapping import place
from shmfeed.settings.loading import load
from shmfeed.settings.model import Settings, describe
from shmfeed.simulator import Venue

pytest_plugins = ["support.command_process", "support.webhook"]
pytestmark = pytest.mark.usefixtures("no_settings")


@pytest.fixture
def venue() -> Iterator[Venue]:
    with Venue(resolutions=["1s"]) as running:
        yield running


@pytest.fixture
def start(command, venue, feed_name, webhook):
    """Start a feeder of two streams that tells its events."""

    def start(on_event: str = webhook.url, **options: object):
        given = {
            "feed": feed_name,
            "endpoint": venue.url,
            "symbols": "BTCUSDT,ETHUSDT",
            "resolutions": "1s",
            "max-reconnect-attempts": 1,
            "reconnect-delay-base": 0.1,
            "reconnect-delay-max": 0.2,
            "on-event": on_event,
            **options,
        }
        words = [w for name, value in given.items() for w in (f"--{name}", value)]
        return command("run", *words, stdout=subprocess.DEVNULL, stderr=None)

    return start


def test_an_outage_is_one_error_one_stale_and_their_ends(
    start, venue, feed_name, webhook
) -> None:
    process = start()
    with shmfeed.attach(feed_name, timeout=30) as feed:
        until(lambda: feed.status()["health"] == "live", what="a live feed")
        port = int(venue.url.split(":")[2].split("/")[0])
        venue.__exit__(None, None, None)
        error = webhook.await_event("error")
        assert error["feed"] == feed_name
        assert "connection refused" in error["message"]
        with Venue(resolutions=["1s"], port=port):
            names = [webhook.await_event("recovered")["event"]]
            until(lambda: feed.status()["health"] == "live", what="a live feed")
            end(process, signal.SIGTERM)
    while not webhook.told.empty():
        names.append(webhook.told.get()["event"])
    assert names.count("error") == 0  # one an outage
    assert names.count("recovered") == 1


def test_a_feeder_that_was_killed_tells_that_it_runs_again(start, feed_name, webhook):
    first = start()
    with shmfeed.attach(feed_name, timeout=30) as feed:
        until(lambda: feed.status()["health"] == "live", what="a live feed")
    first.kill()
    first.wait()
    second = start()
    event = webhook.await_event("restarted")
    assert f"pid {first.pid}, died" in event["message"]
    assert end(second, signal.SIGTERM)[0] == 0
    # The control: one that ended by itself was not killed.
    third = start()
    with shmfeed.attach(feed_name, timeout=30) as feed:
        until(lambda: feed.status()["pid"] == third.pid, what="the third feeder")
        # A SIGTERM before the main loop runs would kill it.
        until(lambda: feed.status()["health"] == "live", what="a live feed")
    assert end(third, signal.SIGTERM)[0] == 0
    left = [webhook.told.get()["event"] for _ in range(webhook.told.qsize())]
    assert "restarted" not in left


def test_a_receiver_that_hangs_holds_no_feeder_up(start, feed_name, webhook) -> None:
    webhook.answers = [-1] * 99
    process = start(f"http://127.0.0.1:{webhook.port}/x", symbols="BTCUSDT,NOSUCH")
    with shmfeed.attach(feed_name, timeout=30) as feed:
        ring = feed.ring("BTCUSDT", "1s")
        for _ in range(3):
            assert ring.wait(ring.count, timeout=20) is not None
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0  # and its end does not wait for the receiver
    webhook.close()


def test_the_process_ends_with_its_feeder(start, feed_name, webhook) -> None:
    process = start()
    with shmfeed.attach(feed_name, timeout=30) as feed:
        until(lambda: feed.status()["health"] == "live", what="a live feed")
    tellers = children(process.pid)
    assert tellers
    process.kill()
    process.wait()
    until(lambda: not any(map(is_there, tellers)), what="the end of its process")


def children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:  # noqa: PTH123
        return [int(word) for word in file.read().split()]


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_process_that_is_killed_is_started_again(
    feed_name, webhook, monkeypatch, caplog
) -> None:
    monkeypatch.setattr("shmfeed.supervised_process.FIRST_RESTART", 0.05)
    sender = EventSender(Settings(feed=feed_name, on_event=webhook.url), watches=False)
    sender.start()
    sender.tell("store", "one")
    assert webhook.next()["message"] == "one"
    process = sender._process
    first = process._process
    assert first is not None
    first.kill()
    until(lambda: process._process is not first and process._socket, what="another one")
    sender.tell("store", "two", [("BTCUSDT", "1m")])
    event = webhook.next()
    assert (event["message"], event["streams"]) == ("two", ["BTCUSDT 1m"])
    sender.close()
    until(lambda: not process._thread.is_alive(), what="the end of its thread")
    assert f"feed {feed_name}: on_event ended with code -9" in caplog.messages


def test_what_waits_at_the_end_is_told(feed_name, webhook) -> None:
    sender = EventSender(Settings(feed=feed_name, on_event=webhook.url), watches=False)
    sender.start()
    sender.tell("store", "last words")
    sender.close()
    assert webhook.next()["message"] == "last words"
    thread = sender._process._thread
    until(lambda: not thread.is_alive(), what="the end of its thread")


def test_another_leader_of_the_relay_is_told(start, feed_name, webhook) -> None:
    start()
    leaders, told = itertools.cycle(["a:1", "b:2"]), list[dict[str, Any]]()
    with shmfeed.attach(feed_name, timeout=30) as feed:
        until(lambda: feed.status()["health"] == "live", what="a live feed")
    with closing(RelayReporter(place(feed_name).socket)) as reporter:

        def is_told() -> bool:
            # The process looks once a second, and must see each of the two.
            reporter.tell({"role": "standby", "leader": next(leaders)})
            try:
                event = webhook.next(2.5)
            except queue.Empty:
                return False
            told.append(event)
            return event["event"] == "leader"

        until(is_told, 40, what="the event")
    event = told[-1]
    assert event["message"] in (
        "the leader is a:1, it was b:2",
        "the leader is b:2, it was a:1",
    )
    assert event["feed"] == feed_name


def test_the_process_takes_the_settings_way(feed_name, make_webhook, tmp_path) -> None:
    authority = Authority(tmp_path)
    context = authority.server_context(asks_client=True)
    context.load_cert_chain(authority.issue("hooks.example"))
    tunnels = SocksProxy(places={"hooks.example": "127.0.0.1"})
    with make_webhook(tls=context) as hook, raw(tunnels) as url:
        settings = Settings(
            feed=feed_name,
            on_event=f"https://hooks.example:{hook.port}/x",
            proxy="socks5h://" + url.split("/")[2],
            ca_file=str(authority.file),
            client_cert=(str(authority.client),),
        )
        sender = EventSender(settings, watches=False)
        sender.start()
        sender.tell("store", "by the proxy")
        assert hook.next()["message"] == "by the proxy"
        sender.close()
        thread = sender._process._thread
        until(lambda: not thread.is_alive(), what="the end of its thread")
        assert tunnels.asked == [("hooks.example", hook.port)]


def test_of_the_errors_of_the_data_those_of_a_clock_are_told(feed_name, webhook):
    said = "this host's clock is ahead"
    with FeederEvents(Settings(feed=feed_name, on_event=webhook.url)) as events:
        events.tell_all({"data": "venue reported an error"}, "")
        events.tell_all({"data": "venue reported another one"}, "an earlier one")
        events.tell_all({"data": said}, said)
        event = webhook.next()
    assert (event["event"], event["message"]) == ("clock", said)
    assert "times" not in event


class TestManagers:
    MANAGER = """
import os, signal, sys, time
from shmfeed import get_websocket_manager
from shmfeed.errors import ShmfeedError
url, feed, webhook, crashes = sys.argv[1:]
manager = get_websocket_manager()
manager.configure(feed=feed, endpoint=url, symbols=["BTCUSDT"], resolutions=["1s"],
                  on_event=webhook, reconnect_delay_base=0.1, reconnect_delay_max=0.1)
manager.start()
print(manager.get_status()["pid"], flush=True)
sys.stdin.readline()
manager.stop()
"""

    def test_the_death_of_a_feeder(self, venue, feed_name, webhook) -> None:
        command = [sys.executable, "-c", self.MANAGER, venue.url, feed_name]
        pipe = subprocess.PIPE
        with subprocess.Popen(
            [*command, webhook.url, ""], stdin=pipe, stdout=pipe, text=True
        ) as manager:
            assert manager.stdout is not None
            pid = int(manager.stdout.readline())
            os.kill(pid, signal.SIGKILL)
            names = {webhook.next()["event"], webhook.next()["event"]}
            assert {"dead", "restarted"} == names
            manager.communicate("\n")
        assert manager.returncode == 0

    def test_a_feeder_that_dies_again_and_again(
        self, feed_name, webhook, monkeypatch
    ) -> None:
        """It is killed before it has begun, each time."""
        settings = Settings(
            feed=feed_name,
            symbols=("BTCUSDT",),
            resolutions=("1s",),
            endpoint=("ws://127.0.0.1:9/x",),
            on_event=webhook.url,
            reconnect_delay_base=0.01,
            reconnect_delay_max=0.01,
        )
        monkeypatch.setattr("shmfeed.manager.restart_policy.MIN_LIFETIME", 0.01)
        died = WebSocketConnectionError("the feeder died")
        lifecycle = FeederLifecycle(settings, "m")
        for _ in range(MAX_FAILURES):
            lifecycle._schedule_restart(died)
        assert lifecycle.final
        event = webhook.await_event("crash_loop")
        assert f"died {MAX_FAILURES} times in a row" in event["message"]
        lifecycle.stop(keep=True)


class TestSecrets:
    def test_no_message_shows_them(self, webhook) -> None:
        settings = Settings(on_event=webhook.url)
        shown = [repr(settings), str(describe(settings)), str(settings.on_event)]
        assert [webhook.secret in text for text in shown] == [False, False, True]
        assert webhook.secret not in settings.redact(f"cannot post to {webhook.url}")
        command = Settings(on_event=("tell", "--key", "s3cret-key"))
        assert "s3cret-key" not in repr(command)
        assert "s3cret-key" not in command.redact("tell --key s3cret-key")

    def test_they_are_in_no_argument_and_no_log(
        self, command, venue, feed_name, webhook, tmp_path
    ) -> None:
        webhook.answers = [500]
        file = tmp_path / "feed.json"
        values = {"feed": feed_name, "endpoint": venue.url, "symbols": ["BTCUSDT"]}
        values |= {"resolutions": ["1s"], "on_event": webhook.url}
        file.write_text(json.dumps(values))
        file.chmod(stat.S_IRUSR | stat.S_IWUSR)
        process = command("run", "--config", file)
        with shmfeed.attach(feed_name, timeout=30) as feed:
            until(lambda: feed.status()["health"] == "live", what="a live feed")
            for pid in [process.pid, *children(process.pid)]:
                with open(f"/proc/{pid}/cmdline") as argv:  # noqa: PTH123
                    assert webhook.secret not in argv.read()
        _, output, log = end(process, signal.SIGTERM)
        assert webhook.secret not in output + log

    def test_plain_text_beyond_this_host_is_refused(self, webhook) -> None:
        with pytest.raises(BadArgumentError, match="would send plain text") as caught:
            load({"on_event": f"http://example.com/{webhook.secret}"}, {})
        assert webhook.secret not in str(caught.value)
        assert load(
            {"on_event": "http://example.com/", "allow_insecure": True}, {}
        ).on_event

    @pytest.mark.parametrize(
        "value", ["ftp://x/y", "two words", "", 5, [], [""], ["a", 1], "https://", b"x"]
    )
    def test_what_is_no_receiver_is_refused(self, value) -> None:
        with pytest.raises(BadArgumentError, match="on_event"):
            load({"on_event": value}, {})

    def test_a_text_names_a_command_with_arguments(self) -> None:
        found = load({}, {"SHMFEED_ON_EVENT": '["mail", "-s", "feed"]'}).on_event
        assert found == ("mail", "-s", "feed")
        assert load({"on_event": "/usr/bin/tell"}, {}).on_event == ("/usr/bin/tell",)
        assert load({"on_event": None}, {}).on_event is None
