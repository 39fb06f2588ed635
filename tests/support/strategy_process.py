"""Fixtures: a feed of its own, and this process as the strategy that reads it."""

from collections.abc import Iterator

import pytest
from support.strategy_side import SYMBOL

import wealthdata
from shmfeed.ringbuf import RingWriter
from shmfeed.writer import FeedWriter, create
from wealthdata import attachment


@pytest.fixture
def strategy(
    feed_name: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[str]:
    """A process that reads feed `feed_name`, which is not there yet."""
    monkeypatch.delenv("SHMFEED_FEED", raising=False)
    monkeypatch.delenv("SHMFEED_COPY", raising=False)
    wealthdata.use(feed=feed_name)
    yield feed_name
    wealthdata.use()
    wealthdata.clear_context()
    wealthdata.clear_data_adapter()
    attachment.detach()
    request.node.funcargs.clear()  # pytest would keep the writer's mapping


@pytest.fixture
def writer(strategy: str) -> Iterator[FeedWriter]:
    """The writer of that feed: 100 bars a stream, 16 more until one is lapped."""
    with create(strategy, history=100, guard=16, max_streams=8) as made:
        yield made
        made.close(unlink=True)


@pytest.fixture
def ring(writer: FeedWriter) -> RingWriter:
    """Its stream SYMBOL 1h, empty."""
    return writer.add_stream(SYMBOL, "1h")
