"""`shmfeed doctor`: what is wrong on this host, and its remedy."""

import argparse
import json
import os

from shmfeed.cli.exit_codes import FAILED
from shmfeed.cli.output import show
from shmfeed.cli.settings import add_settings
from shmfeed.doctor.examination import examine
from shmfeed.doctor.finding import NOTE, OK, PROBLEM, Finding
from shmfeed.settings import loading
from shmfeed.text import printable

_DESCRIPTION = """\
Look at what a feeder and its strategies need here: platform and versions, settings,
room in /dev/shm and memory for the segment that these settings plan, limits of a
container, permissions, feeds and what is left of them, the user's session. Each is ok,
a note (it may be meant so), or a problem with its remedy. Changes nothing.

Give it the options that you give to `shmfeed run`; without any it plans for the
defaults. A problem of the settings themselves is one too.
"""

_EPILOG = """\
examples:
  shmfeed doctor
  shmfeed doctor --config feed.yaml
  shmfeed doctor --symbols BTCUSDT,ETHUSDT --resolutions 1m,1h --history 100000
  shmfeed doctor --json | jq '.findings[] | select(.level != "ok")'
"""

_MARKS = {"ok": "ok      ", "note": "note    ", "problem": "PROBLEM "}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.usage = "shmfeed doctor [--json] [--config FILE] [--SETTING VALUE ..]"
    parser.add_argument("--json", action="store_true", help="all findings, as JSON")
    add_settings(parser)


def run(args: argparse.Namespace) -> int:
    arguments = loading.from_options(vars(args))
    findings = list(examine(arguments | {loading.CONFIG_FILE: args.config}, os.environ))
    good = all(finding.level != PROBLEM for finding in findings)
    if args.json:
        plain_values = [finding._asdict() for finding in findings]
        show(json.dumps({"ok": good, "findings": plain_values}, indent=2))
    else:
        show(in_words(findings))
    return 0 if good else FAILED


def in_words(findings: list[Finding]) -> str:
    """A line a finding, its remedy below; the sum of them at the end."""
    lines = []
    for finding in findings:
        lines.append(f"{_MARKS[finding.level]}{finding.check}: {finding.found}")
        if finding.level != OK and finding.remedy:
            lines.append(f"{'':8}-> {finding.remedy}")
    levels = [finding.level for finding in findings]
    sums = [f"{levels.count(level)} {level}" for level in (PROBLEM, NOTE, OK)]
    return "\n".join([*map(printable, lines), "", ", ".join(sums)])
