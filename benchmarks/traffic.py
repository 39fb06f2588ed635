"""Traffic for the ingest benchmark, made beforehand, and a venue that sends it."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from shmfeed.simulator.binance import binance_frames
from shmfeed.simulator.frames import payload_of, text_frame
from shmfeed.simulator.schedule import all_states, open_times_before
from shmfeed.simulator.wealthai import wealthai_frames

SEED, TIMEFRAME = 7, "1m"
SYMBOLS = tuple(f"SYM{number}USDT" for number in range(10))
END = 1_704_067_200_000  # ms UTC, the close time of the last bar


class Traffic(NamedTuple):
    """The messages of one connection."""

    protocol: str
    bars: int  # of each stream
    payloads: list[bytes]

    @property
    def size(self) -> int:
        """Bytes on the wire."""
        return sum(len(text_frame(payload)) for payload in self.payloads)


def make(protocol: str, bars: int) -> Traffic:
    """Make every update of every bar, the streams in turn."""
    open_times = open_times_before(END, TIMEFRAME, bars)
    columns = []
    for symbol in SYMBOLS:
        key = symbol, TIMEFRAME
        states = all_states(SEED, key, open_times)
        if protocol == "binance":
            columns.append(binance_frames(key, states, combined=True))
        else:
            columns.append(wealthai_frames(key, states, closed_flag=True))
    frames = [frame for turn in zip(*columns, strict=True) for frame in turn]
    return Traffic(protocol, bars, [payload_of(frame) for frame in frames])


@contextmanager
def venue(traffic: Traffic, pace: float = 0.0) -> Iterator[str]:
    """Run a venue process that sends this traffic; give its URL.

    `pace` is in seconds from one message to the next; 0: as fast as the client reads.
    """
    with tempfile.TemporaryDirectory() as folder:
        recording = Path(folder, "traffic.frames")
        payloads = enumerate(traffic.payloads)
        lines = [b"%.6f: %b" % (number * pace, payload) for number, payload in payloads]
        recording.write_bytes(b"\n".join([b"ws://made.beforehand/", *lines]))
        command = [sys.executable, "-m", "shmfeed.simulator", "--json"]
        speed = "1" if pace else "max"
        command += ["--protocol", traffic.protocol, "--speed", speed]
        command += ["--replay", str(recording)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            try:
                yield json.loads(process.stdout.readline())["url"]
            finally:
                process.terminate()
