"""The machine: platform, core of the ring, clock, file descriptors."""

import importlib
import platform
import sys
import time
from collections.abc import Iterator

from shmfeed import core
from shmfeed.doctor.finding import Finding, note, ok, problem
from shmfeed.errors import UnsupportedPlatformError
from shmfeed.segment.platform import check_platform

# A feeder has its connections, its segments, and up to 32 control connections open.
MIN_FILES, FEW_FILES = 64, 256


def check_machine() -> Iterator[Finding]:
    yield check_live_feeds()
    yield check_core()
    yield check_clock()
    yield check_open_files()


def check_live_feeds() -> Finding:
    """Check that this platform and CPU support live feeds."""
    here = f"{platform.system()} {platform.release()}, {platform.machine()}"
    try:
        check_platform()
    except UnsupportedPlatformError as error:
        return problem(
            "platform",
            f"{here}: {error}",
            "run feeders and live strategies on Linux, with /dev/shm mounted; on a CPU"
            " other than x86-64 with the C core",
        )
    return ok("platform", here)


def check_core() -> Finding:
    """Check that the C core is in use in this process."""
    if core.build == "C":
        return ok("core", "C")
    return note("core", f"{core.build}, slower than C: {core.WHY}", core.REMEDY)


def check_clock() -> Finding:
    """Check that the clock of heartbeats and ages can be read."""
    try:
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
    except (AttributeError, OSError):
        return problem(
            "clock", "CLOCK_BOOTTIME is not available", "use Linux 2.6.39 or newer"
        )
    return ok("clock", f"CLOCK_BOOTTIME, {now / 3600:.1f} h since boot")


def check_open_files() -> Finding:
    """Check that a process may open as many files as a feeder needs."""
    try:
        resource = importlib.import_module("resource")
    except ImportError:
        return note("open files", f"the limit cannot be read on {sys.platform}")
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return ok("open files", "no limit")
    if limit < FEW_FILES:
        return (problem if limit < MIN_FILES else note)(
            "open files",
            f"a process may open {limit} files; a feeder may need {MIN_FILES}",
            f"raise it: `ulimit -n {4 * FEW_FILES}`, or LimitNOFILE= of the service",
        )
    return ok("open files", f"a process may open {limit} files")
