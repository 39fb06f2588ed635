"""A feed under load for ten minutes: killed, cut, muted, and lied to by REST.

    PYTHONPATH=tests python -m soak --seconds 600

The exit code is 0 if there is no violation: each row that a reader got is one that the
venue published, kept frames stay as they are, at the end the ring equals the venue's
history and `shmfeed audit` finds no difference, and no figure exceeds its limit.
"""

import argparse
import logging
import os
import sys
import tempfile
import time
from pathlib import Path

from soak.incidents import CUT, KILL, MUTE, Incident, Load, incidents
from soak.judges import judge
from soak.report import figures, report, write_table
from soak.stage import Findings, Stage
from soak.usage import Usage
from support import census

_SAMPLE_SECONDS = 5.0
_LOOK_SECONDS = 0.02
QUICK = {
    "rest_share": 1.0,  # the venue is the soak's own
    "dials_per_minute": 0,
    "reconnect_delay_base": 0.05,
    "reconnect_delay_max": 0.2,
}
SMALL = Load(symbols=4, messages=80, readers=2)


def soak(stage: Stage, usage: Usage, seed: int) -> Findings:
    """Play the incidents of a load and return the findings."""
    began = time.monotonic()
    for incident in incidents(stage.load, seed):
        sample_until(stage, usage, began + incident.begin)
        play(stage, incident)
    sample_until(stage, usage, began + stage.load.seconds)
    return stage.finish()


def play(stage: Stage, incident: Incident) -> None:
    """Play one incident."""
    if incident.kind == KILL:
        stage.kill()
    elif incident.kind == CUT:
        stage.cut()
    elif incident.kind == MUTE:
        stage.mute(incident.on)
    else:
        stage.set_faults(incident.faults)


def sample_until(stage: Stage, usage: Usage, end: float) -> None:
    """Sleep until `end`; meanwhile sample the processes, and follow recoveries."""
    while (left := end - time.monotonic()) > 0:
        usage.take_each(_SAMPLE_SECONDS, lambda: pids_of(stage))
        time.sleep(min(left, _LOOK_SECONDS if stage.look() else _SAMPLE_SECONDS))


def pids_of(stage: Stage) -> dict[str, int]:
    """Return the pids of the processes by name."""
    pids = {"venue": stage.venue.pid, "manager": os.getpid()}
    if feeder := stage.status()["pid"]:
        pids["feeder"] = feeder
    return pids | {f"reader {n}": one.pid for n, one in enumerate(stage.readers)}


def kills_alone(stage: Stage, usage: Usage, kills: int) -> Findings:
    """Kill the feeder again as soon as the feed is well, so many times."""
    for _ in range(kills):
        stage.kill()
        stage.wait_recovered()
        sample_until(stage, usage, time.monotonic() + 0.05)
    return stage.finish()


def cuts_alone(stage: Stage, usage: Usage, cuts: int) -> Findings:
    """Cut the connections again as soon as the feed is well, so many times."""
    for _ in range(cuts):
        stage.cut_and_wait()
        sample_until(stage, usage, time.monotonic() + 0.05)
    return stage.finish()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    for name, field in (("symbols", ""), ("messages", "a second"), ("readers", "")):
        parser.add_argument(f"--{name}", type=int, help=field or None)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--kills", type=int, help="kills alone, so many")
    parser.add_argument("--cuts", type=int, help="disconnects alone, so many")
    parser.add_argument(
        "--calm", action="store_true", help="no kills: the memory of one feeder shows"
    )
    parser.add_argument("--keep", metavar="FOLDER", help="keep the feeder's log there")
    parser.add_argument("--show", type=Path, help="put the figures into this page")
    return parser.parse_args()


def load_of(given: argparse.Namespace) -> Load:
    """Return the load, a small one for kills or cuts alone: each asks for history."""
    alone = given.kills is not None or given.cuts is not None
    load = SMALL if alone else Load()
    named = {name: getattr(given, name) for name in ("symbols", "messages", "readers")}
    named = {name: value for name, value in named.items() if value is not None}
    if given.calm:
        load = load._replace(kill_every=0.0)
    return load._replace(seconds=given.seconds, **named)


def main() -> int:
    given = arguments()
    os.environ[census.MARK] = str(os.getpid())
    logging.getLogger("shmfeed").addHandler(logging.NullHandler())  # the report tells
    before = census.take()
    usage = Usage()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(given.keep or temporary)
        folder.mkdir(exist_ok=True)
        name = f"t{os.getpid()}x-soak"
        with Stage(name, load_of(given), folder, **QUICK) as stage:
            if given.kills is not None:
                found = kills_alone(stage, usage, given.kills)
            elif given.cuts is not None:
                found = cuts_alone(stage, usage, given.cuts)
            else:
                found = soak(stage, usage, given.seed)
    judge(found, usage)
    found.violations += [
        f"left behind: {line}"
        for line in census.leftovers(before)
        if "/dev/shm" not in line or f"t{os.getpid()}x" in line  # another run's
    ]
    seconds = time.monotonic() - began
    print(report(found, usage, seconds))
    if given.show is not None:
        write_table(given.show, figures(found, usage, seconds))
    return 1 if found.violations else 0


if __name__ == "__main__":
    sys.exit(main())
