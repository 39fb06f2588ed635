"""The log of a feeder: its lines, its file, and standard error.

A line of text begins with its UTC time, its level and its feed. A line of JSON is one
object with the keys time, level, logger, feed, message, and the facts of the event.
Every line passes `Settings.redact`, so that no message of a server can show a secret.

A handler never raises and never blocks: a feeder goes on when its disk is full, when
the folder of its log has gone, and when the reader of its standard error has stopped.
"""

import errno
import logging
import os
import select
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import msgspec

from shmfeed.errors import BadArgumentError
from shmfeed.settings.model import Settings
from shmfeed.text import printable

FACTS = "facts"  # the attribute of a record that holds the facts of its event

_PIECE_BYTES = 4096  # a pipe that has room takes so much without blocking

Redact = Callable[[str], str]


def facts(**values: object) -> dict[str, Any]:
    """Return the `extra` of a log call, for the facts that a line of JSON has."""
    return {FACTS: values}


class TextFormatter(logging.Formatter):
    """Lines such as `2026-01-31T08:00:00.123Z WARNING feed spot: lost ..`.

    Each line of a traceback begins so, too.
    """

    def __init__(self, feed: str, redact: Redact) -> None:
        super().__init__()
        self._prefix = f"feed {feed}: "
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage().removeprefix(self._prefix)
        head = f"{_utc(record)} {record.levelname} {self._prefix}"
        parts = [message, *_traceback(self, record).splitlines()]
        return self._redact("\n".join(head + printable(part) for part in parts))


class JsonFormatter(logging.Formatter):
    """Lines that are one JSON object each."""

    def __init__(self, feed: str, redact: Redact) -> None:
        super().__init__()
        self._feed = feed
        self._prefix = f"feed {feed}: "
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": _utc(record),
            "level": record.levelname,
            "logger": record.name,
            "feed": self._feed,
            "message": self._text(record.getMessage().removeprefix(self._prefix)),
        }
        for name, value in getattr(record, FACTS, {}).items():
            line[name] = self._text(value) if isinstance(value, str) else value
        if trace := _traceback(self, record):
            line["traceback"] = self._text(trace)
        return msgspec.json.encode(line).decode()

    def _text(self, text: str) -> str:
        # JSON has no lone surrogates, as in the name of a file that is not UTF-8.
        return self._redact(text).encode(errors="backslashreplace").decode()


_FORMATTERS: dict[str, Callable[[str, Redact], logging.Formatter]] = {
    "text": TextFormatter,
    "json": JsonFormatter,
}


