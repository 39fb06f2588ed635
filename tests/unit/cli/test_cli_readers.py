"""`shmfeed readers`: which processes read a feed, found from outside."""

import ctypes
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.users import (
    FEEDER,
    GROUP,
    OTHER_GROUP,
    READER,
    STRANGER,
    as_user,
    load_modules,
    result_as,
)
from support.waiting import until

import shmfeed
from shmfeed.accounts import user_name
from shmfeed.cli.main import main
from shmfeed.cli.readers import format_readers
from shmfeed.observe.readers import find_readers
from shmfeed.segment.mapping import place
from shmfeed.segment.processes import mapped_files
from shmfeed.segment.reader_mark import find_reader_marks, make_reader_mark
from shmfeed.writer import create

pytest_plugins = ["support.command_process", "support.users_fixture"]
pytestmark = pytest.mark.usefixtures("no_settings")

READ = """
import sys
import shmfeed
feed = shmfeed.attach(sys.argv[1])
print("reading", flush=True)
for line in sys.stdin:
    if line.strip() == "read":
        feed.streams()
    if line.strip() == "close":
        feed.close()
    print(line.strip(), flush=True)
"""


@pytest.fixture
def reader(child, feed_name):
    """Start a process that reads the feed and obeys lines."""

    def start(code: str = READ):
        process = child(code, feed_name, stdin=-1)
        assert process.stdout.readline() == "reading\n"
        return process

    return start


def tell(process, word: str) -> None:
    process.stdin.write(word + "\n")
    process.stdin.flush()
    assert process.stdout.readline() == word + "\n"


