"""The states of a stream, in their order, by each core; and why a stream has one."""

import math
import re
from typing import Any, NamedTuple

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings
from support import cores
from support.cores import Core
from support.ring_on_bytes import Bench, bench

from shmfeed.health import (
    HEALTHS,
    explain_health,
    health_rank,
    ring_status,
    silence,
    stream_status,
    worst_health,
)
from shmfeed.layout import (
    E_AWAY,
    E_BACK,
    E_COMPARED,
    E_REASON,
    E_RECOVERING,
    E_SILENCE,
    E_SINCE,
    E_SUBSCRIBED,
    E_UPDATED,
    E_WHY,
    H_ALIVE,
    H_READY,
    H_REPAIR_GRACE,
    H_STATE,
    H_TICK,
    MAGIC,
    MAGIC_SHIFT,
    READY,
    REASONS,
    STATES,
    UNCOMPARED,
    WHY_WORDS,
)
from shmfeed.memory.note import pack_text
from shmfeed.memory.words import Latch, boot_ns

SECOND = 1_000_000_000
KEY = ("A", "1s")  # live for 3 s, stale after 30 s
GRACE = 5.0
LAYOUT_1 = MAGIC << MAGIC_SHIFT | 1


class Facts(NamedTuple):
    """The words of a stream in its segment: times are seconds ago, None is never."""

    tick: float = 0.1
    alive: float = 0.1
    state: str = "connected"
    subscribed: bool = True
    since: float = 40.0
    updated: float | None = 1.0
    rows: bool = True
    reason: str = ""
    text: str = ""
    held: bool = False
    away: float | None = None
    back: float | None = None
    # A comparison with history: never, not yet (inf), or so long ago.
    compared: float | None = None
    limit: float | None = None  # of silence, set by the feeder
    layout: int = 2


def segment(facts: Facts, core: Core) -> Bench:
    """Return a ring on a buffer that says these facts."""
    ring = bench(5, key=KEY, core=core)
    if facts.rows:
        ring.close(0, timeframe=KEY[1])
    ints, at, now = ring.words.ints, ring.geometry.entry_word(0), boot_ns()

    def moment(ago: float | None) -> int:
        if ago == math.inf:
            return UNCOMPARED
        return 0 if ago is None else now - round(ago * SECOND)

    ints[H_READY] = READY if facts.layout == 2 else LAYOUT_1
    ints[H_TICK], ints[H_ALIVE] = moment(facts.tick), moment(facts.alive)
    ints[H_STATE] = STATES.index(facts.state)
    ints[H_REPAIR_GRACE] = round(GRACE * SECOND)
    ints[at + E_SUBSCRIBED] = facts.subscribed
    ints[at + E_SINCE], ints[at + E_UPDATED] = (
        moment(facts.since),
        moment(facts.updated),
    )
    ints[at + E_REASON] = REASONS.index(facts.reason)
    ints[at + E_RECOVERING] = facts.held
    ints[at + E_AWAY], ints[at + E_BACK] = moment(facts.away), moment(facts.back)
    ints[at + E_COMPARED] = moment(facts.compared)
    ints[at + E_SILENCE] = round((facts.limit or 0) * SECOND)
    if facts.text:
        Latch(ring.words, at + E_WHY, WHY_WORDS).write(pack_text(facts.text, WHY_WORDS))
    return ring


def judged(facts: Facts, core: Core) -> tuple[str, str, str]:
    """Return health, state and why of a stream; both ways to them agree."""
    reader = segment(facts, core).reader
    status = ring_status(reader, KEY[1])
    general = stream_status(reader, KEY[1])
    assert status[1:] == general[1:]
    return status.health, status.state, explain_health(reader, KEY[1], status.health)


