"""The mark of the processes that a backtest starts: they read no live bar.

A forked child has the mark in its memory. Any other child finds SHMFEED_BACKTEST in its
environment: this process sets the variable while a backtest is in force, and restores
it afterwards. A process that has the mark keeps it, and so does any that it starts.

The callback of a weak reference may refresh the mark at any moment: amid another
refresh of the same thread, or in a forked child whose lock belongs to a thread that no
longer exists. So a callback never waits for the lock. Each refresh counts a version;
the holder of the lock applies the state again until it has applied the newest version.
"""

import itertools
import os
import threading
from collections.abc import Callable

from shmfeed.validation import BACKTEST_VARIABLE, marks_backtest
from wealthdata import price_table

VARIABLE = BACKTEST_VARIABLE


class BacktestMark:
    """The mark of this process, and of the processes that it starts.

    Attributes:
        is_set: True if this process was started by a backtest: it reads no live bar.
        in_force: Return True while a backtest is in force in this process. The argument
            is True where every context must be asked again.
    """

    def __init__(self) -> None:
        self._earlier = os.environ.get(VARIABLE)
        self.is_set = marks_backtest(self._earlier or "")
        self.in_force: Callable[[bool], bool] = lambda _: False
        self._lock = threading.RLock()
        self._versions = itertools.count(1)
        self._version = self._applied = 0
        self._shown = False  # the variable is this process's
        self._forks_marked = False
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=self._before_fork, after_in_child=self._after_fork
            )

    def refresh(self, wait: bool = True) -> None:
        """Set or restore the variable, by what is in force now.

        With `wait=False` it may be another thread, or the caller's own interrupted
        refresh, that does so.
        """
        self._version = next(self._versions)
        while self._applied != self._version and self._lock.acquire(blocking=wait):
            try:
                version = self._version
                self._show(self.in_force(False))
                self._applied = version
            finally:
                self._lock.release()

    def _show(self, wanted: bool) -> None:
        """Change the variable first, then `_shown`: a refresh may run in between."""
        if self.is_set or wanted is self._shown:
            return
        if wanted:
            os.environ[VARIABLE] = "1"
        elif self._earlier is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = self._earlier
        self._shown = wanted

    def _before_fork(self) -> None:
        marked = True  # where a context raises
        try:
            marked = self.is_set or self.in_force(True)
        finally:
            self._forks_marked = marked  # one store: another thread may fork too

    def _after_fork(self) -> None:
        self._lock = threading.RLock()  # a thread of the parent may have held it
        if self._forks_marked:
            self.is_set = True
            os.environ.pop(VARIABLE, None)  # a change, by which choices are made again
            os.environ[VARIABLE] = "1"
            price_table.clear()  # what the parent read is live
        else:
            self.refresh()


mark = BacktestMark()
