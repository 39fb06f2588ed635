"""Who wants which streams of a feeder: it carries the union of all."""

from pathlib import Path
from typing import NamedTuple

from shmfeed.catalog import Names


class Want(NamedTuple):
    """One manager's wish: its process, and the streams."""

    pid: int
    started: int  # of that process, by the kernel's count: a pid can be given again
    streams: tuple[Names, ...]


class Wants:
    """The wishes of all managers, by the name that each gave itself."""

    def __init__(self) -> None:
        self._wants: dict[str, Want] = {}

    def put(self, manager: str, pid: int, streams: tuple[Names, ...]) -> None:
        """Replace what this manager wants."""
        self._wants[manager] = Want(pid, process_start(pid) or 0, streams)

    def drop(self, manager: str) -> None:
        self._wants.pop(manager, None)

    def get(self, manager: str) -> Want | None:
        return self._wants.get(manager)

    def restore(self, manager: str, want: Want | None) -> None:
        """Put back what `get` gave before a change that was refused."""
        if want is None:
            self.drop(manager)
        else:
            self._wants[manager] = want

    def union(self) -> tuple[Names, ...]:
        """All streams, once each, in the order in which they were wanted."""
        every = (names for want in self._wants.values() for names in want.streams)
        return tuple(dict.fromkeys(every))

    def alive(self) -> bool:
        """Whether any manager that wants something still runs.

        A feeder outlives its managers: a dead one's streams go on, but it does not
        keep a live one from stopping the feeder.
        """
        return any(
            want.started and process_start(want.pid) == want.started
            for want in self._wants.values()
        )


def process_start(pid: int) -> int | None:
    """When a process began, in kernel ticks since boot; None if it is not there."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except OSError:
        return None
    # The name, in parentheses, may hold anything; state is the field after it.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])
