"""The faults of a relay: the kind, place and time of each."""

import random
from typing import NamedTuple

LEADERS = ("a", "b")  # hosts with a socket of their own; one leads at a time
FOLLOWER, LATE = "c", "d"  # the second one joins when the faults are over
REDIS = "redis"

KILL_FEEDER, KILL_PUBLISHER = "kill a feeder", "kill a publisher"
KILL_HOST = "kill feeder and publisher of a host"
STOP_FEEDER, STOP_PUBLISHER = "stop a feeder", "stop a publisher"
STOP_HOST = "stop feeder and publisher of a host"
KILL_FOLLOWER, STOP_FOLLOWER = "kill the follower", "stop the follower"
RESTART, STOP_REDIS, FLUSH = "restart Redis empty", "stop Redis", "FLUSHALL"
FULL, EVICTING = "no memory in Redis", "Redis evicts all keys"
CUT, STALL, SLOW = "cut a link", "stall a link", "slow a link"

OF_LEADERS = (
    KILL_FEEDER,
    KILL_PUBLISHER,
    KILL_HOST,
    STOP_FEEDER,
    STOP_PUBLISHER,
    STOP_HOST,
)
OF_FOLLOWER = (KILL_FOLLOWER, STOP_FOLLOWER)
OF_REDIS = (RESTART, STOP_REDIS, FLUSH, FULL, EVICTING)
OF_LINKS = (CUT, STALL, SLOW)
KINDS = (*OF_LEADERS, *OF_FOLLOWER, *OF_REDIS, *OF_LINKS)
AT_ONCE = frozenset(
    {KILL_FEEDER, KILL_PUBLISHER, KILL_HOST, KILL_FOLLOWER, RESTART, FLUSH}
)

_GAPS = 0.2, 0.8  # s between the beginnings of two faults
_LENGTHS = 0.5, 4.0  # s; the leadership of a host that is stopped ends after 3


class Fault(NamedTuple):
    """One fault.

    Attributes:
        begin, end: Seconds since the first could have begun; the same for a kill.
        kind: One of KINDS.
        target: A host, the link of a host, or Redis.
    """

    begin: float
    end: float
    kind: str
    target: str


def plan(count: int, seed: int) -> list[Fault]:
    """Return faults in the order of their beginnings; each target has one at a time."""
    rng = random.Random(seed)
    free: dict[str, float] = {}  # by target: when its last fault ends
    kinds: list[str] = []
    found: list[Fault] = []
    now = 0.0
    for _ in range(count):
        if not kinds:
            kinds = rng.sample(KINDS, len(KINDS))
        kind = kinds.pop()
        target = _target(kind, rng)
        now = max(now + rng.uniform(*_GAPS), free.get(target, 0.0))
        end = now if kind in AT_ONCE else now + rng.uniform(*_LENGTHS)
        free[target] = end
        found.append(Fault(now, end, kind, target))
    return found


def _target(kind: str, rng: random.Random) -> str:
    if kind in OF_LEADERS:
        return rng.choice(LEADERS)
    if kind in OF_FOLLOWER:
        return FOLLOWER
    if kind in OF_REDIS:
        return REDIS
    return f"link {rng.choice((*LEADERS, FOLLOWER))}"
