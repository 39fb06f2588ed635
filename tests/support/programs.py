"""Programs for a test: servers of others, on sockets that they inherit."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

SERVERS = Path(__file__).parent / "servers"


@contextlib.contextmanager
def program(
    command: Sequence[str], log: Path, **options
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program, and kill it at the end; a test that fails shows its log.

    It has a process group of its own, so that its children end with it.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **options,
        )
    try:
        yield process
    except BaseException:
        sys.stdout.write(log.read_text(errors="replace")[-4000:])
        raise
    finally:
        if process.poll() is None:  # else its number may be another's by now
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def served(
    command: Sequence[str], pem: Path | str, folder: Path, *arguments: str, **environ
) -> Iterator[int]:
    """Run a server on a socket of its own, and yield its port.

    The server inherits the socket, so that clients may connect before it is ready.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        descriptor = listener.fileno()
        words = [*command, str(descriptor), str(pem), *arguments]
        options = {"env": os.environ | environ, "pass_fds": [descriptor]}
        with program(words, folder / "server.log", **options):
            yield listener.getsockname()[1]


def served_python(
    name: str, pem: Path | str, folder: Path, *arguments: str, **environ
) -> contextlib.AbstractContextManager[int]:
    """Run a server of Python; skip the test if its package is not installed."""
    pytest.importorskip(name)
    command = [sys.executable, str(SERVERS / f"serve_{name}.py")]
    return served(command, pem, folder, *arguments, **environ)
