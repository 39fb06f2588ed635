"""Another process: whether it is still the one that it was."""

import time
from pathlib import Path

_POLL_SECONDS = 0.02


def process_start(pid: int) -> int | None:
    """When a process began, in kernel ticks since boot; None if it is not there.

    Ended and not reaped yet is not there. A pid can be given again, with the same
    start it cannot.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except OSError:
        return None
    # The name, in parentheses, may hold anything; state is the field after it.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])


def await_end(pid: int, started: int, timeout: float) -> bool:
    """Whether the process that began then has ended within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while process_start(pid) == started:
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True
