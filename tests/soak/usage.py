"""The memory and descriptors of processes over time."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

_PAGE = os.sysconf("SC_PAGE_SIZE")
_HOUR = 3600.0
_MIB = 1 << 20
MOST_FDS = 2  # of growth: a connection that is being replaced
MIB_AN_HOUR = 1.0  # of growth


class Sample(NamedTuple):
    """The use of one process at one moment: time.monotonic(), private bytes, fds."""

    time: float
    memory: int
    fds: int


class Usage:
    """Samples of processes by name."""

    def __init__(self) -> None:
        self.samples: dict[str, list[Sample]] = {}
        self._next = 0.0

    def take_each(self, seconds: float, pids: Callable[[], dict[str, int]]) -> None:
        """Add samples if the last ones are `seconds` old."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + seconds
            self.take(pids())

    def take(self, pids: dict[str, int]) -> None:
        """Add a sample of each process that lives."""
        for name, pid in pids.items():
            with contextlib.suppress(OSError):
                sample = Sample(time.monotonic(), private_bytes(pid), _fds(pid))
                self.samples.setdefault(name, []).append(sample)

    def grown_memory(self) -> dict[str, tuple[float, float]]:
        """Return by how many MiB each grew from the middle third to the last.

        The median of each third is taken, and the hours between their middles. So a
        name may stand for several processes, one after the other.
        """
        found = {}
        for name, samples in self.samples.items():
            third = len(samples) // 3
            if third < 3:
                continue
            parts = samples[-2 * third : -third], samples[-third:]
            middle, late = (np.median([one.memory for one in part]) for part in parts)
            before, after = (np.median([one.time for one in part]) for part in parts)
            hours = float(after - before) / _HOUR
            found[name] = float(late - middle) / _MIB, hours
        return found

    def grown_fds(self) -> dict[str, int]:
        """Return by how many descriptors each grew from the first third to the last."""
        found = {}
        for name, samples in self.samples.items():
            third = len(samples) // 3
            if third:
                early = max(one.fds for one in samples[:third])
                found[name] = max(one.fds for one in samples[-third:]) - early
        return found

    def excesses(self, noise_mib: float) -> Iterator[str]:
        """Yield each growth over the limits, of memory beyond `noise_mib`."""
        for name, grown in self.grown_fds().items():
            if grown > MOST_FDS:
                yield f"{name} has {grown} descriptors more"
        for name, (mib, hours) in self.grown_memory().items():
            most = noise_mib + MIB_AN_HOUR * hours
            if mib > most:
                text = f"{mib:.1f} MiB more in its last third, over {most:.1f}"
                yield f"{name} has {text}"


def private_bytes(pid: int) -> int:
    """Return the resident memory of a process that is not shared."""
    _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_text().split()
    return (int(resident) - int(shared)) * _PAGE


def _fds(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208  # names alone