DROPPED = "all 40 messages: times off the grid"
# In the order of the states: each row but for its first reason would be a later one.
ROWS: list[tuple[str, Facts, str]] = [
    (
        "dead",
        Facts(tick=2.5, alive=2.5, reason="closed"),
        r"no heartbeat .* for 2\.\d s",
    ),
    ("dead", Facts(tick=9, alive=9, updated=0.5), r"no heartbeat of the feeder for 9"),
    ("closed", Facts(reason="closed", subscribed=False), "the symbol does not trade"),
    ("closed", Facts(reason="closed", text="since May"), "since May"),
    ("stale", Facts(state="error", away=3.0), r"connection away for 3\.\d s; .*error"),
    ("stale", Facts(subscribed=False, since=8.0), r"unsubscribed 8\.\d s ago"),
    (
        "stale",
        Facts(reason="refused", text="no such symbol"),
        "left out: no such symbol",
    ),
    (
        "stale",
        Facts(reason="refused", subscribed=False),
        "left out: the venue refused it",
    ),
    ("stale", Facts(reason="dropped", text=DROPPED, updated=None, rows=False), DROPPED),
    ("stale", Facts(tick=6.0, held=True), r"main loop has stood still for 6\.\d s"),
    (
        "polled",
        Facts(reason="polled", state="error", away=9),
        "closed bars come by REST",
    ),
    ("polled", Facts(reason="polled", updated=50.0), "closed bars come by REST"),
    (
        "recovering",
        Facts(away=3.2, state="reconnecting"),
        r"connection away for 3\.2 s",
    ),
    (
        "recovering",
        Facts(away=3.2, rows=False, updated=None, since=9),
        "connection away",
    ),
    (
        "recovering",
        Facts(back=2.0, updated=10.0),
        r"connection back 2\.\d s ago, missed",
    ),
    ("recovering", Facts(held=True), "newer bars are held back"),
    (
        "recovering",
        Facts(reason="warming", text="12 of 40 streams"),
        "12 of 40 streams",
    ),
    ("recovering", Facts(away=20.0, updated=None, since=25.0), "connection away"),
    (
        "waiting",
        Facts(rows=False, updated=None, since=12.0),
        r"no bar yet, .* 12\.\d s",
    ),
    (
        "waiting",
        Facts(rows=False, updated=None, since=50.0),
        "no bar yet, subscribed 50",
    ),
    ("waiting", Facts(rows=False, updated=None, back=1.0), "no bar yet"),
    (
        "waiting",
        Facts(rows=False, updated=None, away=45.0),
        r"connection away for 45",
    ),
    ("stale", Facts(updated=31.0), r"silent for 31\.\d s, limit 30 s"),
    ("stale", Facts(updated=31.0, held=True), r"silent for 31"),
    ("stale", Facts(updated=37.0, away=35.0), r"connection away for 35"),
    ("stale", Facts(updated=None, since=36.0), r"silent for 36"),
    ("stale", Facts(updated=36.0, back=1.0), r"silent for 36"),
    ("stale", Facts(updated=2.0, limit=0.5), r"silent for 2\.\d s, limit 0.5 s"),
    (
        "stale",
        Facts(updated=36.0, reason="muted", text="asked again"),
        r".*; asked again",
    ),
    (
        "recovering",
        Facts(updated=4.0, compared=math.inf),
        r"silent for 4\.\d s, not yet compared with history",
    ),
    ("recovering", Facts(updated=4.0, compared=9.0), "silent .* not yet compared"),
    ("recovering", Facts(updated=9.0, back=6.0, compared=7.0), "silent for 9"),
    ("recovering", Facts(updated=25.0, since=6.0, compared=7.0), "silent for 6"),
    ("recovering", Facts(updated=None, since=9.0, compared=math.inf), "silent for 9"),
    ("stale", Facts(updated=31.0, compared=math.inf), r"silent for 31\.\d s, limit"),
    ("quiet", Facts(updated=9.0, back=6.0, since=7.0, compared=5.0), ""),
    ("live", Facts(compared=math.inf), ""),
    ("quiet", Facts(updated=4.0), ""),
    ("quiet", Facts(updated=25.0, back=6.0), ""),
    ("quiet", Facts(updated=35.0, limit=600.0), ""),
    ("quiet", Facts(updated=50.0, since=10.0), ""),  # subscribed again
    ("quiet", Facts(updated=None, since=10.0), ""),  # rows that came as history
    ("live", Facts(), ""),
    ("live", Facts(updated=0.0), ""),
    ("live", Facts(rows=False), ""),  # a forming bar
    ("live", Facts(updated=1.0, back=2.0), ""),  # its first update since the return
    ("quiet", Facts(updated=8.0, back=6.0), ""),  # the grace is over
    ("live", Facts(state="reconnecting"), ""),  # another stream's connection is away
    ("live", Facts(state="error"), ""),
    ("live", Facts(reason="muted", text="asked again"), ""),
    ("live", Facts(tick=3.0, alive=0.1), ""),
    # A feeder of layout 1 marks no stream: its state is that of all.
    ("live", Facts(layout=1), ""),
    ("recovering", Facts(layout=1, state="reconnecting"), "connection away"),
    (
        "stale",
        Facts(layout=1, state="error"),
        "connection away; the feeder is in state",
    ),
]


