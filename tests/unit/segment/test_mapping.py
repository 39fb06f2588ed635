"""Opening a segment: its place, and files that are not segments."""

import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import Child
from support import segment_files

from shmfeed import layout
from shmfeed.errors import (
    BadArgumentError,
    FeedNotFoundError,
    SegmentFormatError,
    UnsupportedPlatformError,
)
from shmfeed.layout import (
    H_GUARD,
    H_HISTORY,
    H_MAX_STREAMS,
    H_READY,
    H_SIZE,
    H_SLOTS,
    HEADER_WORDS,
    MAGIC,
    MAGIC_SHIFT,
    READY,
    VERSION,
    WORD,
    Geometry,
)
from shmfeed.segment import mapping, platform
from shmfeed.segment.mapping import Place, offset_words, open_segment, place

GEOMETRY = Geometry(2, 5, 3)
SHARED = Path("/dev/shm")


@pytest.fixture
def where(feed_name: str) -> Place:
    return place(feed_name)


def header(geometry: Geometry = GEOMETRY, **changed: int) -> bytes:
    words = [0] * HEADER_WORDS
    words[H_READY] = READY
    words[H_SIZE] = geometry.size
    words[H_MAX_STREAMS] = geometry.max_streams
    words[H_HISTORY] = geometry.history
    words[H_GUARD] = geometry.guard
    words[H_SLOTS] = geometry.slots
    for word, value in offset_words(geometry).items():
        words[word] = value
    for name, value in changed.items():
        words[getattr(layout, name)] = value
    return struct.pack(f"={HEADER_WORDS}q", *words)


def make(where: Place, content: bytes, size: int | None = None) -> None:
    segment_files.put(where.segment, content, GEOMETRY.size if size is None else size)


