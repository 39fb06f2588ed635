"""What the venue sends to a program's rivals, made beforehand, and the venue itself."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from shmfeed.simulator.frames import (
    binance_frames,
    house_frames,
    payload_of,
    text_frame,
)
from shmfeed.simulator.schedule import all_rows, open_times_before

SEED, TIMEFRAME = 7, "1m"
SYMBOLS = tuple(f"SYM{number}USDT" for number in range(10))
END = 1_704_067_200_000  # ms UTC, when the last bar closes


class Traffic(NamedTuple):
    """What one connection is sent."""

    protocol: str
    bars: int  # of each stream
    payloads: list[bytes]

    @property
    def size(self) -> int:
        """Bytes on the wire."""
        return sum(len(text_frame(payload)) for payload in self.payloads)


def make(protocol: str, bars: int) -> Traffic:
    """Every update of every bar, the streams in turn."""
    opened = open_times_before(END, TIMEFRAME, bars)
    columns = []
    for symbol in SYMBOLS:
        stream = symbol, TIMEFRAME
        rows = all_rows(SEED, stream, opened)
        if protocol == "binance":
            columns.append(binance_frames(stream, rows, wrapped=True))
        else:
            columns.append(house_frames(stream, rows, flag=True))
    frames = [frame for turn in zip(*columns, strict=True) for frame in turn]
    return Traffic(protocol, bars, [payload_of(frame) for frame in frames])


@contextmanager
def venue(traffic: Traffic) -> Iterator[str]:
    """The URL of a venue, in a process of its own, that sends this traffic."""
    with tempfile.TemporaryDirectory() as folder:
        recording = Path(folder, "traffic.frames")
        lines = [b"ws://made.beforehand/", *(b"0: " + p for p in traffic.payloads)]
        recording.write_bytes(b"\n".join(lines))
        command = [sys.executable, "-m", "shmfeed.simulator", "--json"]
        command += ["--protocol", traffic.protocol, "--speed", "max"]
        command += ["--replay", str(recording)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            try:
                yield json.loads(process.stdout.readline())["url"]
            finally:
                process.terminate()
