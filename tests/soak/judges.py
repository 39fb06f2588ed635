"""The judges of a soak: the limit of each figure. Each has a case that must fail."""

from collections.abc import Iterator, Sequence

import numpy as np
from soak.stage import Findings
from soak.usage import Usage

CALL_CPU = 0.010  # s of a reader's call
RECOVERY_SECONDS = 2.0  # the p99 of recoveries without other troubles
# With REST troubles a request may hang for 10 s; after it `repair_grace` begins.
TROUBLED_SECONDS = 20.0
_NOISE_MIB = 1.0  # of a process's memory
_MOST_DRIFT = 0.10
_PARTS = 10  # of a third, so that its own spread shows


def judge(found: Findings, usage: Usage) -> None:
    """Add the limits that the figures exceed to the violations."""
    found.violations += [*_recoveries(found), *usage.excesses(_NOISE_MIB)]
    found.violations += _calls(found)


def _recoveries(found: Findings) -> Iterator[str]:
    own = [one.own_seconds for one in found.recoveries if not one.is_troubled]
    p99 = float(np.percentile(own, 99)) if own else 0.0
    if p99 > RECOVERY_SECONDS:
        yield f"the p99 of recoveries is {p99:.2f} s, more than {RECOVERY_SECONDS:g} s"
    for one in found.recoveries:
        if one.own_seconds > TROUBLED_SECONDS:
            yield f"a recovery took {one}"


def _calls(found: Findings) -> Iterator[str]:
    over = sum(value > CALL_CPU for one in found.cpu for value in one)
    if over:
        yield f"{over} calls took more than 10 ms of CPU time"
    if found.late:
        yield f"{found.late} calls took more than 100 ms"
    by = drift(found.cpu)
    if by > _MOST_DRIFT and _is_slower(found.cpu):
        yield f"the p99 of a call's CPU time has grown by {by:.0%}"


def drift(cpu: Sequence[Sequence[float]]) -> float:
    """Return by how much the p99 of the last third differs from that of the first."""
    early, late = _thirds(cpu)
    if not early:
        return 0.0
    before, after = (np.percentile(np.concatenate(part), 99) for part in (early, late))
    return float(after / before - 1)


def _is_slower(cpu: Sequence[Sequence[float]]) -> bool:
    """Return True if the p99 of nearly each late part is above those of early ones."""
    early, late = (
        [
            np.percentile(part, 99)
            for one in third
            for part in np.array_split(one, _PARTS)
            if len(part)
        ]
        for third in _thirds(cpu)
    )
    return bool(np.percentile(late, 25) > np.percentile(early, 75))


def _thirds(
    cpu: Sequence[Sequence[float]],
) -> tuple[list[Sequence[float]], list[Sequence[float]]]:
    """Return the first and the last third of each reader's calls."""
    counts = [(one, len(one) // 3) for one in cpu if len(one) >= 3]
    return [one[:n] for one, n in counts], [one[-n:] for one, n in counts]
