"""The figures of a load: as text, and as the table that stands in README."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from load.abuse import Abuse
from load.findings import Findings, drift
from load.size import Size
from soak.report import by_kind, memory_growth
from soak.usage import Usage

MARKS = "<!-- load -->\n", "<!-- load, end -->"
_MOST_LINES = 30
_KIB = 1024


def report(found: Findings, rows: Sequence[tuple[str, str]]) -> str:
    """Return the figures and the violations, a line each."""
    lines = [f"{name}: {value}" for name, value in rows]
    return "\n".join([*lines, *(f"  {one}" for one in found.violations[:_MOST_LINES])])


def figures(
    found: Findings, usage: Usage, size: Size, seconds: float
) -> list[tuple[str, str]]:
    """Return the figures by name."""
    published, awake, read = np.array([*found.closes.values()] or [(0.0,) * 3]).T
    stopped = [found.closes[c][2] for c in found.stopped if c in found.closes]
    return [
        ("minutes", f"{seconds / 60:.1f}"),
        ("streams", f"{size.streams:,}: {size.symbols} x {' '.join(size.timeframes)}"),
        ("strategy processes", f"{size.strategies}"),
        (f"closes of {size.symbols} bars and more", f"{len(found.closes)}"),
        ("from the close to the last bar's publishing, a reader saw", _ms(published)),
        ("from the close until the last strategy is awake", _ms(awake)),
        ("from the close until the last has read 10 symbols", _ms(read)),
        ("from the close until each has read 10 symbols", _ms(found.each)),
        ("the last has read 10 symbols, with a reader stopped", _ms(stopped)),
        (
            "`/dev/shm` a stream",
            f"{found.taken / _KIB:.0f} KiB in use, {found.sized / _KIB:.0f} by size",
        ),
        *_probes(found),
        *((f"control client: {one.name}", _end(one)) for one in found.abuses),
        (
            "drift of the last strategy's read, last third less the first",
            f"{drift(found):+.1f} ms",
        ),
        ("private memory, last third less the middle one", memory_growth(usage)),
        ("growth of descriptors", by_kind(usage.grown_fds(), "{:+d}")),
        ("violations", f"{len(found.violations)}"),
    ]


def _probes(found: Findings) -> Iterator[tuple[str, str]]:
    for name in dict.fromkeys(one.name for one in found.probes):
        for stopped in (False, True):
            chosen = [
                one.seconds * 1000
                for one in found.probes
                if (one.name, one.stopped) == (name, stopped)
            ]
            yield f"{name}{', with a reader stopped' * stopped}", _ms(chosen)


def _end(one: Abuse) -> str:
    cut = "not cut off" if one.cut_seconds is None else f"{one.cut_seconds:.1f} s"
    answer = one.answer_seconds
    told = "no answer" if answer is None else f"an answer within {answer * 1000:.0f} ms"
    return f"all closed after {cut}; meanwhile others had {told}"


def _ms(values: Iterable[float]) -> str:
    found = list(values)
    if not found:
        return "none"
    p50, p99, most = np.percentile(found, (50, 99, 100))
    return f"p50 {p50:.0f}, p99 {p99:.0f}, max {most:.0f} ms"
