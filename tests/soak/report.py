"""The figures of a soak: as text, and as the table that stands in README."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from soak.judges import drift
from soak.recovery import Recovery
from soak.stage import Findings
from soak.usage import Usage

MARKS = "<!-- soak -->\n", "<!-- soak, end -->"
_MOST_LINES, _MOST_SLOW = 50, 3


def report(found: Findings, usage: Usage, seconds: float) -> str:
    """Return the gate figures and the violations, a line each."""
    lines = [f"{name}: {value}" for name, value in figures(found, usage, seconds)]
    slowest = sorted(found.recoveries, key=lambda one: one.own_seconds)[-_MOST_SLOW:]
    lines[-1:-1] = [f"slow recovery: {one}" for one in slowest]
    return "\n".join([*lines, *(f"  {one}" for one in found.violations[:_MOST_LINES])])


def figures(found: Findings, usage: Usage, seconds: float) -> Sequence[tuple[str, str]]:
    """Return the gate figures by name."""
    cpu = [value for one in found.cpu for value in one]
    alone = [one for one in found.recoveries if not one.is_troubled]
    troubled = [one for one in found.recoveries if one.is_troubled]
    return [
        ("minutes", f"{seconds / 60:.1f}"),
        ("messages", f"{found.messages:,}, {_rate(found):,.0f} a second under load"),
        ("REST requests", f"{found.rest_requests:,}"),
        ("reads", f"{found.reads:,}"),
        ("rows verified by readers", f"{found.rows:,}"),
        ("kept frames compared with what they were", f"{found.kept:,}"),
        ("kept frames that were lapped and said so", f"{found.lapped:,}"),
        ("rows compared with the venue's at the end", f"{found.compared:,}"),
        ("bars among them that the venue lacks", f"{found.holes:,}"),
        ("kills survived", f"{found.kills}"),
        ("disconnects", f"{found.cuts}"),
        ("connections after the first", f"{found.reconnects}"),
        ("silences of the sockets", f"{found.mutes}"),
        ("recovery after a kill", _lengths(alone)),
        ("recovery after a kill among other troubles", _lengths(troubled)),
        ("reader's call, CPU time", _percentiles(cpu, "ms", 1e3)),
        ("reader's call, clock", _percentiles(found.clock, "ms", 1e3)),
        ("calls over 100 ms that were not put off the CPU", f"{found.late}"),
        ("drift of the p99 of a call's CPU time", f"{drift(found.cpu):+.0%}"),
        ("`shmfeed audit` at the end", found.audit),
        ("private memory, last third less the middle one", memory_growth(usage)),
        ("growth of descriptors", by_kind(usage.grown_fds(), "{:+d}")),
        ("violations", f"{len(found.violations)}"),
    ]


def write_table(
    page: Path, rows: Sequence[tuple[str, str]], marks: tuple[str, str] = MARKS
) -> None:
    """Put the figures between the marks of a page."""
    begin, last = marks
    before, _, rest = page.read_text().partition(begin)
    _, end, after = rest.partition(last)
    if not end:
        raise SystemExit(f"{page} has no marks {begin.strip()} and {last}")
    table = "".join(f"| {name} | {value} |\n" for name, value in rows)
    head = "| figure | value |\n|---|---|\n"
    page.write_text(f"{before}{begin}{head}{table}{end}{after}")


def _rate(found: Findings) -> float:
    return found.messages / found.seconds if found.seconds else 0.0


def _lengths(recoveries: Sequence[Recovery]) -> str:
    clock = _percentiles([one.seconds for one in recoveries], "s", 1.0)
    own = _percentiles([one.own_seconds for one in recoveries], "s", 1.0)
    return f"{len(recoveries)}: {clock}; not counting waits for a CPU {own}"


def _percentiles(values: Sequence[float], unit: str, scale: float) -> str:
    if not values:
        return "none"
    p50, p99, most = (np.percentile(values, q) * scale for q in (50, 99, 100))
    return f"p50 {p50:.3g}, p99 {p99:.3g}, max {most:.3g} {unit}"


def memory_growth(usage: Usage) -> str:
    """Return the growth of each kind of process."""
    grown = {name: mib for name, (mib, _) in usage.grown_memory().items()}
    return by_kind(grown, "{:+.2f}") + " MiB"


def by_kind(values: Mapping[str, float], form: str) -> str:
    """Return a value for each process, and a range for several readers."""
    kinds: dict[str, list[float]] = {}
    for name, value in values.items():
        kinds.setdefault(name.partition(" ")[0], []).append(value)
    parts = []
    for kind, found in kinds.items():
        ends = dict.fromkeys(form.format(end(found)) for end in (min, max))
        parts.append(f"{kind} {' to '.join(ends)}")
    return ", ".join(parts)
