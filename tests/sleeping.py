"""Who sleeps in the kernel, and on which word."""

import threading
from pathlib import Path

import numpy as np


def is_asleep(thread: threading.Thread, buffer: memoryview, offset: int) -> bool:
    """Whether this thread is in a system call for that word of that buffer."""
    start = np.frombuffer(buffer, np.uint8).__array_interface__["data"][0]
    call = Path(f"/proc/self/task/{thread.native_id}/syscall").read_text().split()
    return len(call) > 1 and int(call[1], 16) == start + offset
