import threading
import time

from support.waiting import until

import shmfeed
from shmfeed.errors import FeedLostError
from shmfeed.feeder.heartbeat import HeartbeatThread
from shmfeed.segment.mapping import place
from shmfeed.writer import create


def test_the_thread_keeps_a_feed_alive_whose_main_loop_is_stuck(feed_name):
    lost = []
    with create(feed_name) as writer, shmfeed.attach(feed_name) as feed:
        with HeartbeatThread(writer, lost.append):
            ends = time.monotonic() + 2.5
            while time.monotonic() < ends:
                assert feed.alive()
                time.sleep(0.1)
        assert feed.alive()
        until(lambda: not feed.alive(), timeout=3, what="death without a beat")
    assert lost == []
    create(feed_name).close(unlink=True)


def thread_names():
    return {thread.name for thread in threading.enumerate()}


def test_the_thread_reports_a_removed_feed_once(feed_name):
    told = []
    end = threading.Event()

    def lost(error):
        told.append(error)
        end.set()

    for taken in ("segment", "lock"):
        told.clear()
        end.clear()
        with create(feed_name) as writer, HeartbeatThread(writer, lost):
            getattr(place(feed_name), taken).unlink()
            assert end.wait(3)
            until(lambda: "shmfeed-heartbeat" not in thread_names())
        (error,) = told
        assert isinstance(error, FeedLostError)
        assert str(getattr(place(feed_name), taken)) in str(error)
    create(feed_name).close(unlink=True)


def test_the_thread_ends_at_once(feed_name):
    with create(feed_name) as writer:
        begun = time.monotonic()
        with HeartbeatThread(writer, lambda error: None):
            pass
        assert time.monotonic() - begun < 0.3
        writer.close(unlink=True)
