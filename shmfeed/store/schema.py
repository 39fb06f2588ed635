"""The tables of a store, and the checks of a file that is to be one.

    store_info     key, value: `identity` names the source of the rows
    streams        id, symbol, timeframe
    bar_versions   stream, open_time, version -> values, times, cause
    bars           a view: the newest version of each bar, with symbol and timeframe

A version never changes, but for the times of one that was caught up. The versions of a
bar count up from 1. The primary key is the order of the table, so that the bars of a
stream lie side by side. docs/store.md describes each column.
"""

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from shmfeed.errors import BadArgumentError, ShmfeedError
from shmfeed.identity import FeedIdentity, parse_identity
from shmfeed.text import one_line, repr_short

APPLICATION_ID = 0x53484D46  # "SHMF", in the header of the file
VERSION = 1  # its `user_version`
CAUGHT_UP = "caught_up"  # the cause of a version whose own times are not known
CUT = "cut"  # the cause of a version that says that its bar is no row any more
CHECKED_BYTES = 64 << 20  # a smaller file is checked page by page when it is opened

_LEAST_BYTES = 512
_WAL_BYTES = 16 << 20
_BEFORE = """
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
"""
_TABLES = f"""
CREATE TABLE store_info (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE streams (
    id INTEGER PRIMARY KEY,
    symbol TEXT NOT NULL,
    timeframe TEXT NOT NULL,
    UNIQUE (symbol, timeframe)
);
CREATE TABLE bar_versions (
    stream INTEGER NOT NULL REFERENCES streams (id),
    open_time INTEGER NOT NULL,
    version INTEGER NOT NULL,
    open REAL NOT NULL,
    high REAL NOT NULL,
    low REAL NOT NULL,
    close REAL NOT NULL,
    volume REAL NOT NULL,
    money REAL,
    flags INTEGER NOT NULL,
    received INTEGER,
    published INTEGER NOT NULL,
    cause TEXT NOT NULL,
    PRIMARY KEY (stream, open_time, version)
) WITHOUT ROWID;
CREATE VIEW bars AS
SELECT symbol, timeframe, open_time, open, high, low, close, volume, money, flags,
       version, received, published, cause
FROM bar_versions AS v JOIN streams ON streams.id = v.stream
WHERE version = (
    SELECT max(version) FROM bar_versions AS w
    WHERE w.stream = v.stream AND w.open_time = v.open_time
) AND cause <> '{CUT}';
"""

# The kinds of failure of a store.
StoreFailure = Literal[
    "damaged",
    "version",
    "foreign",
    "identity",
    "locked",
    "full",
    "read-only",
    "failed",
    "defect",  # of this package: the same rows would fail again
]
_FULL = {"SQLITE_FULL"}
_LOCKED = {"SQLITE_BUSY", "SQLITE_LOCKED"}
_READ_ONLY = {"SQLITE_READONLY", "SQLITE_PERM"}
_DAMAGED = {"SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_SCHEMA", "SQLITE_MISMATCH"}
_DAMAGED |= {"SQLITE_FORMAT", "SQLITE_CONSTRAINT"}


class StoreError(ShmfeedError):
    """A store cannot be used.

    Attributes:
        kind: The kind of failure.
    """

    def __init__(self, message: str, kind: StoreFailure) -> None:
        super().__init__(message)
        self.kind = kind


def check_path(path: str) -> None:
    """Raise BadArgumentError if no file can be a store under this path."""
    try:
        mode = Path(path).stat().st_mode
    except FileNotFoundError:
        parent = Path(path).absolute().parent
        if parent.is_dir():
            return
        fault = f"{str(parent)!r} is not a directory"
    except (OSError, ValueError) as error:
        fault = getattr(error, "strerror", None) or str(error)
    else:
        if stat.S_ISREG(mode):
            return
        fault = "it is a directory" if stat.S_ISDIR(mode) else "it is not a file"
    raise BadArgumentError(
        f"store {path!r} is not accepted: {fault}; give the path of a file in a"
        " directory that exists"
    )


