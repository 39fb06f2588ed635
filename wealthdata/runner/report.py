"""Lines for the user of the runner, on standard error."""

import select
import sys
from contextlib import suppress

from shmfeed.text import printable


def tell(text: str) -> None:
    """Print one line on standard error; ignore one that cannot be written."""
    with suppress(OSError, ValueError):
        print(f"wealthdata: {printable(text)}", file=sys.stderr, flush=True)


def output_is_closed() -> bool:
    """Return True if the program that reads standard output has ended."""
    with suppress(OSError, ValueError):  # it may be no file
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return any(
            event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)
        )
    return False
