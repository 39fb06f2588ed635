"""The summary of a night, as tables."""

import statistics
from collections.abc import Sequence

from night.verdict import Verdict

_COLUMNS = ("feed", "troubles", "log lines of losses", "rows", "missing", "unconfirmed")
_MORE = ("of them not final", "wrong", "most dials a minute")


def report(verdicts: Sequence[Verdict], leftovers: Sequence[str]) -> str:
    """Return the summary: the feeds, the kinds of trouble, the failures."""
    feeds = [
        (
            one.feed.rpartition("-")[2],
            len(one.recoveries) + one.overtaken,
            one.losses,
            one.rows,
            one.missing,
            one.unconfirmed,
            one.corrected,
            one.wrong,
            one.dials,
        )
        for one in verdicts
    ]
    parts = [_table((*_COLUMNS, *_MORE), feeds), _kinds(verdicts)]
    failures = [f"{one.feed}: {text}" for one in verdicts for text in one.failures]
    failures += [f"left behind: {text}" for text in leftovers]
    parts.append("\n".join(failures) if failures else "no failure, nothing left behind")
    return "\n\n".join(parts)


def _kinds(verdicts: Sequence[Verdict]) -> str:
    times: dict[str, list[float]] = {}
    for one in verdicts:
        for kind, seconds in one.recoveries:
            times.setdefault(kind, []).append(seconds)
    rows = [
        (kind, len(found), f"{statistics.median(found):.1f} s", f"{max(found):.1f} s")
        for kind, found in sorted(times.items())
    ]
    return _table(("trouble", "times", "well again after, median", "longest"), rows)


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [columns, ["---"] * len(columns), *([*map(str, row)] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
