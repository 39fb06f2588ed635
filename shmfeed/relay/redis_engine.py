"""Redis as the engine of the relay: Redis 6.2 or later, or Valkey."""

import re
from contextlib import suppress

from shmfeed.relay.engine import EngineRefusedError
from shmfeed.relay.redis_follower import FollowerSide
from shmfeed.relay.redis_leader import LeaderSide

_MEMORY = re.compile(rb"^(maxmemory_policy):(\S+)", re.MULTILINE)
_EVICTS_ALL = "allkeys-"


class RedisEngine(LeaderSide, FollowerSide):
    """One feed in Redis, as `engine.Engine` describes it.

    Thread safety: one thread at a time.
    """

    def warnings(self) -> list[str]:
        """Return what the operator should change, such as an eviction policy."""
        found = b""
        with suppress(EngineRefusedError):  # some providers keep it for themselves
            found = self._call("INFO", "memory")
        facts = dict(_MEMORY.findall(found))
        policy = facts.get(b"maxmemory_policy", b"").decode("ascii", "replace")
        if not policy.startswith(_EVICTS_ALL):
            return []
        return [_describe_policy(str(self._connection.target), policy)]


def _describe_policy(server: str, policy: str) -> str:
    return (
        f"Redis {server} has maxmemory-policy {policy}, which deletes rings when its"
        " memory is full: set noeviction, or a volatile-* policy"
    )
