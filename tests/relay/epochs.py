"""The log of flushes as Redis has it: no entry may be of an older epoch."""

import threading
from collections.abc import Iterable, Mapping
from typing import Self

_PAUSE_SECONDS = 0.1
_TIMEOUT_SECONDS = 2.0
_AT_ONCE = 200  # entries


class EpochCheck:
    """Finds entries that an older leader wrote, or that are out of sequence.

    Attributes:
        epochs: The epochs in the order in which they were seen.
        violations: A line for each wrong entry.
    """

    def __init__(self) -> None:
        self.epochs: list[int] = []
        self.violations: list[str] = []
        self._sequence = 0

    def take(self, epoch: int, sequence: int) -> None:
        """Take the next entry of the log."""
        newest = self.epochs[-1] if self.epochs else 0
        if epoch < newest:
            self.violations.append(f"a flush of epoch {epoch} after one of {newest}")
            return
        if epoch > newest:
            self.epochs.append(epoch)
        elif sequence <= self._sequence:
            self.violations.append(
                f"flush {sequence} after flush {self._sequence} of epoch {epoch}"
            )
        self._sequence = sequence


class LogWatch:
    """Reads the log beside the followers, in a thread, through all losses of Redis.

    Args:
        port: The server's on loopback.
        key: The key of the log.

    Attributes:
        check: The findings.
        entries: Entries that were seen.
    """

    def __init__(self, port: int, key: str) -> None:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        self.check = EpochCheck()
        self.entries = 0
        self._client = redis.Redis(
            port=port, socket_timeout=_TIMEOUT_SECONDS, retry=Retry(NoBackoff(), 0)
        )
        self._key = key
        self._last = "0-0"
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ending.set()
        self._thread.join()
        self._client.close()

    def _run(self) -> None:
        from redis.exceptions import RedisError

        while not self._ending.wait(_PAUSE_SECONDS):
            try:
                self._read()
            except (RedisError, OSError):
                continue  # it is away, or has just lost all

    def _read(self) -> None:
        newest = self._client.xrevrange(self._key, count=1)
        if newest and _number(newest[0][0]) < _number(self._last):
            self._last = "0-0"  # the log began again
        while entries := self._client.xrange(
            self._key, f"({self._last}", count=_AT_ONCE
        ):
            self._take(entries)

    def _take(self, entries: Iterable[tuple[bytes, Mapping[bytes, bytes]]]) -> None:
        for name, fields in entries:
            self._last = name.decode()
            self.entries += 1
            self.check.take(int(fields[b"e"]), int(fields[b"s"]))


def _number(entry: bytes | str) -> tuple[int, ...]:
    text = entry.decode() if isinstance(entry, bytes) else entry
    return tuple(map(int, text.split("-")))