@pytest.mark.parametrize(("health", "facts", "why"), ROWS)
def test_the_first_state_that_fits(
    each_core: Core, health: str, facts: Facts, why: str
) -> None:
    found, _, words = judged(facts, each_core)
    assert found == health
    assert re.match(f"(.*{why})" if why else "$", words), words


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        (Facts(), "connected"),
        (Facts(state="reconnecting"), "connected"),
        (Facts(away=1.0, state="reconnecting"), "reconnecting"),
        (Facts(away=1.0), "reconnecting"),  # marked before the state is set
        (Facts(away=1.0, state="error"), "error"),
        (Facts(away=1.0, state="connecting"), "connecting"),
        (Facts(tick=3.0, alive=3.0), "disconnected"),
        (Facts(layout=1, state="connecting"), "connecting"),
    ],
)
def test_the_state_is_that_of_the_streams_connection(
    each_core: Core, facts: Facts, state: str
) -> None:
    assert judged(facts, each_core)[1] == state


AGAINST = [
    *(Facts(away=0.1), Facts(back=0.1), Facts(held=True), Facts(subscribed=False)),
    *(Facts(limit=0.5), Facts(since=-1.0), Facts(tick=6.0), Facts(updated=4.0)),
    *(Facts(reason=reason) for reason in REASONS if reason),
    *(Facts(updated=None), Facts(tick=3.0, alive=3.0)),
    Facts(layout=1, state="reconnecting"),
]


@pytest.mark.parametrize("facts", AGAINST)
def test_the_short_way_never_says_live_where_a_word_speaks_against_it(
    each_core: Core, facts: Facts
) -> None:
    assert segment(facts, each_core).reader.live_age(3 * SECOND) is None


@pytest.mark.parametrize(
    "facts",
    [Facts(), Facts(back=2.0), Facts(limit=2.0), Facts(state="error"), Facts(layout=1)],
)
def test_control_the_short_way_says_live_else(each_core: Core, facts: Facts) -> None:
    assert segment(facts, each_core).reader.live_age(3 * SECOND) is not None


def expected(facts: Facts) -> str:
    """Return the health by the list of states, read from top to bottom."""
    away = facts.away is not None
    if facts.layout == 1:
        away = facts.state != "connected"
    has_come = facts.rows or facts.updated is not None
    spoke = [ago for ago in (facts.updated, facts.since) if ago is not None]
    silent = min(spoke) > (facts.limit or 30.0)
    is_back = facts.back is not None and facts.back <= GRACE and has_come
    is_back = is_back and (facts.updated is None or facts.updated >= facts.back)
    changes = [facts.updated, facts.since, facts.back]
    is_compared = facts.compared is None or all(
        facts.compared < ago for ago in changes if ago is not None
    )
    waits = away or is_back or facts.held or facts.reason == "warming"
    states: list[tuple[str, Any]] = [
        ("dead", min(facts.tick, facts.alive) > 2),
        ("closed", facts.reason == "closed"),
        ("stale", facts.state == "error" and away and facts.reason != "polled"),
        ("stale", not facts.subscribed or facts.reason in ("refused", "dropped")),
        ("stale", facts.tick > 5),
        ("polled", facts.reason == "polled"),
        ("recovering", not silent and waits),
        ("waiting", not has_come),
        ("stale", silent),
        ("live", facts.updated is not None and facts.updated <= 3),
        ("recovering", not is_compared),
        ("quiet", True),
    ]
    return next(health for health, fits in states if fits)


