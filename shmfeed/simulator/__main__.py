"""`python -m shmfeed.simulator`, a synonym of `shmfeed simulate`."""

import argparse
import sys

from shmfeed.simulator.command import FAULTS_HELP, add_arguments, run


def main() -> int:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(
        prog="python -m shmfeed.simulator",
        description="A local venue.",
        epilog=FAULTS_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    return run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
