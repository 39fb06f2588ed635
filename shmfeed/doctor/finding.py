"""The result of one check: ok, a note, or a problem with its remedy."""

from typing import NamedTuple

OK, NOTE, PROBLEM = "ok", "note", "problem"


class Finding(NamedTuple):
    """One fact about this host.

    A problem keeps something from working. A note may be intended.

    Attributes:
        check: The thing that was checked.
        level: OK, NOTE or PROBLEM.
        found: The fact, with its values.
        remedy: The remedy, or None where none is needed.
    """

    check: str
    level: str
    found: str
    remedy: str | None = None


def ok(check: str, found: str) -> Finding:
    return Finding(check, OK, found)


def note(check: str, found: str, remedy: str | None = None) -> Finding:
    return Finding(check, NOTE, found, remedy)


def problem(check: str, found: str, remedy: str) -> Finding:
    return Finding(check, PROBLEM, found, remedy)