@pytest.fixture
def readers(feed_name, capsys):
    def run() -> dict:
        assert main(["readers", "--feed", feed_name, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return run


def test_a_reader_is_listed_as_long_as_it_reads(
    readers, reader, cli_writer, feed_name
) -> None:
    before = time.time_ns() // 10**6
    assert readers()["readers"] == []
    process = reader()
    (row,) = readers()["readers"]
    assert row["pid"] == process.pid
    assert row["version"] == shmfeed.__version__
    assert before <= row["since"] <= time.time_ns() // 10**6
    assert feed_name in row["command"]
    assert row["current"] is True
    tell(process, "close")
    assert readers()["readers"] == []


def test_each_process_is_a_row_and_a_killed_one_is_gone(
    readers, reader, cli_writer
) -> None:
    first, second = reader(), reader()
    found = [row["pid"] for row in readers()["readers"]]
    assert found == sorted([first.pid, second.pid])
    first.kill()
    first.wait()
    assert [row["pid"] for row in readers()["readers"]] == [second.pid]


def test_a_reader_of_another_feed_is_not_listed(reader, cli_writer, feed_name) -> None:
    reader()
    with create(feed_name + "2", history=16, max_streams=1) as other:
        assert find_readers(place(feed_name + "2")).readers == []
        other.close(unlink=True)


WRITE = """
import sys
import shmfeed
from shmfeed.segment.mapping import open_segment, place
writer = shmfeed.create(sys.argv[1], 16, 16, 1)
writer.add_stream("A", "1m").append(0, 1, 1, 1, 1, 1)
mapped = open_segment(place(sys.argv[1]))  # as a feeder has it, too
print("reading", flush=True)
sys.stdin.readline()
feed = shmfeed.attach(sys.argv[1])
print("both", flush=True)
sys.stdin.readline()
writer.close(unlink=True)
"""


def test_the_feeder_is_no_reader_unless_it_attaches(readers, reader) -> None:
    process = reader(WRITE)
    assert readers()["readers"] == []
    tell(process, "both")  # it attaches
    assert [row["pid"] for row in readers()["readers"]] == [process.pid]
    process.communicate("end\n")


def test_a_reader_of_an_earlier_segment_is_told_until_it_reads(
    readers, reader, cli_writer, feed_name, capsys
) -> None:
    process = reader()
    cli_writer.close(unlink=True)
    with create(feed_name, history=50, max_streams=2) as successor:
        (row,) = readers()["readers"]
        assert row["current"] is False
        assert row["version"] == shmfeed.__version__
        main(["readers", "--feed", feed_name])
        assert "(an earlier segment of the feed" in capsys.readouterr().out
        tell(process, "read")
        (row,) = readers()["readers"]
        assert row["current"] is True
        successor.close(unlink=True)


FORK = """
import os, sys
import shmfeed
feed = shmfeed.attach(sys.argv[1])
pid = os.fork()
if not pid:
    sys.stdin.readline()
    os._exit(0)
print("reading", flush=True)
print(pid, flush=True)
os.waitpid(pid, 0)
"""


def test_a_forked_child_reads_too(readers, reader, cli_writer) -> None:
    process = reader(FORK)
    pid = int(process.stdout.readline())
    assert {row["pid"] for row in readers()["readers"]} == {process.pid, pid}
    process.communicate("end\n")


def test_a_version_without_marks_is_unknown(
    readers, reader, cli_writer, feed_name, capsys
) -> None:
    unmarked = "import shmfeed.attached_segment as a\na.make_reader_mark = id\n"
    reader(unmarked + READ)
    (row,) = readers()["readers"]
    assert (row["version"], row["since"]) == (None, None)
    main(["readers", "--feed", feed_name])
    assert re.search(r"\d+  \S+  unknown  -  +-  ", capsys.readouterr().out)


def test_the_table(reader, cli_writer, feed_name, capsys) -> None:
    process = reader()
    assert main(["readers", "--feed", feed_name]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        f"feed {feed_name}: 1 reader; processes in other PID namespaces are not seen"
    )
    header, row = lines[-2:]
    me = user_name(os.geteuid())
    assert header.split() == ["PID", "USER", "VERSION", "SINCE", "FOR", "COMMAND"]
    assert re.match(rf" *{process.pid}  {me}  \S+  \d{{4}}-\S+Z  +\d\.\d s  \S", row)


def test_no_feed_is_exit_2(feed_name, capsys) -> None:
    assert main(["readers", "--feed", feed_name]) == 2
    assert f"there is no feed {feed_name!r}" in capsys.readouterr().err


def test_a_process_that_may_not_be_read_is_counted(
    cli_writer, feed_name, tmp_path, monkeypatch, capsys
) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7/status").write_text(f"Uid:\t0\t{os.geteuid()}\t0\t0\nGid:\t0\t0\n")

    def refuse(directory):
        raise PermissionError

    monkeypatch.setattr("shmfeed.observe.readers.mapped_files", refuse)
    found = find_readers(place(feed_name), tmp_path)
    assert (found.readers, found.unreadable) == ([], 1)


class TestMark:
    def test_it_lasts_as_long_as_the_object(self) -> None:
        mark = make_reader_mark((1, 2))
        assert own_marks()[1, 2].version == shmfeed.__version__
        del mark
        assert (1, 2) not in own_marks()

    def test_it_uses_no_memory(self) -> None:
        marks = [make_reader_mark((1, number)) for number in range(3)]
        parts = Path("/proc/self/smaps").read_text().split("VmFlags")
        about = [part for part in parts if "memfd:shmfeed-reader" in part]
        assert len(about) >= len(marks)
        assert all(re.search(r"Rss: +0 kB", part) for part in about)

    def test_a_host_that_refuses_it_is_read_all_the_same(
        self, cli_ring, feed_name, monkeypatch
    ) -> None:
        def refuse(*_):
            raise OSError(24, "Too many open files")

        monkeypatch.setattr("os.memfd_create", refuse)
        with shmfeed.attach(feed_name) as feed:
            assert feed.ring("BTCUSDT", "1m").count == 5
            assert make_reader_mark((1, 2)) is None

    def test_it_is_freed_with_the_last_attachment(self, cli_writer, feed_name) -> None:
        segment = place(feed_name).segment.stat()
        key = segment.st_dev, segment.st_ino
        with shmfeed.attach(feed_name), shmfeed.attach(feed_name):
            assert key in own_marks()
        until(lambda: key not in own_marks(), what="the mark is gone")


def own_marks():
    return find_reader_marks(mapped_files(Path(f"/proc/{os.getpid()}")))


def test_the_feed_of_another_user(cli_writer, feed_name, capsys, monkeypatch) -> None:
    other = os.geteuid() + 1
    arguments = ["readers", "--feed", feed_name]
    assert main([*arguments, "--owner", str(other)]) == 2
    assert f"user {other} has no feed {feed_name!r}" in capsys.readouterr().err
    monkeypatch.setenv("SHMFEED_OWNER", str(other))
    assert main(arguments) == 2
    assert main([*arguments, "--owner", str(os.geteuid())]) == 0


def make_visible() -> None:
    """Let processes of the same user look into this one; a change of user ends that."""
    pr_set_dumpable = 4
    assert ctypes.CDLL(None).prctl(pr_set_dumpable, 1, 0, 0, 0) == 0


@pytest.mark.usefixtures("other_users")
class TestTheFeedOfAGroup:
    """The feeder, a reader of the group and a stranger are three users."""

    @pytest.fixture
    def pids(self, feed_name) -> Iterator[dict[int, int]]:
        """Start the three, and return the pid of each."""
        load_modules()  # once, not in each child
        ready, begun = os.pipe()
        held, end = os.pipe()

        def serve() -> None:
            os.close(end)
            with shmfeed.create(feed_name, 100, 16, 4, group=str(GROUP)) as writer:
                writer.add_stream("BTCUSDT", "1m")
                os.write(begun, b"f")
                os.read(held, 1)

        def read(is_attached: bool) -> None:
            os.close(end)
            make_visible()
            feed = shmfeed.attach(feed_name, owner=FEEDER) if is_attached else None
            os.write(begun, b"r")
            os.read(held, 1)
            del feed

        with as_user(FEEDER, [GROUP], serve) as feeder:
            assert os.read(ready, 1) == b"f"
            with (
                as_user(READER, [GROUP], read, True) as reader,
                as_user(STRANGER, [OTHER_GROUP], read, False) as other,
            ):
                assert os.read(ready, 1) + os.read(ready, 1) == b"rr"
                yield {FEEDER: feeder.pid, READER: reader.pid, STRANGER: other.pid}
                os.close(end)
        for fd in (ready, begun, held):
            os.close(fd)

    def test_root_sees_the_readers_of_all_users(self, pids, feed_name) -> None:
        found = find_readers(place(feed_name, FEEDER))
        (reader,) = found.readers
        assert (reader.pid, reader.user) == (pids[READER], str(READER))
        assert reader.version == shmfeed.__version__
        assert found.of_others == 0

    def test_a_member_of_the_group_is_told_what_it_cannot_see(
        self, pids, feed_name
    ) -> None:
        """Not that of the feeder, nor that of the stranger, who may not read."""

        def look() -> list[object]:
            found = find_readers(place(feed_name, FEEDER))
            return [[one.pid for one in found.readers], found.of_others]

        assert result_as(READER, [GROUP], look) == [[pids[READER]], 0]
        # As another member: the reader's process is one that it may not look into.
        assert result_as(STRANGER, [GROUP], look) == [[], 1]

    def test_it_is_said(self, pids, feed_name) -> None:
        def look() -> str:
            return format_readers(feed_name, find_readers(place(feed_name, FEEDER)))

        lines = result_as(STRANGER, [GROUP], look).splitlines()
        said = "1 process of other users may read the feed and could not be looked into"
        assert lines[1:] == [f"{said}; root can"]
