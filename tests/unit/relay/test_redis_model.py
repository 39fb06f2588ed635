"""Two leaders, a follower and a server that loses things, against a dict.

Each action is drawn; the rows that a follower has, and those that a join finds, must
be those of the flushes that the present leader was let write.
"""

import os
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.redis_engines import Engines, key
from support.redis_server import RedisServer
from support.relay_flushes import Held, join, keep_newest, rows, take, whole

from shmfeed.relay import redis_follower, redis_leader, script
from shmfeed.relay.engine import EngineAwayError, FencedError, MustJoinError
from shmfeed.relay.flush import Flush
from shmfeed.relay.redis_engine import RedisEngine
from shmfeed.relay.redis_errors import ConnectionDroppedError

HISTORY = 6
SCALE = float(os.environ.get("TEST_SCALE", "1"))
FENCE = "if held[1] ~= ARGV[1] then return {'FENCED', held[1] or ''} end"
Action = tuple[str, int, tuple[tuple[int, int, int], ...]]


class Leader:
    """A leader with rows of its own, as its feed has them."""

    def __init__(self, engine: RedisEngine) -> None:
        self.engine = engine
        self.needs_whole = True
        self.loses = 0
        self._run = engine._connection.run
        engine._connection.run = self._lossy_run

    def _lossy_run(self, which: script.Script, *arguments: Any) -> Any:
        """Lose the next answers of a flush."""
        answer = self._run(which, *arguments)
        if self.loses and which is redis_leader.FLUSH:
            self.loses -= 1
            self.engine._connection.close()
            raise ConnectionDroppedError("the answer was lost")
        return answer


class World:
    """The server, its clients, and the rows that a follower must have."""

    def __init__(self, engines: Engines) -> None:
        engines.server.do("FLUSHALL")
        self._do = engines.server.do
        self._leaders = [Leader(engines.make()) for _ in range(2)]
        self._follower, self._joiner = engines.make(), engines.make()
        self._present: Leader | None = None
        self._truth: Held | None = None
        self._epoch = 0
        self._held: Held | None = None
        self._position: Any = None

    def act(self, action: Action) -> None:
        name, number, bars = action
        getattr(self, name)(self._leaders[number % 2], number, bars)

    def lead(self, leader: Leader, *_: object) -> None:
        self._do("DEL", key("leader"))  # as time does
        epoch = leader.engine.lead(f"host:{id(leader)}", 5)
        assert epoch is not None
        assert epoch > self._epoch
        self._present, self._epoch, leader.needs_whole = leader, epoch, True

    def flush(self, leader: Leader, _: int, bars: Sequence[Any]) -> None:
        closed = rows(*{bar[:2]: bar for bar in bars}.values())
        flush = Flush(1, closed)
        if leader.needs_whole:
            flush = whole(closed, history=HISTORY)
        try:
            leader.engine.flush(flush)
        except FencedError:
            assert leader is not self._present
            leader.needs_whole = True
        except EngineAwayError:
            leader.needs_whole = True
        else:
            assert leader is self._present, "a fenced leader has written"
            self._accept(flush)
            leader.needs_whole = False

    def _accept(self, flush: Flush) -> None:
        if flush.is_whole or self._truth is None:
            self._truth = {}
        take(self._truth, flush._replace(is_whole=False, whole=()), HISTORY)

    def lose_answers(self, leader: Leader, number: int, _: object) -> None:
        leader.loses = 1 + number % 2

    def trim(self, _: Leader, number: int, __: object) -> None:
        self._do("XTRIM", key("live"), "MAXLEN", number)

    def vanish(self, _: Leader, number: int, __: object) -> None:
        """Delete a key that the leader writes again."""
        name = ("head", "catalog", "state", "ring:B:1m")[number % 4]
        self._do("DEL", key(name))

    def empty(self, *_: object) -> None:
        self._do("FLUSHALL")
        self._present, self._truth, self._epoch = None, None, 0

    def forget_scripts(self, *_: object) -> None:
        self._do("SCRIPT", "FLUSH")

    def follow(self, *_: object) -> None:
        """Take what there is, or join."""
        try:
            if self._held is None:
                joined, self._held = join(self._follower)
                self._position = joined.position
            for entry in self._follower.follow(self._position, 0.0):
                take(self._held, entry.flush, HISTORY)
                self._position = entry.position
        except (MustJoinError, EngineAwayError):
            self._held = None

    def settle(self) -> None:
        """Let a leader write what the server lost, and compare all with the truth."""
        for leader in self._leaders:
            leader.loses = 0
        if self._present is None:
            self.lead(self._leaders[0])
        for _ in range(3):  # the first one may find that the server lost something
            self._settle_once()
        self.follow()
        joined, held = join(self._joiner)
        assert joined.position.epoch == self._epoch
        assert held == sorted_rows(self._truth)
        for _ in range(10):
            self.follow()
        assert self._held is not None
        assert sorted_rows(self._held) == held

    def _settle_once(self) -> None:
        assert self._present is not None
        with suppress(EngineAwayError, MustJoinError):
            join(self._joiner)
        if self._present.needs_whole or self._truth is None:
            self._present.needs_whole = True
            self.flush(self._present, 0, [(0, 50, 1)])
        else:
            self.flush(self._present, 0, [])


