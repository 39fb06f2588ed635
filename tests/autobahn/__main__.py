"""Run Autobahn's client cases against the feeder's connection: `make autobahn`."""

import sys
import tempfile
from collections import Counter
from pathlib import Path

from autobahn import suite


def main() -> int:
    tally: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        with suite.fuzzing_server(Path(folder), []) as url:
            for verdict in suite.run(url):
                tally[verdict.behavior] += 1
                if verdict.behavior != "OK":
                    print(*verdict, flush=True)
    print(f"{tally.total()} cases:", ", ".join(f"{n} {b}" for b, n in tally.items()))
    return bool(set(tally) - {"OK", "NON-STRICT", "INFORMATIONAL"})


if __name__ == "__main__":
    sys.exit(main())
