"""The age of the link by which a leader's rows came from another host."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from shmfeed.errors import ShmfeedError
from shmfeed.feed import Ring
from shmfeed.health import relay_age

_SOURCES = ("relayed", "mixed")  # of frames that may have rows of another host


def note_relay_age(
    values: dict[str, Any], rings: Iterable[Ring | None], moment: int
) -> None:
    """Store the age of the link at a read in the values of its frame.

    The compiled core leaves it to be found out later. It reads live streams alone, of
    which a link is never silent for longer than it takes to notice.
    """
    if values.get("source") in _SOURCES:
        values["relay_age"] = oldest_relay_age(rings, moment, values)


def oldest_relay_age(
    rings: Iterable[Ring | None], moment: int, values: dict[str, Any]
) -> float | None:
    """Return the seconds from a link's last news to a moment of CLOCK_BOOTTIME, ns.

    Of several rings it is the most. None for rings that are not relayed, or are gone;
    `values` are those of the frame's attrs that are known.
    """
    ages = []
    if dict.get(values, "source") in _SOURCES:  # not `values[..]`: it finds out all
        for ring in rings:
            with suppress(ShmfeedError):
                if ring is not None:
                    ages.append(relay_age(ring._current_reader(), moment))
    return max((age for age in ages if age is not None), default=None)
