"""Another platform, made by removing parts of this one, in a child interpreter only.

The parts are modules, functions and paths of Python and the operating system, none of
shmfeed's own.
"""

import builtins
import os
import platform
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

_MODULES = {
    "fcntl": ("fcntl",),
    "posixshmem": ("_posixshmem", "multiprocessing.shared_memory"),
    "resource": ("resource",),
    "users": ("pwd", "grp"),
    "terminal": ("termios", "tty", "pty"),
}
_ATTRIBUTES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "O_NOFOLLOW": (os, ("O_NOFOLLOW",)),
    "O_NONBLOCK": (os, ("O_NONBLOCK",)),
    "register_at_fork": (os, ("register_at_fork",)),
    "boottime": (time, ("CLOCK_BOOTTIME",)),
    "clock_gettime": (time, ("clock_gettime", "clock_gettime_ns")),
    "users' numbers": (os, ("geteuid", "getuid", "getegid", "getgid")),
    "fork": (os, ("fork", "forkpty")),
    "posix_fallocate": (os, ("posix_fallocate", "pwrite", "pread", "statvfs")),
    "fchmod": (os, ("fchmod", "fchown")),
    "pipe2": (os, ("pipe2", "set_blocking", "getpgid")),
    "poll": (select, ("poll", "epoll")),
    "unix sockets": (socket, ("AF_UNIX", "SO_PEERCRED")),
    "signals": (signal, ("SIGKILL", "SIGHUP", "SIGPIPE", "pthread_sigmask")),
}
_SHARED_MEMORY = "/dev/shm"
_PATH_CALLS = ("stat", "lstat", "open", "mkdir", "listdir", "scandir", "statvfs")

PARTS = (*_MODULES, *_ATTRIBUTES, "shared memory", "windows", "other cpu")
CPU = "aarch64"


def remove(names: Iterable[str]) -> None:
    """Remove parts from this interpreter, for good."""
    for name in names:
        if name in _MODULES:
            _hide(_MODULES[name])
        elif name in _ATTRIBUTES:
            owner, attributes = _ATTRIBUTES[name]
            for attribute in attributes:
                if hasattr(owner, attribute):
                    delattr(owner, attribute)
        elif name == "shared memory":
            _remove_shared_memory()
        elif name == "windows":
            sys.platform = "win32"
        else:
            platform.machine = lambda: CPU
            os.environ["SHMFEED_PURE"] = "1"  # the C core accepts any CPU


def missing(names: Iterable[str]) -> list[str]:
    """Try to use each part; return those that fail, as a removed part does."""
    return [name for name in names if _fails(name)]


def _hide(modules: tuple[str, ...]) -> None:
    for module in modules:
        package, _, name = module.rpartition(".")
        if package in sys.modules and hasattr(sys.modules[package], name):
            delattr(sys.modules[package], name)
        sys.modules[module] = None  # type: ignore[assignment] # an import then fails


def _remove_shared_memory() -> None:
    def without(call: Callable[..., Any]) -> Callable[..., Any]:
        def refuse(path: Any, *arguments: Any, **options: Any) -> Any:
            text = str(path)
            if text == _SHARED_MEMORY or text.startswith(_SHARED_MEMORY + "/"):
                raise FileNotFoundError(2, "No such file or directory", text)
            return call(path, *arguments, **options)

        return refuse

    for name in _PATH_CALLS:
        if hasattr(os, name):
            setattr(os, name, without(getattr(os, name)))
    builtins.open = without(builtins.open)


def _fails(name: str) -> bool:
    try:
        if name in _MODULES:
            for module in _MODULES[name]:
                __import__(module)
        elif name in _ATTRIBUTES:
            owner, attributes = _ATTRIBUTES[name]
            for attribute in attributes:
                getattr(owner, attribute)
        elif name == "shared memory":
            Path(_SHARED_MEMORY).stat()
        elif name == "windows":
            return sys.platform == "win32"
        else:
            return platform.machine() == CPU
    except (ImportError, AttributeError, OSError):
        return True
    return False
