"""Who wants which streams of a feeder: it carries the union of all."""

from typing import NamedTuple

from shmfeed.feeder.process import process_start
from shmfeed.memory.catalog import Names

Streams = tuple[Names, ...]


class Want(NamedTuple):
    """One manager's wish: its process, and the streams."""

    pid: int
    started: int  # of that process, by the kernel's count: a pid can be given again
    streams: Streams


class Wants:
    """The wishes of all managers, by the name that each gave itself."""

    def __init__(self) -> None:
        self._wants: dict[str, Want] = {}

    def put(self, manager: str, pid: int, streams: Streams) -> Want:
        """Replace what this manager wants; without streams it wants nothing more."""
        want = Want(pid, process_start(pid) or 0, streams)
        if streams:
            self._wants[manager] = want
        else:
            self.drop(manager)
        return want

    def drop(self, manager: str) -> None:
        self._wants.pop(manager, None)

    def get(self, manager: str) -> Want | None:
        return self._wants.get(manager)

    def take_back(self, manager: str, refused: Want, before: Want | None) -> None:
        """Put back what `get` gave before a `put` that was refused.

        Only while the refused want still stands: a manager may have left meanwhile.
        """
        if self._wants.get(manager) is not (refused if refused.streams else None):
            return
        if before is None:
            self.drop(manager)
        else:
            self._wants[manager] = before

    def union(self) -> Streams:
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
