"""A full /dev/shm: a clear error before the first bar, never SIGBUS.

Each case runs in a child with a /dev/shm of its own, a few pages small, in a mount
namespace. Permitted: the feed works, or creating it raises SegmentFullError and
leaves only the directory and the lock file.
"""

import os
import signal

import pytest
from support import own_shm

PREPARE = """
import shmfeed
name = sys.argv[1]
PAGE = 4096

def fill(leave=0):
    room = os.statvfs("/dev/shm").f_bavail - leave
    with open("/dev/shm/filler", "wb") as file:
        if room > 0:
            os.posix_fallocate(file.fileno(), 0, room * PAGE)

def left():
    found = []
    for folder, _, files in os.walk("/dev/shm"):
        found += [file for file in files if not file.endswith((".lock", "filler"))]
    return found

def clear():
    for entry in os.listdir("/dev/shm"):
        path = f"/dev/shm/{entry}"
        shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)

def attempt(*geometry):
    try:
        writer = shmfeed.create(name, *geometry)
    except shmfeed.SegmentFullError as error:
        return {"error": str(error), "left": left()}
    ring = writer.add_stream("BTCUSDT", "1m")
    begin = ring.reader.count
    for number in range(begin, begin + 100):
        ring.append(number * 60_000, 1, 1, 1, 1, 1)
    with shmfeed.attach(name) as feed:
        rows = feed.ring("BTCUSDT", "1m").snapshot(geometry[0])
    writer.close()
    return {"begin": begin, "bars": len(rows), "sum": float(rows["close"].sum())}
"""

SMALL = "16, 16, 1"
SMALL_PAGES = 53


def run(child, name, options, code):
    return own_shm.run(child, name, options, PREPARE + code)


def is_refused(outcome):
    return "error" in outcome and outcome["left"] == []


def works(outcome, begin=0):
    return outcome == {"begin": begin, "bars": 16, "sum": 16.0}


def test_a_segment_that_does_not_fit(child, feed_name):
    code = f"tell(attempt(1000)); tell(attempt({SMALL}))"
    refused, small = run(child, feed_name, "size=256k", code)
    print(refused)
    assert is_refused(refused)
    for part in ("/dev/shm", "MiB free", feed_name, "1000 bars", "--shm-size"):
        assert part in refused["error"]
    assert works(small)


def test_each_number_of_free_pages(child, feed_name):
    code = f"""
for pages in range({SMALL_PAGES} + 4):
    fill(leave=pages)
    tell(attempt({SMALL}))
    clear()
"""
    outcomes = run(child, feed_name, "size=512k", code)
    assert all(is_refused(outcome) or works(outcome) for outcome in outcomes)
    assert is_refused(outcomes[0])
    assert works(outcomes[-1])


@pytest.mark.parametrize("inodes", range(1, 6))
def test_each_number_of_inodes(child, feed_name, inodes):
    options = f"size=1m,nr_inodes={inodes}"
    (outcome,) = run(child, feed_name, options, f"tell(attempt({SMALL}))")
    assert is_refused(outcome) or works(outcome)
    assert works(outcome) == (inodes > 3)  # the root, a directory, lock and segment


def test_a_feed_created_in_time_works_on(child, feed_name):
    code = f"""
tell(attempt({SMALL}))
fill()
tell(attempt({SMALL}))
tell(attempt(1000, 16, 4))
tell(attempt({SMALL}))
"""
    outcomes = run(child, feed_name, "size=512k", code)
    assert works(outcomes[0])
    assert works(outcomes[1], 100)
    assert "error" in outcomes[2]  # a larger one does not fit: the old one stays
    assert len(outcomes[2]["left"]) == 1
    assert works(outcomes[3], 200)


UNREADY = """
from shmfeed.segment import creation
from shmfeed.segment.removal import (clean_feed)

def leave_unready():
    # A feeder that was killed before its segment had a page.
    child = os.fork()
    if not child:
        creation.reserve = lambda *_: os.kill(os.getpid(), 9)
        shmfeed.create(name, 1000)
    assert os.waitpid(child, 0)[1] == 9
    fill()

def said(call, *arguments):
    try:
        return repr(call(*arguments))
    except shmfeed.ShmfeedError as error:
        return type(error).__name__

for call, *arguments in (
    (shmfeed.attach, name), (shmfeed.create, name, 1000), (clean_feed, name, True)
):
    leave_unready()
    tell([said(call, *arguments), left()])
    clear()
"""


def test_a_segment_without_pages_kills_no_process(child, feed_name):
    attached, created, cleaned = run(child, feed_name, "size=8m", UNREADY)
    segment = f"shmfeed.{os.geteuid()}.{feed_name}"
    assert attached == ["FeedNotFoundError", [segment]]
    assert created == ["SegmentFullError", []]
    assert "state='unheld'" in cleaned[0]
    assert cleaned[1] == []


def test_without_the_reservation_the_writer_dies(child, feed_name):
    """The control: the same case, and a writer that does not reserve its pages."""
    code = """
from shmfeed.segment import creation
creation.check_size = creation.reserve = lambda *arguments: None
tell(attempt(1000))
"""
    dies(child, feed_name, "size=64k", code)


def dies(child, feed_name, options, code):
    process = child(own_shm.MOUNT + PREPARE + code, feed_name, options)
    _, err = process.communicate(timeout=50)
    if process.returncode == own_shm.NOT_PERMITTED:
        pytest.skip(f"no /dev/shm of its own here: {err.strip()}")
    assert process.returncode == -signal.SIGBUS


