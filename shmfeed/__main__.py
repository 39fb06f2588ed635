"""Run the command line: `python -m shmfeed` is the command `shmfeed`."""

import sys

from shmfeed.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
