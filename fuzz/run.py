"""Run all fuzz targets in turn, and print executions and findings of each.

Exits 1 if something was found, 2 where there can be no fuzzing. What was found lies
in the folder that is named, to be given to its target: python fuzz/TARGET.py FILE.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

import loop

HERE = Path(__file__).parent
TARGETS = (
    "codec_wealthai",
    "codec_binance",
    "rest_binance",
    "handshake",
    "control",
    "settings_file",
    "note",
    "faults_grammar",
)
FOUND = HERE / "found"
DONE = re.compile(r"Done (\d+) runs in (\d+) second")
MEGABYTES = 1024  # atheris and the instrumented modules take a few hundred
SLOW_SECONDS = 5  # of one input


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for all together")
    parser.add_argument("--only", choices=TARGETS, help="one of them")
    args = parser.parse_args()
    reason = loop.no_atheris()
    if reason:
        print(reason, file=sys.stderr)
        return 2
    targets = [args.only] if args.only else TARGETS
    each = max(1, args.seconds // len(targets))
    return max([fuzz(target, each) for target in targets])


def fuzz(target: str, seconds: int) -> int:
    """Print the target's findings. Return 1 if there are any, else 0."""
    FOUND.mkdir(exist_ok=True)
    command = [
        sys.executable,
        str(HERE / f"{target}.py"),
        f"-max_total_time={seconds}",
        f"-artifact_prefix={FOUND}/{target}-",
        f"-rss_limit_mb={MEGABYTES}",
        f"-timeout={SLOW_SECONDS}",
        "-max_len=4096",
    ]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    said = ended.stdout + ended.stderr
    done = DONE.search(said)
    if ended.returncode == 0 and done:
        print(f"{target}: {done[1]} executions in {done[2]} s, nothing found")
        return 0
    print(said, file=sys.stderr)
    print(f"{target}: FOUND something, see above and {FOUND}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
