"""Lines for the user of the runner, on standard error."""

import select
import sys
from collections.abc import Iterable
from contextlib import suppress

from shmfeed.text import printable
from wealthdata.stream_source import StreamSource


def tell(text: str) -> None:
    """Print one line on standard error; ignore one that cannot be written."""
    with suppress(OSError, ValueError):
        print(f"wealthdata: {printable(text)}", file=sys.stderr, flush=True)


def tell_shortages(streams: Iterable[StreamSource]) -> None:
    """Print a line for each stream whose bars the feed is too short to make."""
    for stream in streams:
        rolled = stream.rolled
        if rolled is not None and rolled.group_rows > rolled.source.history:
            tell(
                f"{stream.id[1]} {stream.timeframe} is made of {rolled.group_rows} bars"
                f" of {rolled.source.timeframe}, and the feed keeps"
                f" {rolled.source.history}, so that no bar of it closes in this run;"
                " raise SHMFEED_HISTORY of the feed, or of the replay"
            )


def output_is_closed() -> bool:
    """Return True if the program that reads standard output has ended."""
    with suppress(OSError, ValueError):  # it may be no file
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return any(
            event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)
        )
    return False
