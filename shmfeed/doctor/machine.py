"""The machine: platform, core, clock, descriptors."""

import importlib
import platform
import sys
import time
from collections.abc import Iterator

from shmfeed import core
from shmfeed.doctor.finding import Finding, note, ok, problem
from shmfeed.errors import UnsupportedPlatformError
from shmfeed.segment.platform import check_platform

# A feeder has its venue, its segments, and up to 32 control connections open.
MIN_FILES, FEW_FILES = 64, 256


def check_machine() -> Iterator[Finding]:
    """All of this module."""
    yield check_support()
    yield check_core()
    yield check_clock()
    yield check_files()


def check_support() -> Finding:
    """Whether live feeds can work on this platform and CPU."""
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
    """Which core serves rings in this process, and why."""
    if core.build == "C":
        return ok("core", "C")
    return note("core", f"{core.build}, the slower one: {core.WHY}", core.REMEDY)


def check_clock() -> Finding:
    """The clock of heartbeats and ages."""
    try:
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
    except (AttributeError, OSError):
        return problem(
            "clock", "there is no CLOCK_BOOTTIME here", "use Linux 2.6.39 or newer"
        )
    return ok("clock", f"CLOCK_BOOTTIME, {now / 3600:.1f} h since boot")


def check_files() -> Finding:
    """How many files a process may have open."""
    try:
        resource = importlib.import_module("resource")
    except ImportError:
        return note("open files", f"no limit is known on {sys.platform}")
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return ok("open files", "no limit")
    if limit < FEW_FILES:
        return (problem if limit < MIN_FILES else note)(
            "open files",
            f"a process may have {limit}; a feeder may need {MIN_FILES}",
            f"raise it: `ulimit -n {4 * FEW_FILES}`, or LimitNOFILE= of the service",
        )
    return ok("open files", f"a process may have {limit}")
