"""The reader in C that the pages show: against live, dead, missing and newer feeds."""

import csv
import io
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support import forks, payload, segment_files
from support.compiling import NEEDS_COMPILER, ROOT, STRICT
from support.forks import Fork

import shmfeed
from shmfeed.layout import COLUMNS, E_EPOCH, H_ENTRY_START, H_READY, READY, VERSION
from shmfeed.memory.rows import Rows
from shmfeed.segment.mapping import place

pytestmark = NEEDS_COMPILER

SOURCE = ROOT / "examples/reader.c"
KEY = payload.SYMBOL, payload.TIMEFRAME
HISTORY, GUARD = 2000, 32
READS = round(150 * forks.SCALE)
MOST_READS = 20 * READS  # until a mutant has shown a torn row
# A reader that takes the rows as they are, without steps R4 and R5.
MUTANT = (
    "return whole ? last - first : -1;",
    "return whole ? last - first : last - first;",
)


def built(into: Path, change: tuple[str, str] | None = None) -> Path:
    text = SOURCE.read_text()
    if change is not None:
        assert text.count(change[0]) == 1
        text = text.replace(*change)
    source, program = into / "reader.c", into / "reader"
    source.write_text(text)
    flags = (*STRICT, "-O2", "-pedantic", f"-I{shmfeed.get_include()}")
    command = ["cc", *flags, str(source), "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return program


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("reader"))


