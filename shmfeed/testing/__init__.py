"""A pytest plugin for authors of strategies: venues and feeds for one test.

In the tests' conftest.py:

    pytest_plugins = ["shmfeed.testing"]

A test then asks for `shmfeed_feed`, or for `shmfeed_venue` alone.
"""

try:
    import pytest  # noqa: F401  # no dependency of shmfeed: is it there?
except ModuleNotFoundError as error:
    if error.name != "pytest":
        raise
    raise ImportError(
        "shmfeed.testing is a plugin of pytest, which is not installed: "
        "pip install pytest -e '.[sim]' in the clone",
        name="pytest",
    ) from None

from shmfeed.testing.feed import FedFeed
from shmfeed.testing.plugin import FeedFactory, shmfeed_feed, shmfeed_venue

__all__ = ["FedFeed", "FeedFactory", "shmfeed_feed", "shmfeed_venue"]
