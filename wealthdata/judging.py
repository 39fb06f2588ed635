"""The rows that a read has found, judged and described.

`judge` does what the reactions ask for; `attrs_of` returns the attrs of the rows. What
the current task has read is noted here too.
"""

import time
from typing import Any

from shmfeed.bar import StreamKey
from wealthdata.attachment import selected_feed
from wealthdata.attrs import FrameAttrs, make_attrs, record_of
from wealthdata.columns import BarColumns, count_missing, from_bars
from wealthdata.completeness import Window, check_rows
from wealthdata.facts import (
    ContextRecord,
    ReadRecord,
    RingFacts,
    count_flags,
    due_of_context,
)
from wealthdata.freshness import (
    StreamId,
    check,
    check_context,
    warn_of_behind,
    warn_of_lost,
)
from wealthdata.handed import TaskRecord, current_record
from wealthdata.kept_bars import ORIGIN_KEYS, keep_bars
from wealthdata.merge import FoundBars, Sources, behind_of
from wealthdata.reactions import Reactions
from wealthdata.read_log import tracked
from wealthdata.relayed import note_relay_age
from wealthdata.request import PriceRequest


def judge(
    found: FoundBars,
    key: StreamKey,
    request: PriceRequest,
    sources: Sources,
    reactions: Reactions,
    shown: FoundBars | None = None,
) -> None:
    """Raise, warn once or ignore what is wrong with the rows, as the reactions say.

    `shown` has the rows of the frame, None if it has all that were found. Raise
    StaleFeedError, GapError, ShortError or UnconfirmedError.
    """
    ring = found.ring
    if ring is not None:
        warn_of_lost(ring)
    name = selected_feed(sources.named)
    if _is_context_alone(found, sources):
        age = _age_of_context(found, request)
        lacking = sources.feed is None
        check_context((name or "", *key), age, lacking, sources.owner, reactions)
    elif ring is not None and found.status is not None and name is not None:
        stream = found.feed or name, *key
        check(stream, found.status, reactions.max_age, reactions.on_stale, ring)
    if not sources.backtest:
        warn_of_behind((found.feed or "", *key), behind_of(found, request))
    if reactions.heeds_rows:
        feed = None if found.source == "context" else found.feed
        shown = found if shown is None else shown
        limits = shown.first, shown.last, request.limit
        window = Window((feed or "", *key), shown.columns, *limits, ring, shown.rolled)
        check_rows(window, reactions)


def judge_unknown(
    key: StreamKey, request: PriceRequest, sources: Sources, reactions: Reactions
) -> None:
    """Raise, warn once or ignore that no source has a security of a list.

    Raise ShortError.
    """
    if reactions.heeds_rows:
        feed = "" if sources.feed is None else sources.feed.name
        window = Window((feed, *key), from_bars([]), 0, 0, request.limit)
        check_rows(window, reactions)


def _is_context_alone(found: FoundBars, sources: Sources) -> bool:
    """Return True in live use if no feed says how fresh a context's rows are."""
    if sources.backtest or found.source != "context":
        return False
    return not found.has_ring_rows


def _age_of_context(found: FoundBars, request: PriceRequest) -> float | None:
    """Return the seconds since the close of the newest row, None without a row."""
    if found.first == found.last:
        return None
    now = time.time_ns() // 1_000_000 if request.now is None else request.now
    return (now - int(found.columns.close_time[found.last - 1])) / 1000


def note_rows(found: FoundBars, key: StreamKey) -> None:
    """Note that the current task has read these rows."""
    if found.feed is not None and found.first < found.last:
        stream = found.feed, *key
        note_closed(current_record(), stream, found.columns, found.last)


def note_closed(
    task: TaskRecord, stream: StreamId, bars: BarColumns, last: int
) -> None:
    """Note that a task has read the closed ones of the first `last` bars."""
    last -= bars.forming and last == len(bars)
    if last > 0:
        task.note_read(stream, int(bars.close_time[last - 1]))


def attrs_of(
    found: FoundBars, key: StreamKey, request: PriceRequest, sources: Sources
) -> FrameAttrs:
    """Return the attrs of these rows."""
    bars, first, last, status = found.columns, found.first, found.last, found.status
    forming = bars.forming and last == len(bars) and first < last
    rolled = found.rolled
    left_out = 0 if rolled is None else rolled.left_out
    feed, source = sources.feed, found.source
    if source == "live" and feed is not None:
        source = feed.source
    values: dict[str, Any] = {
        "source": source,
        "feed": found.feed,
        "identity": None if feed is None else feed.identity,
        "rolled": None if rolled is None else rolled.source,
        "age": None if status is None else status.age,
        "state": None if status is None else status.state,
        "health": None if status is None else status.health,
        "behind": behind_of(found, request),
        "forming": forming,
        "short": max(0, (request.limit or 0) - (last - first)),
        "gaps": count_missing(bars, first, last, key[1]) + left_out,
    }
    if not found.shared:
        values |= count_flags(bars, first, last)
    if found.source == "context":
        values["identity"], values["age"] = None, None
        if not sources.backtest or request.now is not None:
            values["age"] = _age_of_context(found, request)
    if found.ring is None or _is_context_alone(found, sources):
        if not sources.backtest and first < last:
            values["due"] = due_of_context(found.newest, request.now, key[1])
        return make_attrs(ContextRecord(key, bars, first, last), values)
    window = first, last - forming
    noted = found.epoch, values["age"], found.newest
    keeps = tracked or not found.shared
    kept = keep_bars(bars, first, last) if keeps else None
    record = ReadRecord(RingFacts(found.ring, key[1]), bars, window, *noted, kept)
    note_relay_age(values, [found.ring], record.moment)
    return make_attrs(record, values)


def log_frame(attrs: FrameAttrs, task: TaskRecord | None = None) -> None:
    """Note the read of a frame for the next decision of a task, else of this one."""
    told = {key: attrs[key] for key in ORIGIN_KEYS} if attrs.keeps_rows else attrs
    log = (task or current_record()).log
    log.add(told, record_of(attrs))
