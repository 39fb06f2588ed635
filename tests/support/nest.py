"""Forked children of a small process, for tests that fork hundreds of them.

A fork of a test run copies the page tables of all that it has collected, and later each
page that either side writes: twenty milliseconds. A nest is a fresh interpreter, which
forks within two. It has one child at a time. The child runs a function of a module that
the nest can import.
"""

import base64
import gc
import io
import mmap
import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from support.forks import Fork

_WORDS = 64
_PROGRAM = """
import sys
sys.path[:] = {path!r}
from support.nest import serve
serve({board})
"""


class _Pickler(pickle.Pickler):
    """Pickles functions by name, and the shared board as a mark."""

    def __init__(self, file: io.BytesIO, board: memoryview) -> None:
        super().__init__(file)
        self._board = board

    def persistent_id(self, one: object) -> str | None:
        return "board" if one is self._board else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, board: memoryview) -> None:
        super().__init__(file)
        self._board = board

    def persistent_load(self, _: object) -> memoryview:
        return self._board


class Nest:
    """A process that forks on request. A context manager.

    Attributes:
        board: Ints that the test, the nest and its children share.
    """

    def __init__(self) -> None:
        fd = os.memfd_create("board")
        try:
            os.ftruncate(fd, _WORDS * 8)
            self.board = _mapped(fd)
            program = _PROGRAM.format(path=sys.path, board=fd)
            self._process = subprocess.Popen(
                [sys.executable, "-W", "error", "-c", program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=[fd],
            )
        finally:
            os.close(fd)

    def clear_board(self) -> memoryview:
        """Return the board, of zeros."""
        for word in range(_WORDS):
            self.board[word] = 0
        return self.board

    def fork(self, work: Callable[..., object], *arguments: object) -> "Nestling":
        """Return a child that runs `work(*arguments)`."""
        return Nestling(self, self.ask("fork", work, *arguments))

    def ask(self, *request: object) -> Any:
        """Return the nest's answer to a request; fail as the nest has failed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        text = io.BytesIO()
        _Pickler(text, self.board).dump(request)
        self._process.stdin.write(base64.b64encode(text.getvalue()) + b"\n")
        self._process.stdin.flush()
        answer = base64.b64decode(self._process.stdout.readline())
        assert answer, "the nest has ended"
        done, found = pickle.loads(answer)
        assert done, found
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        with self._process:  # closes its pipes and reaps it
            pass


class Nestling:
    """The child of a nest. A context manager, as `support.forks.Fork`."""

    def __init__(self, nest: Nest, pid: int) -> None:
        self._nest = nest
        self.pid = pid

    def kill(self) -> None:
        """SIGKILL it, if it still runs, and reap it."""
        self._nest.ask("kill")

    def wait(self) -> int:
        """Wait for the end. Return the exit code, or minus the signal's number."""
        code: int = self._nest.ask("wait")
        return code

    def result(self) -> Any:
        """Return the result of `work`; fail if it raised or did not end in time."""
        return self._nest.ask("result")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._nest.ask("__exit__", None, None, None)


def serve(fd: int) -> None:
    """Fork, wait and answer until the test closes the pipe: the nest's own side."""
    board = _mapped(fd)
    os.close(fd)
    answers = os.dup(1)
    os.dup2(2, 1)  # a child that prints disturbs no answer
    child: Fork | None = None
    for line in iter(sys.stdin.buffer.readline, b""):
        try:
            op, *given = _Unpickler(io.BytesIO(base64.b64decode(line)), board).load()
            if op == "fork":
                gc.freeze()  # a child's collections touch no page of the nest's
                child = Fork(*given)
                answer = True, child.pid
            else:
                answer = True, getattr(child, op)(*given)
        except Exception:  # noqa: BLE001 # the test raises it
            answer = False, traceback.format_exc()
        os.write(answers, base64.b64encode(pickle.dumps(answer)) + b"\n")


def _mapped(fd: int) -> memoryview:
    return memoryview(mmap.mmap(fd, _WORDS * 8)).cast("q")
