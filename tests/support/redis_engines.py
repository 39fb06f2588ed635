"""Engines of a test's Redis server, as leaders and followers make them."""

from typing import Any

from support.redis_server import RedisServer
from support.relay_flushes import whole

from shmfeed.relay.redis_engine import RedisEngine

NAME = "feed.1"


class Engines:
    """Engines of one server, closed at the end."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self._made: list[RedisEngine] = []

    def make(self, name: str = NAME, **target: Any) -> RedisEngine:
        """Return an engine; `target` replaces parts of the server's target."""
        self._made.append(RedisEngine(name, self.server.target._replace(**target)))
        return self._made[-1]

    def leader(self) -> RedisEngine:
        """Return an engine that leads and has written a whole flush."""
        engine = self.make()
        assert engine.lead("host:1", 5)
        engine.flush(whole())
        return engine

    def close(self) -> None:
        for engine in self._made:
            engine.close()


def key(name: str) -> str:
    """Return the name of a key of the feed."""
    return f"{{shmfeed:{NAME}}}:{name}"