class StandardErrorHandler(logging.Handler):
    """Lines on standard error, where it takes them at once; others are dropped."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.write(self.format(record))
        except Exception:  # noqa: BLE001 # the log must not end the feeder
            self.handleError(record)

    def write(self, line: str) -> None:
        """Write a line; raise OSError if it cannot be written."""
        try:
            fd = sys.stderr.fileno()
        except (AttributeError, ValueError, OSError):  # replaced, or closed
            print(line, file=sys.stderr, flush=True)
            return
        sys.stderr.flush()
        data = (line + "\n").encode(errors="backslashreplace")
        while data and _takes_data(fd):
            data = data[os.write(fd, data[:_PIECE_BYTES]) :]


class LogFileHandler(logging.Handler):
    """Lines in a file, which is opened again once it was renamed or removed.

    A line that the file cannot take goes to `fallback`.
    """

    def __init__(self, path: str, fallback: StandardErrorHandler) -> None:
        """Open the file. Raise OSError if it cannot be written."""
        super().__init__()
        self.path = path
        self._fallback = fallback
        self._fd: int | None = _open(path)
        self._is_failing = False
        self._is_cut = False  # the last line ended early

    def emit(self, record: logging.LogRecord) -> None:
        line = ""
        try:
            line = self.format(record)
            self._write(line)
        except OSError as error:
            self._fall_back(record, line, error)
        except Exception:  # noqa: BLE001 # the log must not end the feeder
            self.handleError(record)
        else:
            self._is_failing = False

    def reopen(self) -> None:
        """Close the file; the next line opens it again."""
        self.acquire()
        try:
            fd, self._fd = self._fd, None
            if fd is not None:
                os.close(fd)
        finally:
            self.release()

    def close(self) -> None:
        self.reopen()
        super().close()

    def _write(self, line: str) -> None:
        if self._fd is not None and not self._is_current(self._fd):
            self.reopen()
        if self._fd is None:
            self._fd = _open(self.path)
            self._is_cut = False
        start = "\n" if self._is_cut else ""
        data = f"{start}{line}\n".encode(errors="backslashreplace")
        written = os.write(self._fd, data)
        self._is_cut = written < len(data)
        if self._is_cut:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _is_current(self, fd: int) -> bool:
        try:
            named, opened = Path(self.path).stat(), os.fstat(fd)
        except FileNotFoundError:
            return False
        except OSError:  # the folder may not be searched; the file is still there
            return True
        return (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino)

    def _fall_back(self, record: logging.LogRecord, line: str, error: OSError) -> None:
        reason = (error.strerror or str(error)).lower()
        try:
            if not self._is_failing:
                self._is_failing = True
                self._fallback.write(
                    f"log_file {self.path!r} cannot be written: {reason}; its lines"
                    " follow here until it can"
                )
            if record.levelno < self._fallback.level:  # else it has the line anyway
                self._fallback.write(line)
        except (OSError, ValueError):
            pass


class EarlyLines(logging.Handler):
    """The lines of a block in which the settings of the log are not known yet.

    At the end of the block the FeederLog that began in it gets them, else standard
    error.
    """

    def __init__(self) -> None:
        super().__init__()
        self._root = logging.getLogger()
        self._others: list[logging.Handler] = []
        self._records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append(record)

    def __enter__(self) -> Self:
        self._others = list(self._root.handlers)
        self._root.addHandler(self)
        return self

    def __exit__(self, *exc: object) -> None:
        self._root.removeHandler(self)
        begun = [one for one in self._root.handlers if one not in self._others]
        if not begun and not self._others and logging.lastResort is not None:
            begun = [logging.lastResort]
        for record in self._records:
            for handler in begun:
                if record.levelno >= max(handler.level, self._root.level):
                    handler.handle(record)


class FeederLog:
    """The log of this process, set up by its settings, and changed by a reload."""

    def __init__(self, settings: Settings) -> None:
        """Begin to log.

        Raises:
            BadArgumentError: `log_file` cannot be written.
        """
        logging.raiseExceptions = False  # the reader of standard error may have gone
        self._settings = [settings]  # the present ones, and those before
        self._errors = StandardErrorHandler()
        self._file: LogFileHandler | None = None
        self._root = logging.getLogger()
        self._use(settings, self._opened(settings))
        self._root.addHandler(self._errors)

    def change(self, settings: Settings) -> None:
        """Log by other settings from now on; the file is opened again.

        Raises:
            BadArgumentError: `log_file` cannot be written; nothing has changed.
        """
        file = self._opened(settings)
        self._settings = [settings, self._settings[0]]
        self._use(settings, file)

    def check(self, settings: Settings) -> None:
        """Raise BadArgumentError if `log_file` cannot be written."""
        file = self._opened(settings)
        if file is not None:
            file.close()

    def reopen(self) -> None:
        """Open the log file again, as after its rotation."""
        if self._file is not None:
            self._file.reopen()

    def close(self) -> None:
        """Log no more."""
        for handler in (self._errors, self._file):
            if handler is not None:
                self._root.removeHandler(handler)
                handler.close()

    def _opened(self, settings: Settings) -> LogFileHandler | None:
        if settings.log_file is None:
            return None
        try:
            return LogFileHandler(settings.log_file, self._errors)
        except OSError as error:
            raise BadArgumentError(
                f"log_file {settings.log_file!r} cannot be written: {error.strerror}"
            ) from None

    def _use(self, settings: Settings, file: LogFileHandler | None) -> None:
        old, self._file = self._file, file
        formatter = _FORMATTERS[settings.log_format](settings.feed, self._redact)
        self._errors.setFormatter(formatter)
        # Beside a file, standard error has warnings and errors only.
        self._errors.setLevel(logging.WARNING if file else logging.NOTSET)
        if file is not None:
            file.setFormatter(formatter)
            self._root.addHandler(file)
        if old is not None:
            self._root.removeHandler(old)
            old.close()
        self._root.setLevel(settings.log_level)

    def _redact(self, text: str) -> str:
        for settings in self._settings:
            text = settings.redact(text)
        return text


def _open(path: str) -> int:
    # Without O_NONBLOCK open() of a named pipe waits for its reader.
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC
    return os.open(path, flags, 0o666)


def _utc(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    return formatter.formatException(record.exc_info) if record.exc_info else ""


def _takes_data(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return any(events & select.POLLOUT for _, events in poll.poll(0))
