"""A reader cannot change the segment, by accident or by force.

Permitted: an exception in the reader, or its own death by SIGSEGV. The segment's
SHA-256 is the same afterwards; its writer is idle meanwhile.
"""

import hashlib
import signal

import pytest
from support import payload

from shmfeed.segment.mapping import place
from shmfeed.writer import create

GEOMETRY = 32, 16, 2

ATTACH = """
import ctypes, mmap, os, resource, sys
import numpy as np
import shmfeed
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
feed = shmfeed.attach(sys.argv[1])
ring = feed.ring("BTCUSDT", "1m")
rows = ring.view(8)
words = feed.current().words
path = sys.argv[2]
"""

REFUSED = {
    "assignment": 'rows["close"][0] = 1.0',
    "times": "rows.open_time[:] = 0",
    "in place": "rows.values.sort()",
    "ufunc": 'np.add(rows["close"], 1.0, out=rows["close"])',
    "setflags": 'rows["close"].setflags(write=True)',
    "setflags of all": "rows.values.flags.writeable = True",
    "setflags of the base": 'rows["close"].base.setflags(write=True)',
    "words": "words.ints[0] = 0",
    "bytes": "words.raw[0:8] = bytes(8)",
    "the map": "words.raw.obj[0:1] = b'x'",
    "resize": "words.raw.obj.resize(4096)",
    "unmap": "words.raw.obj.close()",
    "map it to write": "mmap.mmap(os.open(path, os.O_RDONLY), 4096)",
    "truncate": "os.ftruncate(os.open(path, os.O_RDONLY), 0)",
    "writable buffer": 'ctypes.c_char.from_buffer(rows["close"])',
}

TRY = """
try:
    {attempt}
except (AttributeError, ValueError, TypeError, BufferError, OSError) as error:
    print("refused:", error)
else:
    print("done")
"""

FORCE = """
import faulthandler
faulthandler.disable()
address = words.columns(0, (1, 8)).ctypes.data
print("now", flush=True)
ctypes.c_longlong.from_address(address + 8).value = 1
print("done", flush=True)
"""


@pytest.fixture
def segment(feed_name):
    """Yield the path of a segment with bars."""
    with create(feed_name, *GEOMETRY) as writer:
        ring = writer.add_stream(payload.SYMBOL, payload.TIMEFRAME)
        for number in range(1, 41):
            payload.append(ring, number)
        payload.update_forming(ring, 41, 1)
        yield place(feed_name).segment
        writer.close(unlink=True)


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_each_attempt_is_refused(child, feed_name, segment):
    before = digest(segment)
    code = ATTACH + "".join(TRY.format(attempt=text) for text in REFUSED.values())
    out, err = child(code, feed_name, segment).communicate(timeout=30)
    assert err == ""
    outcomes = dict(zip(REFUSED, out.splitlines(), strict=True))
    print(outcomes)
    assert [what for what, told in outcomes.items() if told == "done"] == []
    assert digest(segment) == before


def test_force_kills_the_reader_alone(child, feed_name, segment):
    before = digest(segment)
    offender = child(ATTACH + FORCE, feed_name, segment)
    out, _ = offender.communicate(timeout=30)
    assert out == "now\n"
    assert offender.returncode == -signal.SIGSEGV
    assert digest(segment) == before


def test_the_digest_shows_a_store(child, feed_name, segment):
    """The control: the same store through a map that may write changes the digest."""
    before = digest(segment)
    code = ATTACH + "writable = mmap.mmap(os.open(path, os.O_RDWR), 4096)\n"
    code += "words = type(words)(writable)\n"
    writer = child(code + FORCE, feed_name, segment)
    out, err = writer.communicate(timeout=30)
    assert (out, err, writer.returncode) == ("now\ndone\n", "", 0)
    assert digest(segment) != before