def sorted_rows(held: Held | None) -> Held:
    held = held or {}
    keep_newest(held, HISTORY)
    return {number: dict(sorted(held[number].items())) for number in sorted(held)}


def play(engines: Engines, actions: Sequence[Action]) -> None:
    world = World(engines)
    for action in actions:
        world.act(action)
    world.settle()
    engines.close()


NAMES = ["flush"] * 6 + ["follow"] * 4 + ["lead"] * 2
NAMES += ["lose_answers", "trim", "vanish", "empty", "forget_scripts"]
BARS = st.tuples(st.integers(0, 2), st.integers(40, 52), st.integers(1, 99))
ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(NAMES),
        st.integers(0, 7),
        st.lists(BARS, max_size=5).map(tuple),
    ),
    max_size=25,
)


@given(actions=ACTIONS)
@settings(
    max_examples=max(1, round(40 * SCALE)),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_followers_have_what_the_leader_wrote(
    redis_server: RedisServer, actions: list[Action]
) -> None:
    play(Engines(redis_server), actions)


def drawn(seed: int) -> list[Action]:
    """Return many actions without those that make a leader write all again."""
    rng = random.Random(seed)
    names = ["flush"] * 5 + ["follow"] * 3 + ["lead", "trim"]
    return [
        (
            rng.choice(names),
            rng.randrange(8),
            tuple(
                (rng.randrange(3), rng.randrange(40, 53), rng.randrange(1, 99))
                for _ in range(3)
            ),
        )
        for _ in range(40)
    ]


def without_fence(patch: pytest.MonkeyPatch, play_all: Callable[[], None]) -> None:
    for name in ("FLUSH", "RINGS"):
        text = getattr(script, name).text
        assert FENCE in text
        mutant = script.make_script(text.replace(FENCE, ""))
        patch.setattr(redis_leader, name, mutant)
    with pytest.raises(AssertionError):
        play_all()


def without_sequence(patch: pytest.MonkeyPatch, play_all: Callable[[], None]) -> None:
    patch.setattr(redis_follower, "why_join", lambda *_: "")
    with pytest.raises(AssertionError):
        play_all()


def as_it_is(patch: pytest.MonkeyPatch, play_all: Callable[[], None]) -> None:
    play_all()


@pytest.mark.parametrize("change", [as_it_is, without_fence, without_sequence])
def test_mutants_are_seen(
    engines: Engines,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[..., None],
) -> None:
    """The checks above fail without the epoch's check, and without the sequence's."""

    def play_all() -> None:
        for number in range(6):
            play(engines, drawn(20260101 + number))

    change(monkeypatch, play_all)
