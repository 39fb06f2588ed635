"""A feed in Redis: its keys, a connection, and answers of scripts as errors.

The two sides of a relay, in `redis_leader` and `redis_follower`, are built on it.
"""

from collections.abc import Sequence
from typing import Any

from shmfeed.relay.blobs import KIND_BYTES, MAGIC, VERSION, other_version
from shmfeed.relay.engine import EngineAwayError, EngineRefusedError, FencedError
from shmfeed.relay.engine_clock import EngineClock
from shmfeed.relay.keys import FeedKeys
from shmfeed.relay.redis_connection import RedisConnection, RedisTarget
from shmfeed.relay.script import FENCED, FOREIGN, GAP, LOST, Script
from shmfeed.text import printable, repr_short
from shmfeed.wire.boot_clock import boot_seconds

_MICRO = 1e-6
_MEASURE_SECONDS = 1.0


class RedisFeed:
    """A feed in a database of Redis.

    Attributes:
        name: The feed's name there.
    """

    def __init__(self, name: str, target: RedisTarget) -> None:
        self.name = name
        self._keys = FeedKeys(name)
        self._connection = RedisConnection(target)
        self._clock = EngineClock()
        self._clock_of = ""  # the run of the server whose clock is known
        self._measured = 0.0

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _open(self) -> None:
        """Connect if that is needed, and know the server's clock."""
        was_open = self._connection.is_open
        self._connection.open()
        run_id = self._connection.run_id
        is_same = run_id == self._clock_of and (was_open or run_id)
        if not is_same or not self._clock.is_known:
            self._clock.forget()
            self._clock_of = run_id
            self._measure()

    def _measure(self) -> None:
        sent = boot_seconds()
        seconds, micros = self._connection.call("TIME")
        self._take_time(sent, seconds, micros)

    def _measure_now_and_then(self) -> None:
        if boot_seconds() - self._measured > _MEASURE_SECONDS:
            self._measure()

    def _take_time(self, sent: float, seconds: bytes, micros: bytes) -> None:
        received = boot_seconds()
        self._measured = received
        self._clock.measure(sent, received, int(seconds) + int(micros) * _MICRO)

    def _call(self, *command: bytes | str | float) -> Any:
        """Return the answer to a command."""
        self._open()
        return self._connection.call(*command)

    def _run(
        self, script: Script, keys: Sequence[str], *arguments: bytes | str | float
    ) -> list[Any]:
        """Return the answer of a script. Raise the error that it may be."""
        self._open()
        answer: list[Any] = self._connection.run(script, keys, *arguments)
        error = self._error_of(answer)
        if error is not None:
            raise error
        return answer

    def _run_timed(
        self, script: Script, keys: Sequence[str], *arguments: bytes | str | float
    ) -> list[Any]:
        """Return the answer of a script that tells the time, without the time."""
        sent = boot_seconds()
        answer = self._run(script, keys, *arguments)
        if len(answer) > 2:
            self._take_time(sent, answer[1], answer[2])
        return [answer[0], *answer[3:]]

    def _error_of(self, answer: Sequence[Any]) -> Exception | None:
        server = self._connection.target
        status, *facts = answer
        if status not in {FENCED, GAP, LOST, FOREIGN}:
            return None
        words = [printable(fact.decode("utf-8", "replace")) for fact in facts[:2]]
        if status == FENCED:
            return FencedError(_describe_fence(str(server), words[0]))
        if status == GAP:
            return EngineAwayError(
                f"Redis {server} has lost flushes after number {words[0]}: it was"
                " started again or has failed over"
            )
        if status == LOST:
            return EngineAwayError(
                f"Redis {server} has lost the key {words[0]}: it was deleted, or"
                " evicted where maxmemory-policy is allkeys-*"
            )
        return self._describe_foreign(words[0], words[1], facts[2])

    def _describe_foreign(self, key: str, kind: str, held: bytes) -> EngineRefusedError:
        if kind == "format" and held:
            return other_version(key, held.decode("utf-8", "replace"))
        version = int.from_bytes(held[4:6], "little")
        if held[:4] == MAGIC and len(held) >= KIND_BYTES and version != VERSION:
            return other_version(key, version)
        what = repr_short(held) if kind == "string" else f"a {kind}"
        return EngineRefusedError(
            f"key {key} of Redis {self._connection.target} holds {what}, which shmfeed"
            " did not write: delete it, or publish under another name"
        )


def _describe_fence(server: str, epoch: str) -> str:
    if epoch:
        return f"another leader has come: Redis {server} is at epoch {epoch}"
    return f"Redis {server} was emptied: it has no epoch of this feed any more"
