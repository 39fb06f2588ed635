from shmfeed.memory.bell import Bell as Bell
from shmfeed.memory.bell import sleep_past as sleep_past
from shmfeed.memory.following import Follower as Follower
from shmfeed.memory.ringbuf import RingReader as RingReader
from shmfeed.memory.ringwriter import RingWriter as RingWriter
from shmfeed.memory.rows import Rows as Rows
from shmfeed.memory.rows import Slice as Slice

LAYOUT: dict[str, int]

def futex_load(buffer: object, offset: int, /) -> int: ...
def futex_wait(
    buffer: object, offset: int, expected: int, mask: int, timeout_ns: int, /
) -> bool: ...
