"""A relay of two hosts that may lead and a follower, troubled by faults in episodes.

    PYTHONPATH=tests python -m relay --faults 1000

The exit code is 0 if there is no violation: each closed row on each host is the venue's
at any time, no flush of an older epoch reached Redis, and after each episode all hosts
are well and their rings equal the venue's history, that of a late follower too.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from relay.faults import plan
from relay.stage import Findings, Stage
from support import census

EPISODE = 12  # faults between two comparisons of all rings
_WELL_SECONDS = 60.0
_MOST_LINES = 50


def run(stage: Stage, count: int, seed: int, seconds: float = _WELL_SECONDS) -> None:
    """Play so many faults in episodes, and compare all rings after each."""
    stage.wait_well(seconds)
    for number in range(0, count, EPISODE):
        stage.play(plan(min(EPISODE, count - number), seed + number))
        stage.recover(seconds)


def report(found: Findings, is_apart: bool, seconds: float) -> str:
    """Return the figures and the violations, a line each."""
    hosts = "mount namespaces with their own /dev/shm" if is_apart else "feed names"
    p50, most = np.percentile(found.recoveries or [0.0], (50, 100))
    lines = [
        f"hosts: {hosts}",
        f"minutes: {seconds / 60:.1f}",
        f"faults: {found.played.total()}",
        *(f"  {kind}: {count}" for kind, count in sorted(found.played.items())),
        f"leaderships: {found.leaderships}",
        f"flushes in the log, none of an older epoch: {found.flushes:,}",
        f"recoveries: {len(found.recoveries)}, p50 {p50:.1f}, max {most:.1f} s",
        f"rows compared with the venue's: {found.compared:,}",
        f"violations: {len(found.violations)}",
    ]
    return "\n".join([*lines, *(f"  {one}" for one in found.violations[:_MOST_LINES])])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--keep", metavar="FOLDER", help="keep the logs there")
    given = parser.parse_args()
    os.environ[census.MARK] = str(os.getpid())
    before, began = census.take(), time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(given.keep or temporary)
        folder.mkdir(exist_ok=True)
        with Stage(f"t{os.getpid()}x-relay", folder) as stage:
            run(stage, given.faults, given.seed)
            found = stage.finish(_WELL_SECONDS)
            if found.violations:
                print(stage.logs())
    found.violations += [f"left behind: {one}" for one in census.leftovers(before)]
    print(report(found, stage.is_apart, time.monotonic() - began))
    return 1 if found.violations else 0


if __name__ == "__main__":
    sys.exit(main())
