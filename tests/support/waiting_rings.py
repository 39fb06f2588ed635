"""Fixtures of tests that wait for rings: a feed of many streams, in each form."""

import threading
from collections.abc import Iterator

import pytest
from support.sleeping import FORMS, STREAMS, Form, chosen, notify_by

from shmfeed.feed import Feed, Ring, attach
from shmfeed.writer import FeedWriter, create


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Form:
    form = chosen(request.param, monkeypatch)
    notify_by(form, monkeypatch)
    return form


@pytest.fixture
def ring_writer(feed_name: str) -> Iterator[FeedWriter]:
    with create(feed_name, history=5, max_streams=40, streams=STREAMS) as ring_writer:
        yield ring_writer


@pytest.fixture
def feed(ring_writer: FeedWriter) -> Iterator[Feed]:
    with attach(ring_writer.name) as feed:
        yield feed


@pytest.fixture
def rings(feed: Feed) -> list[Ring]:
    return [feed.ring(*key) for key in STREAMS]


@pytest.fixture
def beats(ring_writer: FeedWriter) -> Iterator[None]:
    """Keep the feeder alive by a beat thread."""
    end = threading.Event()

    def beat() -> None:
        while not end.wait(0.2):
            ring_writer.beat_alive()

    thread = threading.Thread(target=beat)
    thread.start()
    yield
    end.set()
    thread.join()
