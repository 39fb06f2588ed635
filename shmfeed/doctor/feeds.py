"""The feeds of this user: unreadable, silent, disconnected for good, left behind."""

from collections.abc import Iterator
from pathlib import Path

from shmfeed.codecs.identity import identity_of
from shmfeed.doctor.capacity import is_read_only
from shmfeed.doctor.finding import Finding, note, ok, problem
from shmfeed.errors import BadArgumentError
from shmfeed.listing import UNREADABLE, FeedRow, list_feeds
from shmfeed.segment import platform
from shmfeed.segment.identity import stored_identity
from shmfeed.segment.mapping import place
from shmfeed.segment.removal import HELD, UNHELD, Leftover, clean_all
from shmfeed.settings.model import Settings
from shmfeed.text import counted, mebibytes

_MAX_NAMES = 10
_IDENTIFYING = ("protocol", "market_type", "venue", "endpoint")
_PROC = Path("/proc")


def check_feeds() -> Iterator[Finding]:
    """Yield the findings about this user's feeds and their files.

    Raises:
        UnsupportedPlatformError: This platform has no live feeds.
    """
    rows = {row["feed"]: row for row in list_feeds()}
    if is_read_only(platform.SHARED_MEMORY):  # a lock can be tested by locking alone
        names = [name for name, row in rows.items() if row["pid"] is not None]
        yield ok(
            "feeds",
            f"alive by their heartbeats: {_join_names(names) or 'none'}; locks and"
            f" leftovers are not checked where {platform.SHARED_MEMORY} is read-only",
        )
        yield from _feeders_in_error(rows)
        return
    files = clean_all(remove=False)
    held = {file.path for file in files if file.state == HELD}
    names = [name for name in rows if place(name).segment in held]
    yield ok("feeds", f"held by a feeder: {_join_names(names) or 'none'}")
    yield from _unreadable_feeds(rows, files)
    yield from _silent_feeders(rows, files)
    yield from _foreign_files(files)
    yield from _feeders_in_error(rows)
    yield check_leftovers(files)


def check_identity(settings: Settings) -> Iterator[Finding]:
    """Compare the identity of the settings with that of the stored bars.

    Settings that name no venue, market or protocol are not compared.

    Raises:
        UnsupportedPlatformError: This platform has no live feeds.
    """
    default = Settings()
    if all(getattr(settings, name) == getattr(default, name) for name in _IDENTIFYING):
        return
    stored = stored_identity(place(settings.feed))
    name = f"identity of feed {settings.feed}"
    if settings.follows_relay:
        yield ok(name, f"{stored or 'not known yet'}; it is the leader's")
        return
    try:
        wanted = identity_of(settings)
    except BadArgumentError as error:
        yield problem("identity", str(error), "correct it; no feeder starts with it")
        return
    if stored is None:
        yield ok(name, f"{wanted}; no bars of another one are stored")
    elif stored.matches(wanted):
        yield ok(name, str(stored))
    else:
        yield problem(
            name,
            f"its segment is of {stored}, and these settings are of {wanted}; a feeder"
            " with them is refused",
            "use another feed name; or stop its feeder and start with --replace, which"
            " drops the stored bars",
        )


def _unreadable_feeds(
    rows: dict[str, FeedRow], files: list[Leftover]
) -> Iterator[Finding]:
    states = {file.path: file.state for file in files}
    for name, row in rows.items():
        state = states.get(place(name).segment)
        if row["health"] != UNREADABLE:
            continue
        if state == UNHELD:
            yield note(
                f"feed {name}",
                f"its segment cannot be read, and no feeder holds it: {row['reason']}",
                f"remove it: `shmfeed clean --feed {name} --force`; or start its"
                " feeder, which recreates it",
            )
        if state == HELD:
            yield problem(
                f"feed {name}",
                f"its segment cannot be read, and a feeder holds it: {row['reason']}",
                "stop its feeder and start it again with this version of shmfeed",
            )


def _silent_feeders(
    rows: dict[str, FeedRow], files: list[Leftover]
) -> Iterator[Finding]:
    held = {file.path: file for file in files if file.state == HELD}
    for name, row in rows.items():
        file = held.get(place(name).segment)
        if file is None or row["health"] != "dead":
            continue
        found = f"{file.reason}, which {_why_silent(file.pid)}"
        remedy = f"kill -9 {file.pid} and start the feeder again, which keeps the bars"
        if file.pid is None:
            remedy = f"find the owner with `fuser -v {file.path}` and stop it"
        elif _is_stopped(file.pid):
            remedy = f"resume it with kill -CONT {file.pid}; else {remedy}"
        yield problem(f"feed {name}", found, remedy)


def _feeders_in_error(rows: dict[str, FeedRow]) -> Iterator[Finding]:
    for name, row in rows.items():
        if row["health"] != UNREADABLE and row["state"] == "error":
            yield problem(
                f"feed {name}",
                f"its feeder (pid {row['pid']}) cannot connect;"
                f" `shmfeed status --feed {name}` shows the last error",
                "correct the cause; then the feeder comes back by itself, unless"
                " give_up is set, or at once by manager.start()",
            )


def _why_silent(pid: int | None) -> str:
    if pid is not None and _is_stopped(pid):
        return "is stopped (SIGSTOP or a debugger)"
    return "has sent no heartbeat for 2 s; it is stuck, or the host is overloaded"


def _is_stopped(pid: int) -> bool:
    try:
        text = (_PROC / str(pid) / "stat").read_text("ascii", "replace")
        return text.rpartition(")")[2].split()[0] in ("T", "t")
    except (OSError, IndexError):
        return False


def _foreign_files(files: list[Leftover]) -> Iterator[Finding]:
    for file in files:
        if file.state not in (HELD, UNHELD):
            yield problem(
                str(file.path),
                f"it {file.reason}",
                "inspect it, and move or remove it; `shmfeed clean` does not",
            )


def check_leftovers(files: list[Leftover]) -> Finding:
    """Report the files that no feeder holds.

    A feeder that ends leaves its segment on purpose: the next one reuses it.
    """
    unheld = [file for file in files if not file.reason]
    if not unheld:
        return ok("leftovers", "none")
    size = mebibytes(sum(file.size for file in unheld))
    names = _join_names([file.path.name for file in unheld])
    return note(
        "leftovers",
        f"no feeder holds {counted(len(unheld), 'file')}, {size} MiB: {names}",
        "keep them if their feeders will start again; remove them all:"
        " `shmfeed clean --force`",
    )


def _join_names(names: list[str]) -> str:
    more = ", .." if len(names) > _MAX_NAMES else ""
    return ", ".join(names[:_MAX_NAMES]) + more
