"""What happens to a foreground feeder's connection, said on standard error.

Whoever observes a feed reads its segment; so does this thread, in the feeder's process.
"""

import threading
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from shmfeed.cli.streams import complain
from shmfeed.cli.text import plain
from shmfeed.errors import FeedNotFoundError
from shmfeed.feed import Feed, attach

_LOOK_SECONDS = 0.1


class Watch:
    """A context manager around a feeder's `run`: it tells each change of state."""

    def __init__(self, feed: str) -> None:
        self._feed = attach(feed)
        self._ended = threading.Event()
        self._seen: tuple[Any, ...] = ()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._feed.close()

    def _run(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            with suppress(FeedNotFoundError):
                self._look(self._feed)

    def _look(self, feed: Feed) -> None:
        facts = feed.connection()
        state, error = facts["state"], facts.get("last_error")
        seen = (state, error)
        if seen == self._seen:
            return
        before, self._seen = self._seen, seen
        if error and error not in before[1:]:
            _say(error)
        if state == "connected":
            _say(f"connected to {facts.get('endpoint')}")
        elif state == "error":
            _say(
                f"gave up after {facts.get('attempts')} attempts in a row; start it"
                " again, or with --max-reconnect-attempts none, which tries for ever;"
                " its bars stay readable meanwhile; Ctrl-C or SIGTERM ends it"
            )


def _say(words: str) -> None:
    complain(plain(words))
