"""`python -m shmfeed.simulator`: the same as `shmfeed simulate`."""

import argparse
import sys

from shmfeed.simulator.command import add_arguments, run


def main() -> int:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(
        prog="python -m shmfeed.simulator", description="A local venue."
    )
    add_arguments(parser)
    return run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
