"""`shmfeed audit`: compare the published bars with the venue's history."""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

from shmfeed.cli.audit_history import UnaskedError, open_history
from shmfeed.cli.audit_rows import (
    LONG,
    SHORT,
    Auditor,
    StreamAudit,
    changed_values,
)
from shmfeed.cli.exit_codes import FAILED, USAGE
from shmfeed.cli.options import add_feed_option, attach_feed
from shmfeed.cli.output import (
    format_duration,
    format_table,
    format_time,
    print_error,
    print_output,
)
from shmfeed.cli.times import parse_moment
from shmfeed.errors import BadArgumentError
from shmfeed.feed import Feed
from shmfeed.identity import parse_identity
from shmfeed.store.reading import SeenRow, StoreReader
from shmfeed.store.schema import StoreError
from shmfeed.text import counted, printable

_DESCRIPTION = """\
Compare the closed bars of a feed with the venue's history, and where both are carried
the 1h bars with the 1m bars, rolled up. One line a stream: rows, holes between them,
revised and unconfirmed rows, what closed them, and, if a store is kept, the time
from a bar's close until readers could see it. The running feeder asks for the history,
within its rate limit; --config names the settings if no feeder runs.
"""

_EPILOG = """\
examples:
  shmfeed audit
  shmfeed audit --since '2026-01-31 08:00' --json | jq '.streams[].differences'
  shmfeed audit --config feed.yaml --store bars.sqlite
"""

_HEADER = (
    *("SYMBOL", "TIMEFRAME", "ROWS", "HOLES", "REVISIONS", "UNCONFIRMED", "CLOSED BY"),
    *("LATE P50", "LATE P99", "DIFFER"),
)
_RIGHT = (2, 3, 4, 5, 7, 8, 9)
_MOST_LINES = 10  # a stream; --json has all
_TOLD_SECONDS = 2.0  # a shorter wait is not worth a line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add_feed_option(parser)
    add = parser.add_argument
    add(
        "--since",
        type=parse_moment,
        metavar="TIME",
        help="audit the bars that close from then on, UTC; default: all of the ring",
    )
    add(
        "--config",
        metavar="FILE",
        help="file of the feeder's settings, to ask history without a feeder",
    )
    add("--store", metavar="PATH", help="file of the store, default: the feeder's")
    add(
        "--json", action="store_true", help="print a JSON object, with every difference"
    )


def run(args: argparse.Namespace) -> int:
    with ExitStack() as opened:
        feed = opened.enter_context(attach_feed(args))
        status = feed.status()
        try:
            history = open_history(feed, status["identity"], args.config)
        except UnaskedError as error:
            print_error(f"history cannot be asked: {error}")
            return USAGE
        opened.enter_context(closing(history))
        # The settings may have the path as seen from the feeder's directory.
        own = status["store"] or history.facts.store
        store = _open_store(args.store, own, opened)
        if store is not None:
            _check_identity(store, status["identity"])
        auditor = Auditor(feed, history, args.since, store, _tell_wait)
        audits = [auditor.audit(key) for key in feed.streams()]
        facts = history.facts
        source = facts.source if facts.is_own else f"{facts.source}, another venue's"
    if args.json:
        print_output(json.dumps(_as_json(feed, source, audits), indent=2))
    else:
        print_output("\n".join(_lines(feed, source, audits)))
    return _exit_code(audits)


def _open_store(
    wanted: str | None, own: str | None, opened: ExitStack
) -> StoreReader | None:
    path = wanted or own
    if path is None:
        return None
    try:
        return opened.enter_context(StoreReader(path))
    except StoreError as error:
        if wanted is not None:
            raise
        print_error(f"the audit goes on without the store: {error}")
        return None


def _check_identity(store: StoreReader, identity: str | None) -> None:
    """Raise BadArgumentError if a store has the rows of another source than a feed."""
    stored, own = store.identity(), parse_identity(identity or "")
    if stored is not None and own is not None and not stored.matches(own):
        raise BadArgumentError(
            f"store {store.path!r} holds bars of {stored}, and the feed's rows come"
            f" from {own}; give the store of this feed"
        )


def _tell_wait(seconds: float) -> None:
    if seconds >= _TOLD_SECONDS and sys.stderr.isatty():
        print_error(f"waiting {seconds:.0f} s for the rate limit of history")


def _exit_code(audits: list[StreamAudit]) -> int:
    if not audits or any(audit.differing or audit.uncompared for audit in audits):
        return FAILED
    return USAGE if any(audit.error for audit in audits) else 0


def _lines(feed: Feed, source: str, audits: list[StreamAudit]) -> Iterator[str]:
    """Yield the table, a line for each difference, and the summary."""
    if audits:
        yield from format_table([_HEADER, *map(_cells, audits)], _RIGHT)
        yield ""
    for audit in audits:
        details = list(_details(audit))
        yield from details[:_MOST_LINES]
        if len(details) > _MOST_LINES:
            more = len(details) - _MOST_LINES
            yield f"{' '.join(audit.key)}: {more} more, see --json"
    yield f"feed {feed.name}: {_summary(source, audits)}"


