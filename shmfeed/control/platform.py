"""What a feeder, and whoever speaks to one, needs of the system beside the feed."""

import os
import select
import socket

from shmfeed.errors import UnsupportedPlatformError
from shmfeed.segment.platform import absent

_NEEDED = (
    (os, ("O_CLOEXEC", "O_NONBLOCK", "fchmod", "pipe2", "set_blocking")),
    (select, ("poll",)),
    (socket, ("AF_UNIX", "SO_PEERCRED")),
)


def check_feeder_platform() -> None:
    """UnsupportedPlatformError where no feeder can run, naming what is missing."""
    missing = absent(_NEEDED)
    if missing:
        raise UnsupportedPlatformError(
            f"a feeder needs Linux; not here: {', '.join(missing)}; contexts and"
            " backtests work without it"
        )
