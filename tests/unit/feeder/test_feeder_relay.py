"""A feeder publishes what its publishers tell, and supervises the one of its own."""

import time
from contextlib import closing
from types import SimpleNamespace

import pytest
from support.feeding import feeder, is_listening, settings, tell
from support.forks import Fork
from support.waiting import until

import shmfeed
from shmfeed.control.client import open_claim
from shmfeed.control.relay_client import RelayReporter
from shmfeed.errors import BadArgumentError
from shmfeed.feeder import feed_publisher
from shmfeed.feeder.feed_publisher import FeedPublisher
from shmfeed.segment.mapping import place
from shmfeed.settings.model import from_json
from shmfeed.simulator import Venue

LEADER = {"role": "leader", "leader": "a:1", "epoch": 7, "since": 5}
HERE = "redis://127.0.0.1:1/0"


@pytest.fixture
def venue():
    with Venue(speed=None, symbols=["BTCUSDT"]) as venue:
        yield venue


def relay_of(feed_name):
    with shmfeed.attach(feed_name, timeout=20) as feed:
        return feed.status()["relay"]


def reporter_of(feed_name):
    return closing(RelayReporter(place(feed_name).socket))


def told(reporter, feed_name, report):
    """Tell a report until readers see it."""

    def is_shown():
        reporter.tell(report)
        relay = relay_of(feed_name)
        return relay is not None and {k: relay[k] for k in report} == report

    until(is_shown, what=f"the report {report}")


class TestReports:
    def test_readers_see_them_while_the_publisher_is_connected(self, feed_name, venue):
        with feeder(feed_name, venue):
            with reporter_of(feed_name) as reporter:
                told(reporter, feed_name, LEADER)
                told(reporter, feed_name, {"role": "standby", "leader": "b:2"})
                told(reporter, feed_name, {**LEADER, "error": "Redis is away"})
            until(lambda: relay_of(feed_name) is None)

    def test_the_end_of_a_killed_publisher_ends_them(self, feed_name, venue):
        with feeder(feed_name, venue):
            until(lambda: is_listening(feed_name), what="the feeder")

            def publish():
                reporter = RelayReporter(place(feed_name).socket)
                while True:  # a busy feeder answers later
                    reporter.tell(LEADER)
                    time.sleep(0.05)

            with Fork(publish) as publisher:
                until(lambda: relay_of(feed_name), what="its report")
                publisher.kill()
                until(lambda: relay_of(feed_name) is None, what="its end")

    def test_of_two_publishers_the_first_one_is_shown(self, feed_name, venue):
        with feeder(feed_name, venue), reporter_of(feed_name) as second:
            with reporter_of(feed_name) as first:
                told(first, feed_name, LEADER)
                second.tell({"role": "standby"})
                tell(feed_name, "status")  # behind the second one's report
                assert relay_of(feed_name)["role"] == "leader"
            until(lambda: (relay_of(feed_name) or {}).get("role") == "standby")

    def test_a_new_feeder_is_told_again(self, feed_name, venue):
        with reporter_of(feed_name) as reporter:
            for _ in range(2):
                with feeder(feed_name, venue):
                    told(reporter, feed_name, LEADER)

    @pytest.mark.parametrize("relay", [None, {"role": "follower"}, {"leader": "a"}])
    def test_another_report_is_refused(self, feed_name, venue, relay):
        with feeder(feed_name, venue):
            until(lambda: is_listening(feed_name), what="the feeder")
            with pytest.raises(BadArgumentError, match=r"relay|role"):
                open_claim(place(feed_name).socket, "relay", 20, relay=relay)


class FakeProcess:
    """A process that is noted, and not started."""

    def __init__(self, module, feed, name, first):
        self.settings = from_json(first)
        self.first = first
        self.steps = []
        PROCESSES.append(self)

    def start(self):
        self.steps.append("start")

    def close(self, seconds=1.0):
        self.steps.append(f"close {seconds:g}")


PROCESSES: list[FakeProcess] = []


class TestThePublisherOfAFeeder:
    @pytest.fixture
    def processes(self, monkeypatch):
        monkeypatch.setattr(feed_publisher, "SupervisedProcess", FakeProcess)
        PROCESSES.clear()
        return PROCESSES

    def of(self, tmp_path, **more):
        given = {"publish_to": HERE, "csrf_token": "t0ken", **more}
        return settings("f", "ws://127.0.0.1:1", **given)

    def test_it_runs_within_the_feeder_and_gets_no_secret_of_the_venue(
        self, processes, tmp_path
    ):
        with FeedPublisher(self.of(tmp_path, redis_password="hunter2")) as publisher:
            (process,) = processes
            assert process.steps == ["start"]
            publisher.use(self.of(tmp_path, redis_password="hunter2"))
            publisher.use(self.of(tmp_path, redis_password="hunter2", history=50))
        assert process.steps == ["start", "close 1"]
        assert processes == [process]
        told = process.settings
        assert (told.feed, told.publish_to) == ("f", HERE)
        assert told.redis_password == "hunter2"
        assert "t0ken" not in process.first.decode()

    def test_without_publish_to_there_is_none(self, processes, tmp_path):
        with FeedPublisher(self.of(tmp_path, publish_to=None)) as publisher:
            assert processes == []
            publisher.use(self.of(tmp_path))
            assert [one.steps for one in processes] == [["start"]]
            publisher.use(self.of(tmp_path, publish_to=None))
        # The main loop has not waited for it.
        assert [one.steps for one in processes] == [["start", "close 0"]]

    def test_a_change_replaces_it(self, processes, tmp_path, caplog):
        path = tmp_path / "password"
        path.write_text("one\n")
        path.chmod(0o600)
        here = self.of(tmp_path, redis_password_file=str(path))
        with FeedPublisher(here) as publisher:
            publisher.use(here)
            assert len(processes) == 1
            path.write_text("two\n")  # the same settings, and another password
            publisher.use(here)
            assert len(processes) == 2
            path.unlink()
            publisher.use(here)
            assert len(processes) == 2
            assert "feed f is published as before: redis_password_file" in caplog.text
            publisher.use(self.of(tmp_path, flush_interval=1.0))
            assert len(processes) == 3
        steps = [one.steps for one in processes]
        assert steps == [["start", "close 0"]] * 2 + [["start", "close 1"]]

    def test_a_reload_reaches_it(self, processes, feed_name, venue, tmp_path):
        given = {"publish_to": HERE}
        source = SimpleNamespace(given=given)

        def read():
            return settings(feed_name, venue, **source.given)

        with feeder(feed_name, venue, source=read, **given):
            until(lambda: is_listening(feed_name), what="the feeder")
            until(lambda: processes, what="the publisher")
            (first,) = processes
            source.given = {"publish_to": "redis://127.0.0.1:2/0"}
            answer = tell(feed_name, "reload")
            assert answer["changed"] == ["publish_to"]
            assert [one.settings.publish_to for one in processes] == [
                HERE,
                "redis://127.0.0.1:2/0",
            ]
            assert first.steps == ["start", "close 0"]
            source.given = {"publish_to": "redis://h:p@127.0.0.1"}
            with pytest.raises(BadArgumentError, match=r"publish_to: .* a password"):
                tell(feed_name, "reload")
            assert len(processes) == 2
        assert processes[1].steps == ["start", "close 1"]
