"""Processes that hold deleted segments, named by real children and by made-up files."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Child

import shmfeed
from shmfeed.doctor.deleted_segments import check_deleted_segments
from shmfeed.segment.mapping import place

HOLD = """
import os, sys, mmap
fd = os.open(sys.argv[1], os.O_RDONLY)
if sys.argv[2] == "mapped":
    pages = mmap.mmap(fd, 0, access=mmap.ACCESS_READ)  # duplicates the descriptor
    os.closerange(fd, fd + 100)
print("held", flush=True)
sys.stdin.readline()
"""
READ = """
import sys, shmfeed
feed = shmfeed.attach(sys.argv[1])
ring = feed.ring("A", "1s")
print(ring.count, flush=True)
sys.stdin.readline()
print(ring.count, flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def writer(feed_name: str) -> Iterator[shmfeed.FeedWriter]:
    with shmfeed.create(feed_name, history=16, max_streams=1) as writer:
        ring = writer.add_stream("A", "1s")
        ring.append(1000, 1, 1, 1, 1, 1)
        yield writer
        writer.close(unlink=True)


def notes_about(feed: str) -> list[tuple[str, str]]:
    """Return finding and remedy of each note that names this feed."""
    found = [one for one in check_deleted_segments() if one.level == "note"]
    return [(one.found, one.remedy or "") for one in found if feed in one.found]


@pytest.mark.parametrize("way", ["mapped", "open"])
def test_a_process_that_holds_a_deleted_segment_is_named(
    writer: shmfeed.FeedWriter, feed_name: str, child: Child, way: str
) -> None:
    path = place(feed_name).segment
    process = child(HOLD, path, way)
    assert process.stdout.readline() == "held\n"
    size = path.stat().st_size / (1 << 20)
    assert notes_about(feed_name) == []  # a segment with a name is no concern
    writer.close(unlink=True)
    ((found, remedy),) = notes_about(feed_name)
    assert found.startswith(f"process {process.pid} (")
    assert "python" in found
    assert f"holds 1 deleted segment of feed {feed_name}, {size:,.2f} MiB" in found
    assert f"restart process {process.pid}" in remedy
    process.communicate("\n")
    assert notes_about(feed_name) == []


def test_a_reader_that_reads_on_lets_go(
    writer: shmfeed.FeedWriter, feed_name: str, child: Child
) -> None:
    """The remedy that the note names."""
    process = child(READ, feed_name)
    assert process.stdout.readline() == "1\n"
    writer.close(unlink=True)
    with shmfeed.create(feed_name, history=32, max_streams=1) as successor:
        successor.add_stream("A", "1s")
        assert len(notes_about(feed_name)) == 1
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "0\n"
        assert notes_about(feed_name) == []
        process.communicate("\n")
        successor.close(unlink=True)


class Proc:
    """A made-up /proc."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.prefix = str(place("any").segment).removesuffix("any")

    def add(self, pid: int, *maps: str, command: bytes = b"python\0a b\0") -> Path:
        directory = self.path / str(pid)
        (directory / "fd").mkdir(parents=True)
        (directory / "maps").write_text("".join(f"{line}\n" for line in maps))
        (directory / "cmdline").write_bytes(command)
        return directory

    def line(self, feed: str, pages: int, inode: int, end: str = " (deleted)") -> str:
        stop = 0x7F0000000000 + pages * 4096
        return (
            f"7f0000000000-{stop:x} r--s 00000000 00:19 {inode}   "
            f"                 {self.prefix}{feed}{end}"
        )

    def findings(self) -> list[tuple[str, str]]:
        return [(one.level, one.found) for one in check_deleted_segments(self.path)]


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path)


def test_nothing_is_held(proc: Proc) -> None:
    proc.add(1, proc.line("a", 1, 5, ""), "7f00-7f01 rw-p 00000000 00:00 0 [heap]")
    (proc.path / "self").mkdir()
    assert proc.findings() == [("ok", "held by: none")]


def test_mappings_of_one_segment_count_once(proc: Proc) -> None:
    line, other = proc.line("a", 256, 5), proc.line("b~", 512, 6)
    proc.add(7, line, line, other, proc.line("a", 256, 9))
    assert proc.findings() == [
        (
            "note",
            "process 7 (python a b) holds 3 deleted segments of feed a, b, 4.00 MiB",
        ),
        ("ok", "held by: 1 process named above"),
    ]


def test_another_users_and_other_files_are_not_looked_at(proc: Proc) -> None:
    proc.add(3, proc.line("a", 1, 5).replace("shmfeed.", "another."))
    proc.add(4, "7f00-7f01 r--s 0 00:19 6 /tmp/x (deleted)")
    assert proc.findings() == [("ok", "held by: none")]


def test_processes_that_end_meanwhile_or_refuse(
    proc: Proc, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pid in (11, 12, 13):
        proc.add(pid, proc.line("a", 1, 5))
    read_text = Path.read_text

    def refuse(path: Path, *arguments: str) -> str:
        if path.parent.name == "11":
            raise PermissionError
        if path.parent.name == "12":
            raise ProcessLookupError
        return read_text(path, *arguments)

    monkeypatch.setattr(Path, "read_text", refuse)
    (_, found), (_, summary) = proc.findings()
    assert found.startswith("process 13 ")
    assert summary == "held by: 1 process named above; 1 process could not be read"


def test_a_command_of_any_bytes_is_short(proc: Proc) -> None:
    proc.add(5, proc.line("a", 1, 5), command=b"\xff\n" + b"x" * 5000)
    found = proc.findings()[0][1]
    assert len(found) < 200
    assert re.match(r"process 5 \(", found)


def test_this_process_itself_is_not_looked_at(proc: Proc) -> None:
    proc.add(os.getpid(), proc.line("a", 1, 5))
    assert proc.findings() == [("ok", "held by: none")]
