"""The figures of a soak, as README has them."""

from collections.abc import Sequence

import numpy as np
from soak.stage import Findings
from soak.usage import Usage


def report(found: Findings, usage: Usage, seconds: float) -> str:
    """Return the gate figures and the violations."""
    cpu = [value for one in found.cpu for value in one]
    per_second = found.messages / seconds
    lines = [
        f"{seconds / 60:.1f} minutes",
        f"{found.messages:,} messages, {per_second:,.0f} a second",
        f"{found.rest_requests:,} REST requests",
        f"{found.reads:,} reads",
        f"{found.rows:,} rows verified",
        f"{found.kept:,} kept frames compared with what they were",
        f"{found.compared:,} rows of the ring compared with the venue's at the end",
        f"{found.holes:,} bars that the venue lacks",
        f"{found.kills} kills survived",
        f"{found.cuts} disconnects",
        f"{found.reconnects} connections after the first",
        f"recovery after a kill: {_percentiles(found.recoveries, 's', 1.0)}",
        f"reader's call, CPU: {_percentiles(cpu, 'ms', 1e3)}",
        f"reader's call, clock: {_percentiles(found.clock, 'ms', 1e3)}",
        f"calls over 100 ms that were not put off the CPU: {found.late}",
        f"drift of the p99 of a call's CPU time: {drift(found.cpu):+.0%}",
        f"memory: {_slopes(usage)}",
        f"descriptors: {_grown(usage)}",
        f"{len(found.violations)} violations",
    ]
    return "\n".join([*lines, *(f"  {line}" for line in found.violations[:50])])


def drift(cpu: Sequence[Sequence[float]]) -> float:
    """Return by how much the p99 of the last third differs from that of the first."""
    early = [value for one in cpu for value in one[: len(one) // 3]]
    late = [value for one in cpu for value in one[-(len(one) // 3) :]]
    if not early:
        return 0.0
    before, after = np.percentile(early, 99), np.percentile(late, 99)
    return float(after / before - 1)


def _percentiles(values: Sequence[float], unit: str, scale: float) -> str:
    if not values:
        return "none"
    p50, p99, most = (np.percentile(values, q) * scale for q in (50, 99, 100))
    return f"p50 {p50:.3g}, p99 {p99:.3g}, max {most:.3g} {unit}"


def _slopes(usage: Usage) -> str:
    slopes = usage.slopes()
    return ", ".join(f"{name} {value:+.1f} MiB/h" for name, value in slopes.items())


def _grown(usage: Usage) -> str:
    return ", ".join(f"{name} {n:+d}" for name, n in usage.grown_fds().items())
