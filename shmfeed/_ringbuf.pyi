from collections.abc import Sequence

from shmfeed.cutting import read_cut as read_cut
from shmfeed.cutting import read_list as read_list
from shmfeed.follower import ReattachingReader as ReattachingReader
from shmfeed.memory.rows import Rows as Rows
from shmfeed.memory.rows import Slice as Slice
from shmfeed.memory.wakeup import Eventcount as Eventcount
from shmfeed.memory.wakeup import sleep_past as sleep_past
from shmfeed.memory.wakeup import sleep_past_any as sleep_past_any
from shmfeed.memory.wakeup import spin_past as spin_past
from shmfeed.ringbuf import RingReader as RingReader
from shmfeed.ringbuf import RingWriter as RingWriter

LAYOUT: dict[str, int]

def futex_load(buffer: object, offset: int, /) -> int: ...
def futex_wait(
    buffer: object, offset: int, expected: int, mask: int, timeout_ns: int, /
) -> bool: ...
def futex_wait_any(
    words: Sequence[tuple[object, int, int]], timeout_ns: int, /
) -> bool: ...
def futex_spin(
    words: Sequence[tuple[object, int, int]], timeout_ns: int, /
) -> bool: ...
