"""What a check found: good, a note, or a problem with its remedy."""

from typing import NamedTuple

OK, NOTE, PROBLEM = "ok", "note", "problem"


class Finding(NamedTuple):
    """`check` names what was looked at; `remedy` is a sentence, None where all is well.

    A note is what may be meant so; a problem keeps something from working.
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
