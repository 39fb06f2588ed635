"""`shmfeed doctor`: check this host, and suggest a remedy for each problem."""

import argparse
import json
import os

from shmfeed.cli.exit_codes import FAILED
from shmfeed.cli.output import print_output
from shmfeed.cli.setting_options import add_setting_options
from shmfeed.doctor.checks import run_checks
from shmfeed.doctor.finding import NOTE, OK, PROBLEM, Finding
from shmfeed.settings import loading
from shmfeed.text import counted, printable

_DESCRIPTION = """\
Check what a feeder and its strategies need on this host: platform and versions,
settings, capacity of /dev/shm and memory for the feed's segment, limits of a container,
permissions, the feeds and their leftovers, the user's session. Each finding is ok, a
note (it may be intended), or a problem with its remedy. Nothing is changed.

Give the options that `shmfeed run` gets; without them the default settings are checked.
Settings that are refused are a problem too.
"""

_EPILOG = """\
examples:
  shmfeed doctor
  shmfeed doctor --config feed.yaml
  shmfeed doctor --symbols BTCUSDT,ETHUSDT --resolutions 1m,1h --history 100000
  shmfeed doctor --json | jq '.findings[] | select(.level != "ok")'
"""

_MARKS = {OK: "ok      ", NOTE: "note    ", PROBLEM: "PROBLEM "}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.usage = "shmfeed doctor [--json] [--config FILE] [--SETTING VALUE ..]"
    parser.add_argument(
        "--json", action="store_true", help="print all findings as JSON"
    )
    add_setting_options(parser)


def run(args: argparse.Namespace) -> int:
    arguments = loading.from_options(vars(args)) | {loading.CONFIG_FILE: args.config}
    findings = list(run_checks(arguments, os.environ))
    good = all(finding.level != PROBLEM for finding in findings)
    if args.json:
        values = [finding._asdict() for finding in findings]
        print_output(json.dumps({"ok": good, "findings": values}, indent=2))
    else:
        print_output(format_findings(findings))
    return 0 if good else FAILED


def format_findings(findings: list[Finding]) -> str:
    """Return a line for each finding, its remedy below, and a line of counts."""
    lines = []
    for finding in findings:
        lines.append(f"{_MARKS[finding.level]}{finding.check}: {finding.found}")
        if finding.level != OK and finding.remedy:
            lines.append(f"{'':8}-> {finding.remedy}")
    levels = [finding.level for finding in findings]
    problems, notes, fine = map(levels.count, (PROBLEM, NOTE, OK))
    total = f"{counted(problems, PROBLEM)}, {counted(notes, NOTE)}, {fine} {OK}"
    return "\n".join([*map(printable, lines), "", total])
