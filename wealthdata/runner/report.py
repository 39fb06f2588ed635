"""Lines for the user of the runner, on standard error."""

import sys
from contextlib import suppress

from shmfeed.text import printable


def tell(text: str) -> None:
    """Print one line on standard error; ignore one that cannot be written."""
    with suppress(OSError, ValueError):
        print(f"wealthdata: {printable(text)}", file=sys.stderr, flush=True)


def output_is_closed() -> bool:
    """Return True if the program that reads standard output has ended."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return True
    except (OSError, ValueError):
        return False
    return False
