"""`python -m wealthdata`: run strategies, and compare what they decided."""

import sys

from wealthdata.runner.main import main

if __name__ == "__main__":
    sys.exit(main())
