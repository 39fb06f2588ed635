"""Feeders that dial one venue together: their budget, and their logs."""

import logging
import socket
import threading

import pytest
from support.feeding import feeder, managing
from support.waiting import until

from shmfeed.simulator import Venue

NO_LIMITS = {
    "reconnect_delay_base": 0.001,
    "reconnect_delay_max": 0.01,
    "max_reconnect_attempts": None,
}


@pytest.fixture
def refusing():
    """Return the url of a server that hangs up at once, and the dials that it saw."""
    dials = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:  # closed
                    return
                dials.append(1)
                connection.close()

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"ws://127.0.0.1:{server.getsockname()[1]}/", dials
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_two_feeders_dial_no_more_than_one_may(feed_name, refusing, caplog) -> None:
    url, dials = refusing
    limited = {**NO_LIMITS, "dials_per_minute": 6}
    with (
        feeder(feed_name + "1", url, **limited),
        feeder(feed_name + "2", url, **limited),
    ):
        words = "the dials of this minute are used up; next attempt in"
        until(lambda: caplog.text.count(words) == 2)
        assert len(dials) <= 6
    assert len(dials) == 6


def test_control_without_a_limit_they_dial_on(feed_name, refusing) -> None:
    url, dials = refusing
    unlimited = {**NO_LIMITS, "dials_per_minute": 0}
    with (
        feeder(feed_name + "1", url, **unlimited),
        feeder(feed_name + "2", url, **unlimited),
    ):
        until(lambda: len(dials) > 12)


def test_a_manager_has_the_losses_of_a_feeder_that_logs_to_a_file(
    feed_name, tmp_path, caplog
) -> None:
    path = tmp_path / "feeder.log"
    caplog.set_level(logging.INFO, "shmfeed.feeder")
    with (
        Venue(speed=None) as venue,
        managing(feed_name, venue, log_file=str(path)) as manager,
    ):
        manager.start(timeout=20)
        venue.drop_connections()
        until(lambda: "connected again to" in path.read_text())
        until(lambda: f"lost {venue.url}" in caplog.text)
    (lost,) = [r for r in caplog.records if "feed: lost " in r.getMessage()]
    assert (lost.name, lost.levelname) == ("shmfeed.feeder", "WARNING")
    assert lost.getMessage() in path.read_text()