def _summary(source: str, audits: list[StreamAudit]) -> str:
    rows = sum(audit.history.compared for audit in audits)
    compared = counted(rows, "row")
    differing = sum(audit.differing for audit in audits)
    unasked = sum(bool(audit.error) for audit in audits)
    left = sum(audit.uncompared for audit in audits)
    verb = "differs" if differing == 1 else "differ"
    if differing:
        found = f"{counted(differing, 'bar')} {verb}"
    else:
        found = "nothing differs" if rows else "nothing could be compared"
    more = f"; {counted(left, 'bar')} not compared" if left else ""
    more += f"; history of {counted(unasked, 'stream')} not asked" if unasked else ""
    return f"{found}; {compared} compared with {printable(source)}{more}"


def _cells(audit: StreamAudit) -> tuple[str, ...]:
    closers = [f"{name} {count:,}" for name, count in audit.closed_by.items() if count]
    late = audit.lateness
    return (
        *audit.key,
        *(
            f"{n:,}"
            for n in (audit.rows, audit.holes, audit.revisions, audit.unconfirmed)
        ),
        ", ".join(closers) or "-",
        *(format_duration(seconds) for seconds in late or (None, None)),
        "?" if audit.error else f"{audit.differing:,}",
    )


def _details(audit: StreamAudit) -> Iterator[str]:
    name = " ".join(audit.key)
    if audit.error:
        yield f"{name}: history cannot be asked: {printable(audit.error)}"
    if text := _uncompared(audit):
        yield f"{name}: {text}"
    for at in audit.history.missing:
        yield f"{name} {format_time(at)}: not published, and history has it"
    for at in audit.history.unknown:
        yield f"{name} {format_time(at)}: published, and history does not have it"
    for one in audit.history.differences:
        values = f"{one.field} {one.published!r}, {one.expected!r} in history"
        yield f"{name} {format_time(one.open_time)}: {values}"
    for one in audit.rolled.differences:
        values = f"{one.field} {one.published!r}, {one.expected!r} in the {SHORT} bars"
        yield f"{name} {format_time(one.open_time)}: {values}"
    for versions in audit.changes:
        if text := _change(versions):
            yield f"{name} {format_time(versions[0].bar.open_time)}: was {text}"


def _uncompared(audit: StreamAudit) -> str:
    """Return what was asked for and not compared, "" if all was."""
    if audit.begins is None:
        if not audit.uncompared:
            return "" if audit.error else "there are no rows, and history has none"
        bars = counted(audit.uncompared, "bar")
        return f"there are no rows, and history has bars; {bars} not compared"
    if not audit.uncompared:
        return ""
    verb = "is" if audit.uncompared == 1 else "are"
    return (
        f"the {audit.origin} begins at {format_time(audit.begins)};"
        f" {counted(audit.uncompared, 'bar')} before it {verb} not compared"
    )


def _change(versions: list[SeenRow]) -> str:
    """Return the values that a bar had before, "" if it has always had the same."""
    values = changed_values(versions[0].bar, versions[-1].bar)
    return ", ".join(f"{name} {old!r}, now {new!r}" for name, old, new in values)


def _as_json(feed: Feed, source: str, audits: list[StreamAudit]) -> dict[str, Any]:
    return {
        "feed": feed.name,
        "source": source,
        "differs": any(audit.differing for audit in audits),
        "streams": [_stream_fields(audit) for audit in audits],
    }


def _stream_fields(audit: StreamAudit) -> dict[str, Any]:
    late = audit.lateness
    return {
        "symbol": audit.key[0],
        "timeframe": audit.key[1],
        "rows": audit.rows,
        "holes": audit.holes,
        "missing_bars": audit.missing,
        "revisions": audit.revisions,
        "unconfirmed": audit.unconfirmed,
        "closed_by": audit.closed_by,
        "lateness_p50": late and late.p50,
        "lateness_p99": late and late.p99,
        "compared": audit.history.compared,
        "differing": audit.differing,
        "missing": audit.history.missing,
        "unknown": audit.history.unknown,
        "differences": [one._asdict() for one in audit.history.differences],
        f"rolled_{SHORT}": audit.rolled.compared if audit.key[1] == LONG else None,
        "rolled_differences": [one._asdict() for one in audit.rolled.differences],
        "changes": [_change_fields(versions) for versions in audit.changes],
        "error": audit.error or None,
        "begins": audit.begins,
        "uncompared": audit.uncompared,
    }


def _change_fields(versions: list[SeenRow]) -> dict[str, Any]:
    values = changed_values(versions[0].bar, versions[-1].bar)
    return {
        "open_time": versions[0].bar.open_time,
        "causes": [version.cause for version in versions],
        "values": {name: [old, new] for name, old, new in values},
    }