def read(program: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


def rows_of(output: str) -> Rows:
    """Return the rows of a CSV; their numbers follow from the newest one's."""
    lines = list(csv.reader(io.StringIO(output)))
    assert tuple(lines[0]) == COLUMNS
    block = np.empty((len(COLUMNS), len(lines) - 1))
    for column, cells in enumerate(zip(*lines[1:], strict=True)):
        whole = COLUMNS[column] in ("open_time", "close_time", "flags")
        values = np.array(cells, np.int64 if whole else np.float64)
        block[column] = values.view(np.float64)
    last = int(lines[-1][-1]) if len(lines) > 1 else 0
    return Rows(block, last - (len(lines) - 1))


def write_at_full_speed(feed: str, board: memoryview) -> None:
    with shmfeed.create(feed, history=HISTORY, guard=GUARD, max_streams=2) as writer:
        writer.add_stream("OTHER", "1m")
        ring = writer.add_stream(*KEY)
        number = 0
        while not board[0]:
            for _ in range(1000):
                number += 1
                payload.append(ring, number, wake=False)
            board[1] = number
        writer.close(unlink=True)


@pytest.fixture
def busy_feed(feed_name: str) -> Iterator[str]:
    """Return a feed whose writer never pauses."""
    board = forks.board()
    with Fork(write_at_full_speed, feed_name, board) as child:
        forks.wait_until(lambda: board[1] > HISTORY, 20, "the writer writes")
        yield feed_name
        board[0] = 1
        child.result()


def test_no_row_is_torn_while_the_writer_never_pauses(
    reader: Path, busy_feed: str
) -> None:
    rows = outrun = 0
    for number in range(READS):
        most = (1, 20, HISTORY // 2, HISTORY)[number % 4]
        done = read(reader, busy_feed, *KEY, most)
        if done.returncode:
            assert "the writer outran" in done.stderr
            assert most == HISTORY
            outrun += 1
            continue
        assert done.stderr == ""
        found = rows_of(done.stdout)
        assert len(found) == most
        assert payload.bad_rows(found) == 0
        rows += most
    print(f"reads={READS} rows={rows} outrun={outrun}")


def test_without_the_last_steps_torn_rows_are_seen(
    busy_feed: str, tmp_path: Path
) -> None:
    """The control: the same race, and a reader that does not look again."""
    mutant = built(tmp_path, MUTANT)
    for number in range(MOST_READS):
        found = rows_of(read(mutant, busy_feed, *KEY, HISTORY).stdout)
        if payload.bad_rows(found):
            print(f"reads={number + 1}")
            return
    pytest.fail(f"no torn row in {MOST_READS} reads: this race sees nothing")


@pytest.fixture
def writer(feed_name: str) -> Iterator[shmfeed.FeedWriter]:
    with shmfeed.create(feed_name, history=50, max_streams=4) as writer:
        ring = writer.add_stream(*KEY)
        for number in range(1, 31):
            payload.append(ring, number)
        writer.add_stream("EMPTY", "1m")
        yield writer
        writer.close(unlink=True)


def test_it_prints_what_python_reads(
    reader: Path, writer: shmfeed.FeedWriter, feed_name: str
) -> None:
    for wanted, most in ((7, 7), (30, 1_000_000), (10, None)):
        done = read(reader, feed_name, *KEY, *([] if most is None else [most]))
        assert (done.returncode, done.stderr) == (0, "")
        with shmfeed.attach(feed_name) as feed:
            expected = feed.ring(*KEY).snapshot(wanted)
        found = rows_of(done.stdout)
        assert (found.first, found.last) == (expected.first, expected.last)
        for field in COLUMNS:
            np.testing.assert_array_equal(found[field], expected[field])


def test_a_stream_without_bars(reader: Path, writer, feed_name: str) -> None:
    done = read(reader, feed_name, "EMPTY", "1m")
    assert (done.returncode, done.stdout.splitlines()) == (0, [",".join(COLUMNS)])


@pytest.mark.parametrize(
    ("symbol", "timeframe"),
    [("NONE", "1m"), (KEY[0], "1h"), (KEY[0][:-1], "1m"), ("A" * 60, "1m"), ("", "")],
)
def test_a_missing_stream(
    reader: Path, writer, feed_name: str, symbol: str, timeframe: str
) -> None:
    done = read(reader, feed_name, symbol, timeframe)
    told = f"feed {feed_name} does not carry {symbol} {timeframe}\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", told)


def test_an_entry_that_is_being_given_away_is_not_read(
    reader: Path, writer: shmfeed.FeedWriter, feed_name: str
) -> None:
    ints = writer._words.ints
    epoch = ints[H_ENTRY_START] + E_EPOCH
    ints[epoch] |= 1
    assert "does not carry" in read(reader, feed_name, *KEY).stderr
    ints[epoch] += 1
    assert read(reader, feed_name, *KEY).returncode == 0


def test_a_missing_feed(reader: Path, feed_name: str) -> None:
    done = read(reader, feed_name, *KEY)
    assert done.returncode == 1
    assert done.stderr == f"{place(feed_name).segment}: there is no such feed\n"


def test_a_symbolic_link_is_not_followed(reader: Path, writer, feed_name: str) -> None:
    link = place(feed_name + "2").segment
    link.symlink_to(place(feed_name).segment)
    assert "there is no such feed" in read(reader, feed_name + "2", *KEY).stderr


@pytest.mark.parametrize(
    "arguments", [(), ("a", "b"), ("a", "b", "1m", 0), ("a", "b", "1m", "many")]
)
def test_wrong_arguments(reader: Path, arguments: tuple[object, ...]) -> None:
    done = read(reader, *arguments)
    assert (done.returncode, done.stderr.split(":")[0]) == (1, "usage")


def test_a_newer_layout_names_both_versions(
    reader: Path, writer: shmfeed.FeedWriter, feed_name: str
) -> None:
    writer._words.ints[H_READY] = READY + 1
    done = read(reader, feed_name, *KEY)
    assert done.returncode == 1
    assert done.stderr == (
        f"{place(feed_name).segment}: has layout version {VERSION + 1}, this reader"
        f" was compiled for version {VERSION}\n"
    )
    writer._words.ints[H_READY] = READY


@pytest.mark.parametrize("content", [b"", b"x" * 100, bytes(4096)])
def test_what_is_no_segment(reader: Path, feed_name: str, content: bytes) -> None:
    place(feed_name).segment.write_bytes(content)
    done = read(reader, feed_name, *KEY)
    assert done.returncode == 1
    assert "not ready" in done.stderr or "no such feed" in done.stderr


def test_a_truncated_segment_is_told(
    reader: Path, writer: shmfeed.FeedWriter, feed_name: str
) -> None:
    copy = place(feed_name + "2").segment
    content = place(feed_name).segment.read_bytes()
    segment_files.put(copy, content[: len(content) // 2])
    done = read(reader, feed_name + "2", *KEY)
    assert (done.returncode, done.stderr) == (1, f"{copy}: is damaged\n")


def write_and_wait(feed: str, pipe: int) -> None:
    with shmfeed.create(feed, history=50, max_streams=1) as writer:
        ring = writer.add_stream(*KEY)
        for number in range(1, 11):
            payload.append(ring, number)
        os.write(pipe, b"x")
        signal.pause()


def test_a_dead_feed_is_read_and_told(reader: Path, feed_name: str) -> None:
    reads, writes = os.pipe()
    with Fork(write_and_wait, feed_name, writes) as process:
        os.read(reads, 1)
        process.kill()
    os.close(reads)
    os.close(writes)
    with shmfeed.attach(feed_name) as feed:
        forks.wait_until(lambda: not feed.alive(), 10, "the heartbeat expires")
    done = read(reader, feed_name, *KEY, 3)
    assert rows_of(done.stdout)["flags"].tolist() == [8, 9, 10]
    assert (done.returncode, done.stderr) == (
        0,
        "the feeder is dead; these are its last bars\n",
    )


def test_the_page_shows_how_to_compile_it() -> None:
    page = (ROOT / "docs/reading.md").read_text()
    command = re.search(r"^cc .*?[^\\]$", page, re.MULTILINE | re.DOTALL)
    assert command
    assert "examples/reader.c" in command[0]
    assert "shmfeed.get_include()" in command[0]
