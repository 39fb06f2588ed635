"""`shmfeed asof`: print the rows of a stream as a reader could see them at a time."""

import argparse
import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from shmfeed.bar import flag_names
from shmfeed.cli.output import format_table, format_time, print_error, print_output
from shmfeed.cli.store_options import (
    add_stream_arguments,
    check_stored,
    store_of,
    stream_of,
    warn_of_lag,
)
from shmfeed.cli.times import parse_moment
from shmfeed.errors import BadArgumentError
from shmfeed.store.reading import SeenRow, StoreReader
from shmfeed.store.schema import CAUGHT_UP
from shmfeed.text import counted
from shmfeed.validation import check_int

_DESCRIPTION = """\
Print the closed bars of a stream as a reader could see them at a time, oldest first:
those that were published until then, each in the version that was the newest. It needs
a store. RECEIVED and PUBLISHED are times of the feeder's host, UTC, and CAUSE says why
that version was written. A `~` marks a time that is not known exactly: the bar was
published at that time at the latest.
"""

_EPILOG = """\
examples:
  shmfeed asof BTCUSDT 1m --at '2026-01-31 14:03' --store bars.sqlite
  shmfeed asof BTCUSDT 1h --at 2026-01-31T14:03:00.250Z -n 1 --json
"""

_HEADER: tuple[str, ...] = (
    *("CLOSE TIME", "OPEN", "HIGH", "LOW", "CLOSE", "VOLUME", "VERSION"),
    *("RECEIVED", "PUBLISHED", "CAUSE", "FLAGS"),
)
_RIGHT = range(1, 7)
_MOST = 10_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add_stream_arguments(parser)
    add = parser.add_argument
    add(
        "--at",
        required=True,
        type=parse_moment,
        metavar="TIME",
        help="the time, UTC: '2026-01-31 14:03', an ISO time, or ms since 1970",
    )
    add("-n", type=int, default=10, metavar="N", help="bars, default: 10")
    add("--json", action="store_true", help="print a JSON object a line")


def run(args: argparse.Namespace) -> int:
    key, number = stream_of(args), check_int("-n", args.n, 1, _MOST)
    store = store_of(args)
    if store is None:
        raise BadArgumentError(
            "asof reads a store, and none is set; give --store PATH, or --config with"
            " the feeder's settings"
        )
    with StoreReader(store) as reader:
        check_stored(reader, key)
        warn_of_lag(args, reader, key, args.at.ms)
        rows = reader.as_of(key, args.at.ns, number)
    if not rows:
        print_error(f"no bar of {' '.join(key)} had been published by then")
    elif args.json:
        print_output("\n".join(json.dumps(_fields(row)) for row in rows))
    else:
        print_output("\n".join(_lines(rows)))
    unknown = sum(row.cause == CAUGHT_UP for row in rows)
    if unknown and not args.json:
        print_error(
            f"the times of {counted(unknown, 'bar')} are not known exactly: the store"
            " was not written when they were published"
        )
    return 0


def _lines(rows: Sequence[SeenRow]) -> list[str]:
    return format_table([_HEADER, *map(_cells, rows)], _RIGHT)


def _cells(row: SeenRow) -> tuple[str, ...]:
    mark = "~" if row.cause == CAUGHT_UP else ""
    return (
        format_time(row.bar.close_time),
        *(f"{value!r}" for value in row.bar[2:7]),
        str(row.version),
        _moment(row.received) or "-",
        f"{mark}{_moment(row.published)}",
        row.cause,
        " ".join(flag_names(row.bar.flags)) or "-",
    )


def _fields(row: SeenRow) -> dict[str, Any]:
    values = row.bar._asdict()
    values = {name: None if _is_nan(value) else value for name, value in values.items()}
    return {
        "time": format_time(row.bar.close_time),
        **values,
        "version": row.version,
        "received": _moment(row.received),
        "published": _moment(row.published),
        "is_exact": row.cause != CAUGHT_UP,
        "cause": row.cause,
        "flag_names": flag_names(row.bar.flags),
    }


def _is_nan(value: float) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _moment(ns: int | None) -> str | None:
    """Return ns UTC as an ISO time with microseconds, None for a time not known.

    It is rounded up: `--at` with the time that is shown finds the row.
    """
    if ns is None:
        return None
    seconds, micros = divmod(-(-ns // 1000), 1_000_000)
    try:
        moment = datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
    except (OverflowError, ValueError, OSError):
        return f"{ns} ns"
    return f"{moment.isoformat()}.{micros:06d}Z"