class TestPlace:
    def test_the_files_of_a_feed(self) -> None:
        uid = os.geteuid()
        assert place("a.b-1") == Place(
            name="a.b-1",
            object_name=f"shmfeed.{uid}.a.b-1",
            segment=SHARED / f"shmfeed.{uid}.a.b-1",
            directory=SHARED / f"shmfeed-{uid}",
            lock=SHARED / f"shmfeed-{uid}/a.b-1.lock",
            socket=SHARED / f"shmfeed-{uid}/a.b-1.sock",
            owner=uid,
        )

    @pytest.mark.parametrize("name", ["", "..", "a/b", "../a", "a" * 33, None, 3])
    def test_bad_names_are_refused(self, name: str) -> None:
        with pytest.raises(BadArgumentError, match="feed name"):
            place(name)

    @pytest.mark.parametrize("variable", ["TMPDIR", "XDG_RUNTIME_DIR", "HOME"])
    def test_no_environment_variable_moves_a_feed(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str
    ) -> None:
        before = place("a")
        monkeypatch.setenv(variable, str(tmp_path))
        assert place("a") == before

    def test_without_shared_memory_there_is_no_place(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(platform, "SHARED_MEMORY", tmp_path / "none")
        with pytest.raises(UnsupportedPlatformError, match="POSIX shared memory"):
            place("a")


class TestOpen:
    def test_an_opened_segment_has_geometry_and_identity(self, where: Place) -> None:
        make(where, header())
        opened = open_segment(where)
        status = where.segment.stat()
        assert opened.geometry == GEOMETRY
        assert opened.identity == (status.st_dev, status.st_ino)
        assert mapping.identity_at(where.segment) == opened.identity

    def test_the_words_are_read_only(self, where: Place) -> None:
        make(where, header())
        words = open_segment(where).words
        for view in (words.ints, words.raw, words.floats):
            with pytest.raises(TypeError, match="read-only"):
                view[0] = 1
        columns = words.columns(0, (1, 8))
        with pytest.raises(ValueError, match="read-only"):
            columns[0, 0] = 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            columns.setflags(write=True)

    def test_pages_are_not_writable_at_all(self, where: Place, child: Child) -> None:
        make(where, header())
        code = """
import ctypes, sys
from shmfeed.segment.mapping import open_segment, place
columns = open_segment(place(sys.argv[1])).words.columns(0, (1, 8))
print("mapped", flush=True)
ctypes.memset(columns.ctypes.data, 1, 8)
"""
        process = child(code, where.name)
        out, _ = process.communicate()
        assert (out, process.returncode) == ("mapped\n", -11)
        assert where.segment.read_bytes()[:WORD] == struct.pack("=q", READY)

    def test_the_descriptor_is_closed_and_the_map_goes_with_its_last_array(
        self, where: Place
    ) -> None:
        make(where, header())
        columns = open_segment(where).words.columns(0, (1, 8))
        where.segment.unlink()
        assert columns.view(np.int64)[0, 0] == READY
        del columns
        maps = Path("/proc/self/maps").read_text()
        assert where.object_name not in maps

    def test_a_larger_file_is_accepted(self, where: Place) -> None:
        make(where, header(), GEOMETRY.size + 4096)
        assert open_segment(where).geometry == GEOMETRY


class TestNoSegment:
    def test_a_missing_file_raises_feed_not_found(self, where: Place) -> None:
        with pytest.raises(FeedNotFoundError) as caught:
            open_segment(where)
        error = caught.value
        assert isinstance(error, FileNotFoundError)
        assert error.filename == str(where.segment)
        assert f"shmfeed run --feed {where.name}" in str(error)
        assert mapping.identity_at(where.segment) is None

    @pytest.mark.parametrize("size", [0, 8, HEADER_WORDS * WORD - 1])
    def test_a_file_without_its_size_raises_feed_not_found(
        self, where: Place, size: int
    ) -> None:
        make(where, b"", size)
        with pytest.raises(FeedNotFoundError):
            open_segment(where)

    def test_a_segment_that_is_not_ready_raises_feed_not_found(
        self, where: Place
    ) -> None:
        make(where, header(H_READY=0))
        with pytest.raises(FeedNotFoundError):
            open_segment(where)


class TestForeign:
    def refused(self, where: Place, match: str) -> None:
        with pytest.raises(SegmentFormatError, match=match) as caught:
            open_segment(where)
        assert str(where.segment) in str(caught.value)

    def test_a_file_of_another_program_is_refused(self, where: Place) -> None:
        make(where, b"not a segment at all")
        self.refused(where, "not a shmfeed segment")

    @pytest.mark.parametrize("version", [0, VERSION + 1, 2**32 - 1])
    def test_another_layout_names_both_versions(
        self, where: Place, version: int
    ) -> None:
        make(where, header(H_READY=MAGIC << MAGIC_SHIFT | version))
        self.refused(
            where, f"layout version {version}, this shmfeed reads 1 to {VERSION}"
        )

    @pytest.mark.parametrize("size", [HEADER_WORDS * WORD, GEOMETRY.size - 1])
    def test_a_truncated_file_is_refused(self, where: Place, size: int) -> None:
        make(where, header(), size)
        stated = f"its header states {GEOMETRY.size}"
        self.refused(where, f"damaged: it has {size} bytes, {stated}")

    @pytest.mark.parametrize("value", [-1, 0, 1 << 62])
    @pytest.mark.parametrize(
        "name",
        [
            "H_SIZE",
            "H_MAX_STREAMS",
            "H_HISTORY",
            "H_GUARD",
            "H_SLOTS",
            "H_ENTRY_START",
            "H_ENTRY_SIZE",
            "H_SLOT_START",
            "H_SLOT_SIZE",
            "H_COLUMN_SIZE",
        ],
    )
    def test_impossible_sizes_are_refused(
        self, where: Place, name: str, value: int
    ) -> None:
        make(where, header(**{name: value}))
        self.refused(where, "damaged")

    def test_a_symbolic_link_is_refused(self, where: Place) -> None:
        target = place(where.name + "2")
        make(target, header())
        assert open_segment(target).geometry == GEOMETRY
        where.segment.symlink_to(target.segment)
        self.refused(where, "symbolic link")

    def test_a_dangling_symbolic_link_is_refused(
        self, where: Place, tmp_path: Path
    ) -> None:
        where.segment.symlink_to(tmp_path / "nothing")
        self.refused(where, "symbolic link")

    def test_a_directory_is_refused(self, where: Place) -> None:
        where.segment.mkdir(0o700)
        self.refused(where, "not a regular file")

    def test_a_fifo_does_not_block(self, where: Place) -> None:
        os.mkfifo(where.segment, 0o600)
        self.refused(where, "not a regular file")

    @pytest.mark.parametrize("mode", [0o601, 0o604, 0o620, 0o650, 0o660, 0o666])
    def test_a_mode_that_lets_others_in_is_refused(
        self, where: Place, mode: int
    ) -> None:
        make(where, header())
        where.segment.chmod(mode)
        self.refused(where, f"mode is {mode:04o}.*0600")

    def test_a_file_of_another_user_is_refused(self, where: Place) -> None:
        make(where, header())
        owner = os.geteuid()
        other = where._replace(owner=owner + 1)
        self.refused(other, f"belongs to user {owner}, not to {owner + 1}")


class TestSharedPages:
    @pytest.fixture
    def writable(self, where: Place) -> Iterator[memoryview]:
        make(where, header())
        with where.segment.open("r+b") as file:
            view = memoryview(mmap.mmap(file.fileno(), GEOMETRY.size)).cast("q")
        yield view
        view.release()

    def test_sizes_are_copied_once(self, where: Place, writable: memoryview) -> None:
        mapping = open_segment(where)
        writable[H_HISTORY] = 1 << 40
        assert mapping.words.ints[H_HISTORY] == 1 << 40
        assert mapping.geometry == GEOMETRY
