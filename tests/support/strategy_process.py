"""Fixtures: a feed for one test, and this process as the strategy that reads it."""

from collections.abc import Iterator

import pytest
from support.numbered_bars import SYMBOL

import wealthdata
from shmfeed.ringbuf import RingWriter
from shmfeed.writer import FeedWriter, create
from wealthdata import (
    attachment,
    choices,
    completeness,
    contexts_in_force,
    freshness,
    handed,
)


@pytest.fixture
def strategy(
    feed_name: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[str]:
    """Let this process read the feed `feed_name`, which does not exist yet."""
    monkeypatch.delenv("SHMFEED_FEED", raising=False)
    monkeypatch.delenv("SHMFEED_COPY", raising=False)
    choices.forget_choices()
    freshness.outages.clear()  # of another test's streams, as of a conformance case
    completeness.troubles.clear()
    wealthdata.use(feed=feed_name)
    yield feed_name
    choices.forget_choices()
    wealthdata.clear_context()
    wealthdata.clear_data_adapter()
    contexts_in_force.current.set(None)  # this thread has read live bars
    attachment.detach()
    request.node.funcargs.clear()  # which would keep the writer's mapping alive


@pytest.fixture
def own_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this thread have had nothing."""
    monkeypatch.setattr(handed._of_thread, "record", handed.TaskRecord())
    monkeypatch.setattr(handed._of_executor, "handed", {})


@pytest.fixture
def writer(strategy: str) -> Iterator[FeedWriter]:
    """Create that feed: 100 bars a stream, and 16 more until one is overwritten."""
    with create(strategy, history=100, guard=16, max_streams=8) as made:
        yield made
        made.close(unlink=True)


@pytest.fixture
def ring(writer: FeedWriter) -> RingWriter:
    """Add the stream SYMBOL 1h, without bars."""
    return writer.add_stream(SYMBOL, "1h")