# Seconds that lie between the limits, so that a slow test meets none.
AGES = st.sampled_from([0.3, 1.5, 6.0, 25.0, 35.0, 55.0])
BEATS = st.sampled_from([0.2, 3.5, 8.0])
FACTS = st.builds(
    Facts,
    tick=BEATS,
    alive=BEATS,
    state=st.sampled_from(STATES),
    subscribed=st.booleans(),
    since=AGES,
    updated=st.none() | AGES,
    rows=st.booleans(),
    text=st.just(""),
    layout=st.just(2),
    reason=st.just("") | st.sampled_from(REASONS),
    held=st.booleans(),
    away=st.none() | AGES,
    back=st.none() | st.sampled_from([0.4, 2.5, 9.5]),
    limit=st.none() | st.sampled_from([0.9, 600.0]),
    compared=st.none() | st.sampled_from([0.1, 5.0, 24.0, math.inf]),
)


@given(facts=FACTS)
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
def test_any_words_give_the_state_of_the_list(facts: Facts) -> None:
    for core in cores.EACH:
        health, _, why = judged(facts, core)
        assert health == expected(facts)
        assert (why == "") is (health in ("live", "quiet"))


@given(facts=FACTS)
@settings(max_examples=100)
def test_any_words_of_layout_1_too(facts: Facts) -> None:
    older = facts._replace(
        layout=1, away=None, back=None, limit=None, reason="", compared=None
    )
    for core in cores.EACH:
        assert judged(older, core)[0] == expected(older)


@given(
    values=st.lists(st.integers(-(1 << 63), (1 << 63) - 1), min_size=7, max_size=7),
    state=st.integers(-(1 << 63), (1 << 63) - 1),
)
def test_damaged_words_give_a_health_and_words(values: list[int], state: int) -> None:
    marks = E_SINCE, E_UPDATED, E_SILENCE, E_REASON, E_AWAY, E_BACK, E_RECOVERING
    for core in cores.EACH:
        ring = segment(Facts(), core)
        at = ring.geometry.entry_word(0)
        for word, value in zip(marks, values, strict=True):
            ring.words.ints[at + word] = value
        ring.words.ints[H_STATE] = state
        status = ring_status(ring.reader, KEY[1])
        assert status.health in (*HEALTHS, "closed")
        explain_health(ring.reader, KEY[1], status.health)


@pytest.mark.parametrize(
    ("facts", "seconds", "limit"),
    [
        (Facts(updated=10.0), 10.0, 30.0),
        (Facts(updated=10.0, limit=0.5), 10.0, 0.5),
        (Facts(updated=50.0, since=10.0), 50.0, 30.0),  # of its last update
        (Facts(updated=None, since=10.0), 10.0, 30.0),
    ],
)
def test_silence(facts: Facts, seconds: float, limit: float) -> None:
    found = silence(segment(facts, cores.SERVING).reader, KEY[1])
    assert found.seconds == pytest.approx(seconds, abs=1.0)
    assert found.limit == limit


def test_the_worst_health() -> None:
    assert (
        worst_health(["live", "closed", "waiting", "recovering"], "quiet") == "waiting"
    )
    assert worst_health(["closed"], "quiet") == "quiet"
    ranks = [health_rank(health) for health in ("closed", *HEALTHS)]
    assert ranks == sorted(ranks)
