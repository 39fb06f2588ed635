"""The feeds of this user: what cannot be read, who is silent, what nobody holds."""

from collections.abc import Iterator
from pathlib import Path

from shmfeed.doctor.finding import Finding, note, ok, problem
from shmfeed.listing import UNREADABLE, FeedRow, list_feeds
from shmfeed.segment.mapping import place
from shmfeed.segment.removal import HELD, UNHELD, Leftover, clean_all
from shmfeed.text import mebibytes

_MOST_NAMED = 10
_PROC = Path("/proc")


def check_feeds() -> Iterator[Finding]:
    """All of this module; UnsupportedPlatformError."""
    rows = {row["feed"]: row for row in list_feeds()}
    things = clean_all(remove=False)
    held = {one.path for one in things if one.state == HELD}
    bad = [*_unreadable(rows, things), *_silent(rows, things), *_foreign(things)]
    bad += _given_up(rows)
    names = [name for name in rows if place(name).segment in held]
    yield ok("feeds", f"held by a feeder: {_listed(names) or 'none'}")
    yield from bad
    yield check_leftovers(things)


def _unreadable(rows: dict[str, FeedRow], things: list[Leftover]) -> Iterator[Finding]:
    """Damaged segments and those of other layout versions, which feeders made."""
    states = {one.path: one.state for one in things}
    for name, row in rows.items():
        state = states.get(place(name).segment)
        if row["health"] != UNREADABLE:
            continue
        if state == UNHELD:
            yield note(
                f"feed {name}",
                f"cannot be read and no feeder holds it: {row['reason']}",
                f"`shmfeed clean --feed {name}` removes it; a feeder makes it anew",
            )
        if state == HELD:
            yield problem(
                f"feed {name}",
                f"is held by a feeder and cannot be read: {row['reason']}",
                "stop its feeder and start it again with this version of shmfeed",
            )


def _silent(rows: dict[str, FeedRow], things: list[Leftover]) -> Iterator[Finding]:
    holders = {one.path: one.reason for one in things if one.state == HELD}
    for name, row in rows.items():
        reason = holders.get(place(name).segment)
        if reason is None or row["health"] != "dead":
            continue
        pid = reason.rpartition(" ")[2]
        yield problem(
            f"feed {name}",
            f"{reason}, which {_why_silent(pid)}",
            f"kill -CONT {pid} lets a stopped one go on; else kill -9 {pid} and start"
            " the feeder again: it goes on with the same bars",
        )


def _given_up(rows: dict[str, FeedRow]) -> Iterator[Finding]:
    for name, row in rows.items():
        if row["health"] != UNREADABLE and row["state"] == "error":
            yield problem(
                f"feed {name}",
                f"its feeder (pid {row['pid']}) gave up connecting: `shmfeed status"
                f" --feed {name}` says why",
                "mend that, then end the feeder and start it again, or call a manager's"
                " start(); --max-reconnect-attempts none tries for ever",
            )


def _why_silent(pid: str) -> str:
    try:
        text = (_PROC / pid / "stat").read_text("ascii", "replace")
        state = text.rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        state = ""
    if state in ("T", "t"):
        return "is stopped (SIGSTOP or a debugger)"
    return "gives no sign of life: it is stuck, or has not beaten for 2 s"


def _foreign(things: list[Leftover]) -> Iterator[Finding]:
    for one in things:
        if one.state not in (HELD, UNHELD):
            yield problem(
                str(one.path),
                f"it {one.reason}",
                "look at it, and move or remove it; `shmfeed clean` does not",
            )


def check_leftovers(things: list[Leftover]) -> Finding:
    """What nobody holds: feeders that ended leave it, so that the next goes on."""
    unheld = [one for one in things if not one.reason]
    if not unheld:
        return ok("leftovers", "none: nothing that no feeder holds")
    size = mebibytes(sum(one.size for one in unheld))
    named = _listed([one.path.name for one in unheld])
    return note(
        "leftovers",
        f"{len(unheld)} that no feeder holds, {size} MiB: {named}",
        "a feeder of the same name goes on with its segment; to remove all of them:"
        " `shmfeed clean`",
    )


def _listed(names: list[str]) -> str:
    more = ", .." if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
