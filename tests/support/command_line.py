"""Bars to append, and signals to send, in the tests of commands.

Apart from `command_process`, because a test must not import a plugin of pytest.
"""

import signal
import subprocess

from shmfeed.ringbuf import RingWriter

START = 1_704_067_200_000  # 2024-01-01
MINUTE = 60_000

Process = subprocess.Popen[str]


def append(ring: RingWriter, *numbers: int, flags: int = 1) -> None:
    """Append bars by number: bar n opens n minutes after START, at a price of n + 1."""
    for number in numbers:
        low, high = number + 0.5, number + 2.25
        prices = number + 1.0, high, low, number + 1.125
        money = float("nan") if number % 2 else 10.0 * number
        open_time = START + number * MINUTE
        ring.append(open_time, *prices, float(number), money=money, flags=flags)


def end(process: Process, number: int = signal.SIGINT) -> tuple[int, str, str]:
    """Signal the process; return its exit code, the rest of its output and errors."""
    process.send_signal(number)
    output, errors = process.communicate(timeout=10)
    return process.returncode, output, errors
