"""The attrs of rolled-up rows: the same by each way of reading, in each process."""

from datetime import UTC, datetime
from typing import Any

import pytest
from support.numbered_bars import START

from shmfeed.bar import AFTER_GAP
from shmfeed.writer import FeedWriter
from wealthdata import Context, attachment, get_price, set_context

pytest_plugins = ["support.strategy_process"]
pytestmark = pytest.mark.filterwarnings(
    "ignore::wealthdata.BehindWarning", "ignore::wealthdata.StaleFeedWarning"
)

MINUTE = 60_000
SAME = ("gaps", "short", "behind", "forming", "rolled", "unconfirmed", "absent")


def fill(writer: FeedWriter, minutes: list[int], symbol: str = "A") -> None:
    ring = writer.add_stream(symbol, "1m")
    for minute in minutes:
        ring.append(START + minute * MINUTE, 1.0, 2.0, 0.5, 1.5, 1.0, flags=1)


def facts(security: Any, **asked: Any) -> dict[str, Any]:
    attrs = get_price(security, frequency="5m", **asked).attrs["shmfeed"]
    return {key: attrs[key] for key in SAME}


WHOLE = list(range(40))


@pytest.mark.parametrize("asked", [{}, {"count": 1}, {"count": 3}], ids=str)
@pytest.mark.parametrize(
    "minutes",
    [WHOLE, [m for m in WHOLE if m != 12], [m for m in WHOLE if m not in (3, 37)], [1]],
    ids=["whole", "hole", "two holes", "no group"],
)
@pytest.mark.parametrize("bound", [None, 30, 36])
def test_a_list_says_what_its_securities_say(
    writer: FeedWriter, asked: dict[str, Any], minutes: list[int], bound: int | None
) -> None:
    fill(writer, minutes)
    fill(writer, [], "B")
    if bound is not None:
        now = datetime.fromtimestamp(START / 1000 + bound * 60, UTC)
        set_context(Context(current_dt=now))
    one = facts("A", **asked)
    one["absent"] = ["A"] if len(get_price("A", frequency="5m")) == 0 else []
    for more in ({}, {"align": True}, {"fields": ["flags"]}, {"wide": True}):
        for _ in range(2):
            assert facts(["A"], **asked, **more) == one
            both = facts(["A", "B"], **asked, **more)
            assert (both["gaps"], both["behind"]) == (one["gaps"], one["behind"])


def flags_of_rows(read_before: bool, writer: FeedWriter) -> list[int]:
    if not read_before:
        attachment.detach()
    return get_price("A", count=50, frequency="5m", fields="flags")["flags"].tolist()


def test_the_oldest_row_has_the_flags_that_a_new_process_gives_it(
    writer: FeedWriter,
) -> None:
    minutes = [m for m in range(300) if m not in (12, 13, 49, 50, 101, 199)]
    ring = writer.add_stream("A", "1m")
    seen = set()
    for minute in minutes:
        flags = 1 | AFTER_GAP * (minute - 1 not in minutes)
        ring.append(START + minute * MINUTE, 1.0, 2.0, 0.5, 1.5, 1.0, flags=flags)
        kept = flags_of_rows(True, writer)
        if minute % 7 == 0:
            assert flags_of_rows(False, writer) == kept
        seen.add(kept[0] & AFTER_GAP if kept else None)
    assert seen == {None, 0, AFTER_GAP}
