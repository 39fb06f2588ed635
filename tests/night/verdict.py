"""Judge a night from outside, by its rows, log lines, samples and dials."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from night.player import GOOD, Played, Sample

from shmfeed.bar import UNCONFIRMED, StreamKey
from shmfeed.simulator import grid, verify
from shmfeed.simulator.log import most_within

STEADY = 1.5  # s; a loss is not noticed at once
LONGEST_RECOVERY = 70.0  # s: the default of reconnect_delay_max, and a handshake
SETTLING = 5.0  # s after a recovery: bars of its seconds may have been missed
DIALS, MINUTE = 60, 60.0  # the default of dials_per_minute
LOSING = frozenset(
    {"cut", "close 1001", "close 1012", "close 1013", "away", "dead", "503", "429"}
    | {"ban", "slow handshake"}
)
LOSS_EVENTS = frozenset({"loss", "attempt", "error"})


class Window(NamedTuple):
    """Time in which a feed may have been away: a trouble, until the feed was well."""

    begin: float
    end: float


class StreamRows(NamedTuple):
    """The closed rows of one stream."""

    key: StreamKey
    open_times: np.ndarray
    values: np.ndarray
    flags: np.ndarray


@dataclass
class Verdict:
    """The findings about one feed; a night is good if `failures` is empty.

    Attributes:
        failures: Broken promises, one line each.
        recoveries: Seconds from the end of a trouble until the feed was well, by kind.
    """

    feed: str
    failures: list[str] = field(default_factory=list)
    recoveries: list[tuple[str, float]] = field(default_factory=list)
    overtaken: int = 0  # troubles from which the next one kept the feed
    losses: int = 0
    rows: int = 0
    unconfirmed: int = 0
    corrected: int = 0  # unconfirmed rows that are not the market's
    missing: int = 0
    wrong: int = 0
    dials: int = 0


def recovered(played: Played, samples: Sequence[Sample]) -> float | None:
    """Return when the feed was well after a trouble, and stayed so; None for never."""
    well: float | None = None
    for sample in samples:
        if sample.time < played.end:
            continue
        if sample.state != "connected" or sample.health not in GOOD:
            well = None
        elif well is None:
            well = sample.time
        elif sample.time - well >= STEADY:
            return well
    return None


def was_connected(played: Played, samples: Sequence[Sample]) -> bool:
    """Return True if the feed had a connection to lose when the trouble began."""
    earlier = [sample for sample in samples if sample.time < played.begin]
    return bool(earlier) and earlier[-1].state == "connected"


def judge_recovery(
    verdict: Verdict, troubles: Sequence[Played], number: int, samples: Sequence[Sample]
) -> None:
    """Judge that the feed is well within the longest delay after a trouble.

    Where the next trouble begins before, only the last one counts.
    """
    played = troubles[number]
    end = recovered(played, samples)
    if end is None:
        verdict.failures.append(f"did not recover from {played}")
        return
    later = troubles[number + 1 :]
    if later and later[0].begin < end:
        verdict.overtaken += 1
        return
    seconds = end - played.end
    verdict.recoveries.append((played.trouble.kind, seconds))
    if seconds > LONGEST_RECOVERY:
        verdict.failures.append(f"needed {seconds:.1f} s to recover from {played}")


def windows(troubles: Sequence[Played], samples: Sequence[Sample]) -> list[Window]:
    """Return the time of each trouble, until the feed was well again."""
    ends = [recovered(played, samples) for played in troubles]
    return [
        Window(played.begin - 1.0, (float("inf") if end is None else end) + SETTLING)
        for played, end in zip(troubles, ends, strict=True)
    ]


def judge_health(verdict: Verdict, samples: Sequence[Sample], status: Any) -> None:
    """Judge that every stream is live at the end."""
    if not samples or samples[-1].state != "connected":
        verdict.failures.append(f"ends {samples[-1:]}")
    for stream in status["streams"]:
        if stream["health"] not in GOOD:
            name = f"{stream['symbol']} {stream['timeframe']}"
            verdict.failures.append(f"{name} ends {stream['health']}: {stream['why']}")


def judge_losses(
    verdict: Verdict,
    troubles: Sequence[Played],
    connected: Sequence[bool],
    spans: Sequence[Window],
    lines: Iterable[dict[str, Any]],
    manager_lines: Iterable[tuple[float, str]],
) -> None:
    """Judge that each loss is logged in its time, and nothing but the losses."""
    losses = [line for line in lines if line.get("event") in LOSS_EVENTS]
    verdict.losses = len(losses)
    times = [line["monotonic"] for line in losses]
    told = list(manager_lines)
    for played, was_up, span in zip(troubles, connected, spans, strict=True):
        kind = played.trouble.kind
        if kind in LOSING and was_up and not _within(times, span):
            verdict.failures.append(f"no line tells of {played}")
        if kind == "feeder killed" and not _within((t for t, _ in told), span):
            verdict.failures.append(f"no line of the manager tells of {played}")
    for line in losses:
        if not any(span.begin <= line["monotonic"] <= span.end for span in spans):
            verdict.failures.append(f"a loss without a trouble: {line['message']}")


def _within(times: Iterable[float], span: Window) -> bool:
    return any(span.begin <= time <= span.end for time in times)


def judge_rows(
    verdict: Verdict,
    seed: int,
    rows: StreamRows,
    spans: Sequence[Window],
    offset: float,
) -> None:
    """Judge that no closed row is wrong, and that rows are missing in troubles alone.

    Args:
        verdict: Takes the findings.
        seed: The market's.
        rows: The rows of one stream.
        spans: When rows may be missing, in time.monotonic().
        offset: Seconds since 1970 at the zero of time.monotonic().
    """
    name = " ".join(rows.key)
    doubtful = (rows.flags & UNCONFIRMED) != 0
    for is_doubtful in (False, True):
        chosen = doubtful == is_doubtful
        part = rows.open_times[chosen], np.ascontiguousarray(rows.values[:, chosen])
        wrong = verify(seed, *rows.key, part)
        bad = [
            int(time)
            for time, values in zip(part[0], part[1].T, strict=True)
            if verify(seed, *rows.key, (np.array([time]), values[:, None]))
        ]
        if is_doubtful:
            verdict.corrected += wrong
        else:
            verdict.wrong += wrong
            if wrong:
                times = ", ".join(map(str, bad[:5]))
                text = f"{name}: {wrong} confirmed rows are wrong: {times}"
                verdict.failures.append(text)
    verdict.rows += len(rows.open_times)
    verdict.unconfirmed += int(np.count_nonzero(doubtful))
    times = [*map(int, rows.open_times)]
    for before, after in itertools.pairwise(times):
        begin = grid.end(before, rows.key[1])
        while begin < after:
            verdict.missing += 1
            end = grid.end(begin, rows.key[1])
            if not any(_overlap(begin, end, span, offset) for span in spans):
                verdict.failures.append(f"{name}: {begin} is missing without a trouble")
            begin = end


def _overlap(begin: int, end: int, span: Window, offset: float) -> bool:
    return begin / 1000 <= span.end + offset and end / 1000 >= span.begin + offset


def judge_gaps(verdict: Verdict, gaps: int) -> None:
    """Judge that each missing row is counted as a gap."""
    if gaps < verdict.missing:
        text = f"{verdict.missing} rows are missing, and {gaps} are counted"
        verdict.failures.append(text)


def judge_dials(verdict: Verdict, dials: list[float]) -> None:
    """Judge that no minute has more dials than the budget."""
    verdict.dials = most_within(dials, MINUTE)
    if verdict.dials > DIALS:
        verdict.failures.append(f"{verdict.dials} dials in a minute")
