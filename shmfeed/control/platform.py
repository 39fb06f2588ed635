"""The check that this host has what a feeder needs beyond shared memory."""

import os
import select
import signal
import socket

from shmfeed.errors import UnsupportedPlatformError
from shmfeed.segment.platform import absent

_NEEDED = (
    (os, ("O_CLOEXEC", "O_NONBLOCK", "fchmod", "geteuid", "pipe2", "set_blocking")),
    (select, ("poll",)),
    (signal, ("SIGHUP", "pthread_sigmask")),
    (socket, ("AF_UNIX", "SO_PEERCRED")),
)


def check_feeder_platform() -> None:
    """Raise UnsupportedPlatformError, naming what is missing, if no feeder can run.

    A feeder calls this, so does `run` before it handles signals, and a manager before
    it launches a feeder.
    """
    missing = absent(_NEEDED)
    if missing:
        raise UnsupportedPlatformError(
            f"a feeder needs Linux; this host lacks: {', '.join(missing)}; contexts and"
            " backtests work without it"
        )
