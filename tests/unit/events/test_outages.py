"""Outages in a feed's status: each one event, its end another, its streams listed."""

from typing import Any, cast

from shmfeed.events.outages import START_SECONDS, Outages
from shmfeed.holes import Hole
from shmfeed.status import FeedStatus

BEGUN = START_SECONDS + 1


def status(streams: dict[str, Any], **values: Any) -> FeedStatus:
    """Return a status with these streams: a health, or a health and missing bars."""
    rows = []
    for symbol, given in streams.items():
        health, gaps = given if isinstance(given, tuple) else (given, 0)
        row = {"symbol": symbol, "timeframe": "1m", "health": health, "gaps": gaps}
        rows.append({**row, "why": f"why of {symbol}"})
    first = {"state": "connected", "revisions": 0, "last_error": None, "relay": None}
    return cast("FeedStatus", {**first, **values, "streams": rows})


class Looks:
    """Looks at one feed, of which `holes` are known."""

    def __init__(self) -> None:
        self.holes: dict[str, list[Hole]] = {}
        self._outages = Outages(lambda key: self.holes.get(key[0], []), 0.0)

    def look(
        self, streams: dict[str, Any], now: float = BEGUN, **values: Any
    ) -> list[tuple[str, list[str]]]:
        """Return names and symbols of the events of one status."""
        found = self._outages.look(status(streams, **values), now)
        return [(one.event, [key[0] for key in one.streams]) for one in found]


def hole(symbol: str, first: int, state: str = "given_up", missing: int = 1) -> Hole:
    return Hole(symbol, "1m", first, first, missing, cast("Any", state), "no source")


def test_an_error_is_told_once_and_its_end_too() -> None:
    looks = Looks()
    assert looks.look({}) == []
    assert looks.look({}, state="error", last_error="refused") == [("error", [])]
    assert looks.look({}, state="error") == []
    assert looks.look({}, state="connecting") == []
    assert looks.look({}, state="error") == []  # the same outage
    assert looks.look({}) == [("recovered", [])]
    assert looks.look({}, state="error") == [("error", [])]


def test_a_reconnect_is_no_error() -> None:
    looks = Looks()
    for state in ("connecting", "connected", "reconnecting", "connected"):
        assert looks.look({}, state=state) == []


def test_streams_of_one_outage_are_one_event() -> None:
    looks = Looks()
    both = {"A": "live", "B": "quiet"}
    assert looks.look(both) == []
    away = {"state": "reconnecting"}
    assert looks.look({"A": "stale", "B": "quiet"}, **away) == [("stale", ["A"])]
    # A longer timeframe is stale later, for the same reason.
    assert looks.look({"A": "stale", "B": "stale"}, **away) == []
    assert looks.look({"A": "live", "B": "stale"}) == []
    assert looks.look(both) == [("fresh", ["A", "B"])]
    assert looks.look(both) == []


def test_a_stream_that_is_mute_alone_is_an_outage_of_its_own() -> None:
    looks = Looks()
    looks.look({"A": "live", "B": "live"})
    assert looks.look({"A": "stale", "B": "live"}) == [("stale", ["A"])]
    assert looks.look({"A": "stale", "B": "stale"}) == [("stale", ["B"])]
    assert looks.look({"A": "stale", "B": "live"}) == [("fresh", ["B"])]
    assert looks.look({"A": "live", "B": "live"}) == [("fresh", ["A"])]


def test_a_stream_that_is_no_longer_carried_leaves_its_outage() -> None:
    looks = Looks()
    looks.look({"A": "live", "B": "live"})
    assert looks.look({"A": "stale", "B": "stale"}) == [("stale", ["A", "B"])]
    assert looks.look({"B": "stale"}) == []
    assert looks.look({"B": "live"}) == [("fresh", ["B"])]
    assert looks.look({"A": "stale"}) == [("stale", ["A"])]
    assert looks.look({}) == []


def test_streams_are_not_stale_by_a_start() -> None:
    looks = Looks()
    assert looks.look({"A": "stale"}, now=1.0) == []
    assert looks.look({"A": "stale"}, now=BEGUN) == [("stale", ["A"])]


def test_missing_bars_are_told_if_they_last() -> None:
    looks = Looks()
    assert looks.look({"A": ("live", 3)}) == []  # known from an earlier feeder
    assert looks.look({"A": ("live", 5), "B": ("live", 1)}) == []
    assert looks.look({"A": ("live", 3), "B": ("live", 1)}) == [("gap", ["B"])]
    assert looks.look({"A": ("live", 3), "B": ("live", 0)}) == []
    assert looks.look({"A": ("live", 3), "B": ("live", 1)}) == []
    assert looks.look({"A": ("live", 3), "B": ("live", 1)}) == [("gap", ["B"])]


def test_a_hole_that_is_given_up_is_told_at_once_and_once() -> None:
    looks = Looks()
    looks.holes["A"] = [hole("A", 60_000)]
    assert looks.look({"A": ("live", 1)}) == []
    looks.holes["A"] = [hole("A", 60_000), hole("A", 240_000, "open")]
    assert looks.look({"A": ("live", 2)}) == []
    looks.holes["A"] = [hole("A", 60_000), hole("A", 240_000)]
    told = looks.look({"A": ("live", 2)})
    assert told == [("gap", ["A"]), ("gap_given_up", ["A"])]
    assert looks.look({"A": ("live", 2)}) == []


def test_revisions_and_leaders_are_told() -> None:
    looks = Looks()
    assert looks.look({}, revisions=4, relay={"leader": "a"}) == []
    assert looks.look({}, revisions=6, relay={"leader": "a"}) == [("revised", [])]
    assert looks.look({}, revisions=6, relay={"leader": "b"}) == [("leader", [])]
    assert looks.look({}, revisions=0, relay={"leader": "b"}) == []


def test_a_leader_is_told_once_however_it_came() -> None:
    looks = Looks()
    assert looks.look({}) == []
    assert looks.look({}, relay={"leader": "a"}) == []  # the relay begins
    assert looks.look({}, relay={"leader": None}) == []  # no one leads yet
    assert looks.look({}) == []  # the publisher is away
    assert looks.look({}, relay={"leader": "a"}) == []
    assert looks.look({}, relay={"leader": None}) == []
    assert looks.look({}, relay={"leader": "b"}) == [("leader", [])]
    assert looks.look({}, relay={"leader": "a"}) == [("leader", [])]
