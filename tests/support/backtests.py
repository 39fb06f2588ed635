"""Fixtures: a feed whose bars no backtest may see, and a check of what is left."""

import os
from collections.abc import Iterator
from functools import partial

import pytest
from support.backtest_children import Read, source_read
from support.numbered_bars import append

from shmfeed.ringbuf import RingWriter
from wealthdata import contexts_in_force
from wealthdata.backtest_mark import VARIABLE

pytest_plugins = ["support.strategy_process"]


@pytest.fixture
def live_feed(ring: RingWriter, strategy: str) -> Iterator[str]:
    """Yield the name of a feed whose bars no backtest may see."""
    append(ring, *range(5, 30))
    yield strategy
    assert contexts_in_force.settings == {}
    assert VARIABLE not in os.environ


@pytest.fixture
def read(live_feed: str) -> Read:
    """Return a function that returns the source of the bars that its caller reads."""
    return partial(source_read, live_feed)