def open_to_write(
    path: str, identity: FeedIdentity, replace: bool
) -> sqlite3.Connection:
    """Return a connection to a store of this identity; create the store if absent.

    With `replace`, bars of another identity are dropped.

    Raises:
        StoreError: The file cannot be used.
    """
    with as_store_errors(path):
        _check_size(path)
        _make_private(path)
        connection = _connect(path, "rwc")
        try:
            if _is_empty(connection):
                _create(connection, identity)
            check_format(connection, path)
            _check_pages(connection, path)
            _check_identity(connection, path, identity, replace)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
        except BaseException:
            connection.close()
            raise
    return connection


def open_to_read(path: str) -> sqlite3.Connection:
    """Return a connection that reads a store, whether a feeder writes it or not.

    Raises:
        BadArgumentError: There is no such file, or it is a directory.
        StoreError: The file cannot be used.
    """
    check_path(path)
    if not Path(path).exists():
        raise BadArgumentError(
            f"store {path!r} is not there; give the path that the feeder's setting"
            " `store` has"
        )
    with as_store_errors(path):
        connection = _connect(path, "ro")
        try:
            try:
                check_format(connection, path)
            except sqlite3.OperationalError as error:
                # A directory without write permission cannot hold the log's index. If
                # there is no log either, the file alone is the store.
                log = Path(f"{os.path.realpath(path)}-wal")
                if "CANTOPEN" not in _name_of(error) or log.exists():
                    raise
                connection.close()
                connection = _connect(path, "ro&immutable=1")
                check_format(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def check_format(connection: sqlite3.Connection, path: str) -> None:
    """Raise StoreError if the file is not a store of this version."""
    application, version = _number(connection, "application_id"), 0
    if application == APPLICATION_ID:
        version = _number(connection, "user_version")
        if version == VERSION:
            return
        raise StoreError(
            f"store {path!r} is of version {version}, and this package writes version"
            f" {VERSION}; use the package that wrote it, or another path",
            "version",
        )
    raise StoreError(
        f"store {path!r} is a SQLite database of another program; give another path",
        "foreign",
    )


def stored_identity(connection: sqlite3.Connection) -> FeedIdentity | None:
    """Return the identity of the stored rows, None if it cannot be read."""
    text = _identity_text(connection)
    return parse_identity(text) if isinstance(text, str) else None


def has_bars(connection: sqlite3.Connection) -> bool:
    """Return True if a store has had a bar."""
    query = "SELECT 1 FROM bar_versions LIMIT 1"
    return connection.execute(query).fetchone() is not None


def check_identity_is_known(connection: sqlite3.Connection, path: str) -> None:
    """Raise StoreError if a store has bars and its identity cannot be read."""
    if stored_identity(connection) is None and has_bars(connection):
        text = _identity_text(connection)
        fault = "is missing" if text is None else f"is {repr_short(text)}"
        raise StoreError(
            f"store {path!r} is damaged: the identity of its bars {fault}; move it"
            " away, and the feeder makes another one, or start with --replace, which"
            " drops those bars",
            "damaged",
        )


def _identity_text(connection: sqlite3.Connection) -> object:
    query = "SELECT value FROM store_info WHERE key = 'identity'"
    row = connection.execute(query).fetchone()
    return None if row is None else row[0]


@contextmanager
def as_store_errors(path: str) -> Iterator[None]:
    """Raise SQLite's errors as StoreError."""
    try:
        yield
    except sqlite3.Error as error:
        raise describe_error(path, error) from error


def describe_error(path: str, error: sqlite3.Error) -> StoreError:
    """Return SQLite's error in our words, with the remedy."""
    name, text = _name_of(error), one_line(str(error))
    if any(name.startswith(one) for one in _LOCKED):
        return StoreError(f"store {path!r} is locked by another process", "locked")
    if any(name.startswith(one) for one in _FULL):
        return StoreError(
            f"store {path!r} cannot grow: the disk is full; make room", "full"
        )
    if any(name.startswith(one) for one in _READ_ONLY) or _is_unwritable(path, name):
        return StoreError(
            f"store {path!r} is read-only: {text}; give the feeder's user the right to"
            " write the file and its directory",
            "read-only",
        )
    if any(name.startswith(one) for one in _DAMAGED) or not name:
        return StoreError(
            f"store {path!r} is damaged: {text}; move it away, and the feeder makes"
            " another one",
            "damaged",
        )
    return StoreError(f"store {path!r} cannot be used: {text} ({name})", "failed")


def _is_unwritable(path: str, name: str) -> bool:
    """Return True if a file could not be opened because it must not be written."""
    is_there = name.startswith("SQLITE_CANTOPEN") and Path(path).exists()
    places = path, Path(path).absolute().parent
    return is_there and not all(os.access(place, os.W_OK) for place in places)


def _connect(path: str, mode: str) -> sqlite3.Connection:
    # `Path.as_uri` would refuse a path that is not UTF-8.
    uri = f"file:{quote(os.fsencode(os.path.abspath(path)))}?mode={mode}"  # noqa: PTH100
    return sqlite3.connect(
        uri, timeout=0.0, isolation_level=None, check_same_thread=False, uri=True
    )


def _make_private(path: str) -> None:
    """Create an absent file with mode 0600, which SQLite gives its log too."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError:
        return  # it is there, or SQLite says why there cannot be one


def file_ids(path: str) -> list[tuple[int, int] | None]:
    """Return what identifies a store's file and its log, None for one that is gone."""
    found: list[tuple[int, int] | None] = []
    real = os.path.realpath(path)
    for name in (real, f"{real}-wal"):
        try:
            status = os.stat(name)  # noqa: PTH116 # each transaction does it
        except OSError:
            found.append(None)
        else:
            found.append((status.st_dev, status.st_ino))
    return found


def _check_size(path: str) -> None:
    # SQLite takes a file that is shorter than a page for an empty one.
    size = Path(path).stat().st_size if Path(path).exists() else 0
    if 0 < size < _LEAST_BYTES:
        raise sqlite3.DatabaseError(f"it has {size} bytes")


def _is_empty(connection: sqlite3.Connection) -> bool:
    """Return True for a file without a table, as one whose creation was killed."""
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    marks = _number(connection, "application_id"), _number(connection, "user_version")
    return not tables and marks == (0, 0)


def _create(connection: sqlite3.Connection, identity: FeedIdentity) -> None:
    connection.executescript(_BEFORE)
    connection.execute("BEGIN IMMEDIATE")
    try:
        if _is_empty(connection):  # still: another feeder may have been faster
            for statement in _TABLES.strip().split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
            _write_identity(connection, identity)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _check_pages(connection: sqlite3.Connection, path: str) -> None:
    size = _number(connection, "page_size") * _number(connection, "page_count")
    if size > CHECKED_BYTES:
        return
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise StoreError(
            f"store {path!r} is damaged: {one_line(str(found))}; move it away, and the"
            " feeder makes another one",
            "damaged",
        )


def _check_identity(
    connection: sqlite3.Connection, path: str, identity: FeedIdentity, replace: bool
) -> None:
    stored = stored_identity(connection)
    if stored is not None and stored.matches(identity):
        return
    is_used = has_bars(connection)
    if is_used and not replace:
        check_identity_is_known(connection, path)
        raise StoreError(
            f"store {path!r} holds bars of {stored}, and these settings are of"
            f" {identity}: use another path, or replace=True (--replace), which drops"
            " those bars",
            "identity",
        )
    connection.execute("BEGIN IMMEDIATE")
    try:
        if is_used:
            connection.execute("DELETE FROM bar_versions")
            connection.execute("DELETE FROM streams")
        _write_identity(connection, identity)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _write_identity(connection: sqlite3.Connection, identity: FeedIdentity) -> None:
    insert = "INSERT OR REPLACE INTO store_info VALUES ('identity', ?)"
    connection.execute(insert, (str(identity),))


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    number: int = connection.execute(f"PRAGMA {pragma}").fetchone()[0]
    return number


def _name_of(error: sqlite3.Error) -> str:
    return str(getattr(error, "sqlite_errorname", "") or "")
