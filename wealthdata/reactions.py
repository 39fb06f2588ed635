"""The reactions of a read to rows that are stale, few, unconfirmed, or have a gap."""

from typing import Literal, NamedTuple, get_args

from shmfeed.errors import BadArgumentError
from shmfeed.text import repr_short
from shmfeed.validation import check_choice, check_timeout

Reaction = Literal["warn", "raise", "ignore"]
REACTIONS: tuple[Reaction, ...] = get_args(Reaction)


class Reactions(NamedTuple):
    """The reactions in force for a read, each with its default.

    `max_age` is the age in seconds from which on rows are stale; None: see
    `freshness`.
    """

    max_age: float | None = None
    on_stale: str = "warn"
    on_gap: str = "ignore"
    on_short: str = "ignore"
    on_unconfirmed: str = "ignore"

    @property
    def heeds_rows(self) -> bool:
        """True unless gaps, few rows and unconfirmed ones are all ignored."""
        return self[2:] != _IGNORED


_IGNORED = Reactions()[2:]


def check_reactions(given: dict[str, object]) -> dict[str, object]:
    """Return the reactions that are given, checked. None counts as left out.

    Raise BadArgumentError.
    """
    checked: dict[str, object] = {}
    for name, value in given.items():
        if value is not None and name == "max_age":
            checked[name] = check_timeout(name, value)
        elif value is not None:
            checked[name] = check_choice(name, value, REACTIONS)
    return checked


def parse_max_age(variable: str, text: str) -> float | None:
    """Return the seconds that an environment variable states.

    Raise BadArgumentError.
    """
    try:
        return check_timeout(variable, float(text))
    except ValueError:
        raise BadArgumentError(
            f"{variable} is {repr_short(text)}; it must be a number of seconds, at"
            " least 0"
        ) from None
