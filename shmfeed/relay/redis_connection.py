"""One connection to Redis: commands out, answers in, errors in words.

redis-py opens the connection and hiredis reads its answers. Neither tries anything
again: its caller alone knows whether a command may run twice. Each wait has a limit. A
connection whose answer is not certain is dropped, and the next call opens another one.
"""

import ssl
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from shmfeed.relay.engine import EngineRefusedError
from shmfeed.relay.redis_errors import explain_answer, explain_failure
from shmfeed.text import one_line
from shmfeed.wire.boot_clock import boot_seconds

if TYPE_CHECKING:  # the package is of the extra `redis`
    import redis

CONNECT_SECONDS = 3.0
REPLY_SECONDS = 5.0  # longer than any wait that a command asks for
_LEAST_VERSION = (6, 2)


class RedisTarget(NamedTuple):
    """A database of a Redis server, and how to log in.

    Attributes:
        host, port: The server.
        db: The number of the database.
        user: The user of its ACL, "" for the default one.
        password: "" without one. No text about a target has it.
        tls: The context of a connection with TLS, None for plain TCP.
    """

    host: str
    port: int = 6379
    db: int = 0
    user: str = ""
    password: str = ""
    tls: ssl.SSLContext | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}/{self.db}"

    def __repr__(self) -> str:
        password = "'***'" if self.password else "''"
        return (
            f"RedisTarget(host={self.host!r}, port={self.port}, db={self.db},"
            f" user={self.user!r}, password={password}, tls={self.tls is not None})"
        )
