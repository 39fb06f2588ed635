"""`shmfeed readers`: list the processes that read a feed."""

import argparse
import json
import time

from shmfeed.cli.options import add_feed_option, chosen_feed, owner_of
from shmfeed.cli.output import (
    format_duration,
    format_table,
    format_time,
    print_output,
)
from shmfeed.observe.readers import FeedReader, FeedReaders, find_readers
from shmfeed.segment.mapping import place
from shmfeed.text import counted, printable

_DESCRIPTION = """\
List the processes that read a feed: pid, user, the version of shmfeed that each has,
since when, and the command. They are found in /proc; the feed and its readers are left
alone. Of other users' processes, which may read the feed of a group, the host shows
root what they have mapped; where it does not, they are counted. Processes in other PID
namespaces (containers that share this /dev/shm) are not seen.
"""

_EPILOG = """\
examples:
  shmfeed readers
  shmfeed readers --feed spot --json | jq '.readers[].pid'
"""

_HEADER = ("PID", "USER", "VERSION", "SINCE", "FOR", "COMMAND")
_RIGHT = (0, 4)
_EARLIER = " (an earlier segment of the feed; it has not read since)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add_feed_option(parser)
    parser.add_argument("--json", action="store_true", help="print the list as JSON")


def run(args: argparse.Namespace) -> int:
    where = place(chosen_feed(args), owner_of(args))
    found = find_readers(where)
    if args.json:
        readers = [_json_row(reader) for reader in found.readers]
        document = {
            "feed": where.name,
            "readers": readers,
            "unreadable": found.unreadable,
            "of_others": found.of_others,
        }
        print_output(json.dumps(document, indent=2))
    else:
        print_output(format_readers(where.name, found))
    return 0


def format_readers(feed: str, found: FeedReaders) -> str:
    """Return the readers as a table, and how much of the host was looked at."""
    total = f"feed {feed}: {counted(len(found.readers), 'reader')}"
    lines = [f"{total}; processes in other PID namespaces are not seen"]
    if found.unreadable:
        skipped = counted(found.unreadable, "process", "processes")
        lines.append(f"{skipped} of this user could not be looked into")
    if found.of_others:
        hidden = counted(found.of_others, "process", "processes")
        lines.append(
            f"{hidden} of other users may read the feed and could not be looked into;"
            " root can"
        )
    if found.readers:
        lines += ["", *format_table([_HEADER, *map(_cells, found.readers)], _RIGHT)]
    return "\n".join(lines)


def _cells(reader: FeedReader) -> tuple[str, ...]:
    since, seconds = "-", None
    if reader.since is not None:
        since = format_time(reader.since // 1000 * 1000)
        seconds = max(0.0, time.time() - reader.since / 1000)
    return (
        str(reader.pid),
        reader.user,
        reader.version or "unknown",
        since,
        format_duration(seconds),
        printable(reader.command) + ("" if reader.is_current else _EARLIER),
    )


def _json_row(reader: FeedReader) -> dict[str, object]:
    row = reader._asdict()
    row["current"] = row.pop("is_current")
    return row