RUNNING = """
from shmfeed.segment import creation, ownership

def bar(number):
    return number * 60_000, 1, 1, 1, 1, 1

def add(symbol):
    try:
        return writer.add_stream(symbol, "1m")
    except shmfeed.SegmentFullError as error:
        return str(error)

writer = shmfeed.create(name, 100, 16, 4)
ring = writer.add_stream("A", "1m")
"""
GOES_ON = """
ring.append(*bar(0))
fill(leave=2)
feed = shmfeed.attach(name)
before = feed.status()
refused = add("B")
tell([refused, writer.streams(), writer.has_capacity_for([("B", "1m")])])
room = os.statvfs("/dev/shm").f_bavail
for number in range(1, 300):
    ring.append(*bar(number))
writer.beat()
rows = feed.ring("A", "1m").snapshot(100)
status = feed.status()
tell([room, len(rows), status["health"], status["streams"][0]["count"]])
os.unlink("/dev/shm/filler")
added = add("B")
added.append(*bar(0))
tell([feed.ring("B", "1m").count, writer.streams()])
writer.close(unlink=True)
"""


def test_a_stream_that_does_not_fit_is_refused_and_the_feed_goes_on(child, feed_name):
    refused, going, added = run(child, feed_name, "size=1m", RUNNING + GOES_ON)
    message, streams, has_capacity = refused
    print(message)
    for part in ("/dev/shm", "MiB free", feed_name, "another stream of 100 bars"):
        assert part in message
    assert streams == [["A", "1m"]]
    assert has_capacity
    # The part of the slot that was reserved is given back.
    assert going == [2, 100, "live", 300]
    assert added == [1, [["A", "1m"], ["B", "1m"]]]


def test_without_reserving_its_slot_a_new_stream_kills_the_feed(child, feed_name):
    """The control: a writer that takes the slot as it is."""
    code = "fill()\ncreation.reserve = lambda *arguments: None\nadd('B')\n"
    dies(child, feed_name, "size=1m", RUNNING + code)


def test_a_change_of_subscription_is_refused_before_it_is_sent(child, feed_name):
    code = """
fill(leave=12)  # of two slots, which have 5 pages each
def reserve_for(*symbols):
    before = os.statvfs("/dev/shm").f_bavail
    try:
        writer.reserve_for([(symbol, "1m") for symbol in symbols])
    except shmfeed.SegmentFullError as error:
        assert os.statvfs("/dev/shm").f_bavail == before, "it took space"
        return str(error)
tell([reserve_for("A", "B", "C", "D"), reserve_for("A", "B", "C"), writer.streams()])
tell([str(add("B"))[:1], str(add("C"))[:1], "another stream" in str(add("D"))])
writer.close(unlink=True)
"""
    asked, added = run(child, feed_name, "size=1m", RUNNING + code)
    message, fits, streams = asked
    assert "for 3 more streams of 100 bars" in message
    assert (fits, streams) == (None, [["A", "1m"]])
    assert added == ["<", "<", True]


LACKS_PAGES = """
import mmap
for number in range(50):
    ring.append(*bar(number))
pages = writer._words.raw.obj
at, size = writer.geometry.slot_word(0) * 8, writer.geometry.slot_words * 8
writer.close()
pages.madvise(mmap.MADV_REMOVE, at, size)
"""


def test_a_slot_that_lost_its_pages_is_reserved_before_it_is_read(child, feed_name):
    code = """
fill()
try:
    shmfeed.create(name, 100, 16, 4)
except shmfeed.SegmentFullError as error:
    tell(str(error))
os.unlink("/dev/shm/filler")
writer = shmfeed.create(name, 100, 16, 4)
tell([writer.reused, add("A").reader.count])
writer.close(unlink=True)
"""
    refused, found = run(child, feed_name, "size=1m", RUNNING + LACKS_PAGES + code)
    assert "MiB free" in refused
    assert found == [False, 0]  # its bars are gone, which is damage


def test_without_reserving_it_the_next_feeder_dies(child, feed_name):
    """The control."""
    code = """
fill()
ownership.reserve = lambda *arguments: None
shmfeed.create(name, 100, 16, 4)
"""
    dies(child, feed_name, "size=1m", RUNNING + LACKS_PAGES + code)


def test_readers_of_a_full_dev_shm_touch_no_slot_without_pages(child, feed_name):
    code = """
from shmfeed.listing import list_feeds
from shmfeed.segment.removal import clean_feed
ring.append(*bar(0))
fill()
with shmfeed.attach(name) as feed:
    reader = feed.ring("A", "1m")
    count = reader.count, len(reader.view(5)), len(reader.snapshot(5))
    row = list_feeds()[0]
    clean_feed(name, False)
    tell([count, feed.status()["health"], row["health"], row["bars"]])
writer.close()
writer = shmfeed.create(name, 100, 16, 4)
tell([writer.reused, add("A").reader.count])
writer.close(unlink=True)
"""
    read, reused = run(child, feed_name, "size=1m", RUNNING + code)
    assert read == [[1, 1, 1], "live", "live", 1]
    assert reused == [True, 1]


def test_a_limit_of_the_process_has_its_own_message(child, feed_name):
    code = f"""
resource.setrlimit(resource.RLIMIT_FSIZE, (16384, resource.RLIM_INFINITY))
tell(attempt({SMALL}))
"""
    (outcome,) = run(child, feed_name, "size=1m", code)
    assert is_refused(outcome)
    assert "may not make so large a file (ulimit -f), feed" in outcome["error"]
    assert "needs 0.21 MiB" in outcome["error"]
