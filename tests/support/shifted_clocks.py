"""Processes whose wall clock steps, and whose host is suspended, on request.

A library is preloaded into them. It adds to the clocks what a shared file says, so all
processes that are started with one `ShiftedClocks` are on one host.
"""

import mmap
import os
import subprocess
from pathlib import Path

from support.compiling import NATIVE, STRICT

NS = 1_000_000_000


class ShiftedClocks:
    """The clocks of a host; `environ` is that of its processes."""

    def __init__(self, folder: Path) -> None:
        library = folder / "shifted_clocks.so"
        source = str(NATIVE / "shifted_clocks.c")
        command = ["cc", *STRICT, "-O1", "-shared", "-fPIC", source, "-o", str(library)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        path = folder / "shifts"
        path.write_bytes(bytes(16))
        with path.open("r+b") as file:
            self._shifts = memoryview(mmap.mmap(file.fileno(), 16)).cast("q")
        self.environ = os.environ | {
            "LD_PRELOAD": str(library),
            "SHIFTED_CLOCKS": str(path),
        }

    def step(self, seconds: float) -> None:
        """Set the wall clock forward or back."""
        self._shifts[0] += round(seconds * NS)

    def suspend(self, seconds: float) -> None:
        """Let the host have been suspended for so long."""
        self._shifts[1] += round(seconds * NS)
        self._shifts[0] += round(seconds * NS)
