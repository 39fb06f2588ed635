"""`shmfeed clean`: remove the files that no feeder holds."""

import argparse
import json
from collections.abc import Sequence

from shmfeed.cli.exit_codes import FAILED
from shmfeed.cli.output import print_output
from shmfeed.segment.removal import (
    HELD,
    RECENT,
    Leftover,
    clean_all,
    clean_feed,
    clean_locks,
)
from shmfeed.text import counted, mebibytes, printable

SPARED_SECONDS = 600.0  # since the last beat of a feeder

_DESCRIPTION = """\
Remove from /dev/shm the files of this user's feeds that no feeder holds: segments of
feeders that ended or were killed, with their bars; unfinished segments;
sockets. The files of a running feeder stay, and those of a feeder whose last beat is
less than 10 minutes old, unless --force is given; so does any file that no feeder made.
Each is listed with the reason. Lock files stay, as they keep two feeders from one feed,
but those of replays and benchmarks that have ended are removed.
"""

_EPILOG = """\
examples:
  shmfeed clean --dry-run
  shmfeed clean
  shmfeed clean --feed spot --force --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add = parser.add_argument
    add("--feed", metavar="NAME", help="clean this feed only, default: all feeds")
    add("--force", action="store_true", help="remove what has just ended, too")
    add("--dry-run", action="store_true", help="list what would be removed, and stop")
    add("--json", action="store_true", help="print the removed and left files as JSON")


def run(args: argparse.Namespace) -> int:
    remove, spared = not args.dry_run, 0.0 if args.force else SPARED_SECONDS
    if args.feed is None:
        found, locks = clean_all(remove, spared), clean_locks(remove)
    else:
        found, locks = clean_feed(args.feed, remove, spared), []
    if args.json:
        print_output(_format_json(found + locks, remove))
    else:
        print_output(format_files(found, remove, locks))
    left = [one for one in found + locks if one.reason]
    if args.feed is None:
        left = [one for one in left if one.state not in (HELD, RECENT)]
    return FAILED if left else 0


def format_files(
    found: list[Leftover], removed: bool, locks: Sequence[Leftover] = ()
) -> str:
    """Return a line for each file, one for the locks, and one for the total."""
    (gone, left), gone_locks = _split(found), [one for one in locks if not one.reason]
    left += [one for one in locks if one.reason]
    verb, total = "removed", "removed"
    if not removed:
        verb, total = "would remove", "would be removed"
    lines = [f"{verb} {one.path} ({mebibytes(one.size)} MiB)" for one in gone]
    lines += [
        f"left {one.path} ({mebibytes(one.size)} MiB): it {one.reason}" for one in left
    ]
    if gone_locks:
        files = counted(len(gone_locks), "lock file")
        lines.append(f"{verb} {files} of replays and benchmarks that have ended")
    size = mebibytes(sum(one.size for one in gone))
    if gone:
        lines.append(f"{len(gone)} {total}, {size} MiB")
    elif not gone_locks:
        lines.append("nothing to remove")
    return "\n".join(map(printable, lines))


def _split(found: list[Leftover]) -> tuple[list[Leftover], list[Leftover]]:
    gone = [one for one in found if not one.reason]
    return gone, [one for one in found if one.reason]


def _format_json(found: list[Leftover], removed: bool) -> str:
    gone, left = _split(found)
    document = {
        "dry_run": not removed,
        "removed": [{"path": str(one.path), "bytes": one.size} for one in gone],
        "left": [
            {
                "path": str(one.path),
                "bytes": one.size,
                "state": one.state,
                "reason": one.reason,
            }
            for one in left
        ],
    }
    return json.dumps(document, indent=2)
