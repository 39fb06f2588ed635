"""One connection to Redis: commands out, answers in, errors in words.

redis-py opens the connection and hiredis reads its answers. Neither tries anything
again: its caller alone knows whether a command may run twice. Each wait has a limit. A
connection whose answer is not certain is dropped, and the next call opens another one.
"""

import re
import socket
import ssl
from collections.abc import Callable, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

from shmfeed.relay.engine import EngineRefusedError
from shmfeed.relay.redis_errors import explain
from shmfeed.relay.script import Script
from shmfeed.settings.relay import MISSING_PACKAGES

CONNECT_SECONDS = 3.0
REPLY_SECONDS = 5.0  # longer than any wait that a command asks for
_LEAST_VERSION = (6, 2)
# redis-py has a class for it, or leaves the code in the text, by its version.
_MOVED = re.compile(r"(?:MovedError|ResponseError MOVED) \d+ (\S*):(\d+)")
_SILENCE = "no answer to the handshake; the port may be one of plain TCP"
_FACT = re.compile(rb"^(redis_version|run_id):(\S+)", re.MULTILINE)


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


class RedisConnection:
    """A connection that is opened when it is needed.

    Each call raises EngineAwayError or EngineRefusedError.

    Attributes:
        target: The server.
        run_id: The run of the server that the connection leads to, "" if it does not
            tell. A server that was started again, or took over, has another one.
    """

    def __init__(self, target: RedisTarget) -> None:
        self.target = target
        self.run_id = ""
        self._connection: Any = None
        self._moved: tuple[str, int] | None = None

    @property
    def is_open(self) -> bool:
        """True if the last call left a connection."""
        return self._connection is not None

    def open(self) -> None:
        """Open the connection, unless it is open."""
        if self._connection is None:
            self._attempt("CONNECT", self._connect)

    def call(self, *command: bytes | str | float) -> Any:
        """Return the answer to a command."""
        name = str(command[0])
        self.open()
        try:
            return self._attempt(name, lambda: self._exchange(command))
        except _MovedError:
            self.open()
            return self._attempt(name, lambda: self._exchange(command))

    def close(self) -> None:
        """Close the connection; the next call opens another one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()

    def run(
        self, script: Script, keys: Sequence[str], *arguments: bytes | str | float
    ) -> Any:
        """Return the answer of a script, loading it if the server lost it."""
        rest = (len(keys), *keys, *arguments)
        try:
            return self.call("EVALSHA", script.sha, *rest)
        except _NoScriptError:
            return self.call("EVAL", script.text, *rest)

    def _attempt(self, name: str, act: Callable[[], Any]) -> Any:
        errors = _redis().exceptions
        try:
            return act()
        except EngineRefusedError:  # our own, and an OSError
            self.close()
            raise
        except errors.NoScriptError as error:
            raise _NoScriptError from error
        except (errors.RedisError, OSError) as error:
            self.close()
            before, self._moved = self._moved, None
            node = _node_in(error)
            if node is None or before is not None:
                secret = self.target.password
                told = explain(error, name, str(self.target), secret)
                is_secret = bool(secret) and secret in str(error)
                raise told from (None if is_secret else error)
            self._moved = node[0] or self.target.host, node[1]
            raise _MovedError from error

    def _exchange(self, command: Sequence[bytes | str | float]) -> Any:
        self._connection.send_command(*command)
        return self._connection.read_response(disable_decoding=True)

    def _connect(self) -> None:
        connection = _new_connection(self.target, self._moved)
        self._connection = connection
        connection.connect()
        self.run_id = self._check_server(connection)

    def _check_server(self, connection: Any) -> str:
        """Return the server's run. Raise EngineRefusedError if it is too old."""
        try:
            connection.send_command("INFO", "server")
            facts = dict(_FACT.findall(connection.read_response(disable_decoding=True)))
        except _redis().exceptions.NoPermissionError:
            return ""  # some providers keep it for themselves
        version = facts.get(b"redis_version", b"").decode()
        numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
        if numbers and numbers < _LEAST_VERSION:
            raise EngineRefusedError(
                f"Redis {self.target} is version {version}; the relay needs Redis 6.2"
                " or later, or Valkey"
            )
        return str(facts.get(b"run_id", b"").decode())


class _MovedError(Exception):
    """Another node of the cluster has the feed's keys."""


class _NoScriptError(Exception):
    """The server was started again since it was given the script, or forgot it."""


def _node_in(error: Exception) -> tuple[str, int] | None:
    """Return the host and port that an answer of a cluster names, or None."""
    found = _MOVED.fullmatch(f"{type(error).__name__} {error}")
    return (found[1], int(found[2])) if found else None


def _redis() -> ModuleType:
    """Return the package redis, which is of an extra."""
    try:
        return import_module("redis")
    except ImportError:
        raise EngineRefusedError(MISSING_PACKAGES) from None


def _new_connection(target: RedisTarget, moved: tuple[str, int] | None) -> Any:
    """Return a connection of redis-py, whose TLS is that of the target's context."""
    host, port = moved or (target.host, target.port)
    connection: Any = _redis().Connection(
        host,
        port,
        db=target.db,
        username=target.user or None,
        password=target.password or None,
        socket_timeout=REPLY_SECONDS,
        socket_connect_timeout=CONNECT_SECONDS,
        protocol=2,
    )
    if target.tls is not None:
        connect, wrap = connection._connect, target.tls.wrap_socket
        connection._connect = lambda: _handshake(connect(), wrap, target.host)
    return connection


def _handshake(
    sock: socket.socket, wrap: Callable[..., ssl.SSLSocket], host: str
) -> ssl.SSLSocket:
    try:
        return wrap(sock, server_hostname=host)
    except TimeoutError:
        sock.close()
        raise ssl.SSLError(0, _SILENCE) from None
    except BaseException:
        sock.close()
        raise
