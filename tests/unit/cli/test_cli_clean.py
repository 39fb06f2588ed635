"""`shmfeed clean`: removed files, files that stay, and races with feeders."""

import fcntl
import json
import os
import socket
import struct
import subprocess
import time

import pytest
from support import own_shm
from support.forks import Fork, board
from support.waiting import until

from shmfeed.cli.main import main
from shmfeed.errors import ShmfeedError
from shmfeed.feeder.handover_channel import socket_of
from shmfeed.layout import H_ALIVE, H_STATE_SINCE, H_TICK, WORD
from shmfeed.memory.words import boot_ns
from shmfeed.segment.inventory import Inventory, take_inventory
from shmfeed.segment.mapping import place
from shmfeed.segment.removal import leftovers
from shmfeed.writer import create

pytest_plugins = ["support.command_process"]
pytestmark = pytest.mark.usefixtures("no_settings")


@pytest.fixture
def clean(capsys, feed_name):
    """Run `clean --feed` on this test's feed; return exit code and output."""

    def run(*arguments, force=True):
        options = ["--force"] if force else []
        code = main(["clean", "--feed", feed_name, *options, *arguments])
        output, errors = capsys.readouterr()
        assert errors == ""
        return code, output

    return run


def test_unheld_files_are_removed_and_listed_with_their_size(
    clean, cli_ring, cli_writer, feed_name
):
    where = place(feed_name)
    size = where.segment.stat().st_size
    cli_writer.close()
    where.successor.touch(0o600)
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(where.socket))
    lines = [
        f"{where.segment} ({size / 2**20:.2f} MiB)",
        f"{where.successor} (0.00 MiB)",
        f"{where.socket} (0.00 MiB)",
    ]
    total = f"{size / 2**20:.2f} MiB"
    assert clean("--dry-run") == (
        0,
        "\n".join([f"would remove {line}" for line in lines])
        + f"\n3 would remove, {total}\n".replace("would remove", "would be removed"),
    )
    assert where.segment.exists()
    code, output = clean()
    assert code == 0
    assert output.splitlines() == [
        *(f"removed {line}" for line in lines),
        f"3 removed, {total}",
    ]
    assert not where.segment.exists()
    assert not where.successor.exists()
    assert where.lock.exists()


def test_a_held_feed_stays_and_its_holder_is_named(clean, cli_ring, feed_name):
    code, output = clean()
    assert code == 1  # a file of this feed is left
    assert f"): it is held by process {os.getpid()}\n" in output
    assert output.splitlines()[-1] == "nothing to remove"
    assert cli_ring.reader.count == 5
    found = json.loads(clean("--json")[1])
    assert found["removed"] == []
    assert [one["state"] for one in found["left"]] == ["held"]
    assert found["left"][0]["path"] == str(place(feed_name).segment)


def test_json_lists_the_removed_files(clean, cli_writer, feed_name):
    cli_writer.close()
    size = place(feed_name).segment.stat().st_size
    path = str(place(feed_name).segment)
    for dry in (True, False):
        code, output = clean("--json", *["--dry-run"] * dry)
        assert code == 0
        assert json.loads(output) == {
            "dry_run": dry,
            "removed": [{"path": path, "bytes": size}],
            "left": [],
        }


def test_an_unknown_feed_is_exit_2(feed_name, capsys):
    assert main(["clean", "--feed", feed_name]) == 2
    said = capsys.readouterr().err
    assert f"there is no feed {feed_name!r} on this host, so there is nothing" in said
    assert "shmfeed run" not in said
    assert main(["clean", "--feed", ""]) == 2
    assert "feed name '' is not accepted" in capsys.readouterr().err


def test_a_foreign_file_stays_and_is_exit_1(clean, feed_name):
    place(feed_name).segment.symlink_to("/etc/passwd")
    code, output = clean()
    assert code == 1
    assert "it cannot be opened as a segment: it is a symbolic link" in output
    assert place(feed_name).segment.is_symlink()


class TestALockOfAReader:
    """flock(2) needs no right to write: a reader of a group's feed can lock it."""

    @pytest.fixture
    def segment(self, feed_name):
        """Return an ended feed's segment that another open file has locked."""
        create(feed_name, history=16, guard=16, max_streams=1).close()
        path = place(feed_name).segment
        with path.open("rb") as reader:
            fcntl.flock(reader, fcntl.LOCK_EX)
            yield path

    def test_a_segment_of_a_group_is_removed(self, clean, segment):
        segment.chmod(0o640)
        assert clean("--dry-run")[0] == 0
        assert segment.exists()
        assert clean()[0] == 0
        assert not segment.exists()

    def test_that_of_a_live_writer_without_its_lock_file_stays(
        self, clean, segment, feed_name
    ):
        segment.chmod(0o640)
        beat_before(feed_name, 0)
        assert clean()[0] == 1
        assert segment.exists()

    def test_one_that_no_group_reads_stays(self, clean, segment):
        """A control: only a writer, or this user, can have locked it."""
        assert clean()[0] == 1
        assert segment.exists()


class TestSocketsOfTakeovers:
    @pytest.fixture
    def left(self, feed_name):
        """Return the socket of a feeder that was killed as it took the feed over."""
        path = socket_of(place(feed_name), "0123456789abcdef")
        path.parent.mkdir(0o700, exist_ok=True)
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(path))
        yield path
        path.unlink(missing_ok=True)

    def test_one_alone_is_removed(self, clean, left):
        assert clean("--dry-run") == (
            0,
            f"would remove {left} (0.00 MiB)\n1 would be removed, 0.00 MiB\n",
        )
        assert clean()[0] == 0
        assert not left.exists()

    def test_it_is_removed_with_the_feed_that_has_ended(
        self, clean, left, cli_writer, feed_name
    ):
        assert clean()[0] == 1  # the feed is held, perhaps by the one that hands over
        assert left.exists()
        cli_writer.close()
        other = left.with_name(left.name.replace(feed_name, f"{feed_name}x"))
        other.touch(0o600)
        assert clean()[0] == 0
        assert not left.exists()
        assert other.exists()  # of another feed
        other.unlink()

    def test_all_feeds_are_looked_at(self, left, feed_name):
        assert feed_name in take_inventory().feeds

    def test_what_is_no_socket_stays(self, clean, left):
        left.unlink()
        left.touch(0o600)
        code, output = clean()
        assert code == 1
        assert "is not a socket of this user" in output


MIN_REMOVED = 20  # proof that the cleaner ran between the feeders


def clean_until_stopped(name, shared):
    while not shared[0]:
        shared[1] += sum(not one.reason for one in leftovers(place(name), remove=True))


def unlink_until_stopped(name, shared):
    while not shared[0]:
        place(name).segment.unlink(missing_ok=True)


def count_failed_starts(name, rounds):
    """Return how many of these starts were refused, or lost the feed they held."""
    failed = 0
    for _ in range(rounds):
        try:
            with create(name, history=16, guard=16, max_streams=1) as writer:
                writer.beat()
        except ShmfeedError:
            failed += 1
    return failed


def test_a_feeder_that_starts_during_clean_keeps_its_feed(feed_name):
    """Each start succeeds beside a busy cleaner, and keeps its segment."""
    shared = board()
    with Fork(clean_until_stopped, feed_name, shared) as cleaner:

        def raced():
            assert count_failed_starts(feed_name, 20) == 0
            return shared[1] >= MIN_REMOVED

        until(raced, what="the cleaner removed segments between two feeders")
        shared[0] = 1
        cleaner.wait()


def test_a_feeder_without_a_lock_timeout_would_be_refused(feed_name, monkeypatch):
    """Control: the cleaner holds the locks for a moment."""
    monkeypatch.setattr("shmfeed.segment.locking._LOCK_TIMEOUT_SECONDS", 0)
    shared = board()
    with Fork(clean_until_stopped, feed_name, shared) as cleaner:
        until(lambda: count_failed_starts(feed_name, 20), what="a start was refused")
        shared[0] = 1
        cleaner.wait()


def test_a_cleaner_without_locks_would_remove_a_held_feed(feed_name):
    """A second control run."""
    shared = board()
    with Fork(unlink_until_stopped, feed_name, shared) as cleaner:
        until(lambda: count_failed_starts(feed_name, 20), what="a feeder lost its feed")
        shared[0] = 1
        cleaner.wait()


ALL_FEEDS = """
import contextlib, io, signal, socket, stat
from shmfeed.cli.main import main
from shmfeed.segment.mapping import place

def feed(name, end):
    reads, writes = os.pipe()
    pid = os.fork()
    if not pid:
        writer = shmfeed.create(name, 16, 16, 1)
        os.write(writes, b"x")
        signal.pause()
    os.close(writes)
    os.read(reads, 1)
    os.close(reads)
    if end:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    return pid

def clean(*arguments):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main(["clean", "--force", "--json", *arguments])
    return [code, json.loads(out.getvalue())]

def listing():
    return sorted(os.path.join(folder, one) for folder, folders, files
                  in os.walk("/dev/shm") for one in [*folders, *files]
                  if not one.endswith(".lock"))

tell(clean())
for name in "abc":
    feed(name, True)
held = feed("held", False)
with socket.socket(socket.AF_UNIX) as one:
    one.bind(str(place("a").socket))
with socket.socket(socket.AF_UNIX) as one:
    one.bind(str(place("only").socket))
place("b").successor.touch(0o600)
place("b").segment.unlink()
tell(held)
tell(clean())
os.mkdir(place("dir").segment)
os.symlink("/etc/passwd", place("link").segment)
os.mkfifo(place("pipe").segment, 0o600)
place("odd name"[:3]).segment.with_name(place("x").segment.name + " \\x1b[31m").touch()
open("/dev/shm/unrelated", "w").close()
before = listing()
tell(clean("--dry-run"))
tell(clean())
tell(before == listing())
os.kill(held, 9)
os.waitpid(held, 0)
tell(clean("--feed", "held"))
out = io.StringIO()
with contextlib.redirect_stdout(out):
    main(["clean", "--force"])
tell(out.getvalue())
"""


READ_ONLY = """
REMOUNT, READ_ONLY = 32, 1
import contextlib, io
from shmfeed.cli.main import main
shmfeed.create(name, 16, 16, 1).close()
mount(b"tmpfs", b"/dev/shm", b"tmpfs", REMOUNT | READ_ONLY, b"")
for command in ("clean", "ls", "doctor"):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main([command])
    tell([code, out.getvalue()])
"""


def test_a_read_only_shared_memory(child, feed_name):
    code = "import shmfeed\nname = sys.argv[1]\n" + READ_ONLY
    clean, ls, doctor = own_shm.run(child, feed_name, "size=4m", code)
    assert clean[0] == 1
    assert "it cannot be locked: " in clean[1]
    assert "Read-only file system" in clean[1]
    assert ls[0] == 0
    assert f"{feed_name}  dead" in ls[1]
    assert doctor[0] == 1
    problems = [line for line in doctor[1].splitlines() if line.startswith("PROBLEM")]
    about = [line for line in problems if "/dev/shm" in line]
    assert len(about) == 1  # files that cannot be locked are no problems of their own
    assert "PROBLEM mount of /dev/shm: is read-only" in about[0]
    assert "locks and leftovers are not checked" in doctor[1]


def test_all_feeds_of_a_user(child, feed_name):
    code = "import shmfeed\n" + ALL_FEEDS
    nothing, held, first, dry, second, same, last, text = own_shm.run(
        child, feed_name, "size=4m", code
    )
    assert nothing == [0, {"dry_run": False, "removed": [], "left": []}]
    assert first[0] == 0
    gone = [one["path"].rsplit("/")[-1].split(".")[-1] for one in first[1]["removed"]]
    paths = [one["path"] for one in first[1]["removed"]]
    assert sorted(gone) == ["a", "b~", "c", "sock", "sock"]
    assert len(paths) == len(set(paths))
    assert [one["reason"] for one in first[1]["left"]] == [f"is held by process {held}"]
    for code, found in (dry, second):
        assert code == 1  # a file stays that no feeder holds
        assert found["removed"] == []
        left = {one["path"].split(".")[-1]: one for one in found["left"]}
        assert left.keys() == {"held", "dir", "link", "pipe", "x \x1b[31m"}
        assert [name for name, one in left.items() if one["state"] == "held"] == [
            "held"
        ]
        assert "not named like a feed" in left["x \x1b[31m"]["reason"]
    assert same
    assert last[0] == 0
    assert len(last[1]["removed"]) == 1
    assert "\x1b" not in text
    assert r"x \x1b[31m" in text


def beat_before(feed_name: str, seconds: float, word: int = H_ALIVE) -> None:
    """Store a heartbeat of `seconds` ago in a feed's segment, and clear the others."""
    with place(feed_name).segment.open("r+b") as file:
        for number in (H_ALIVE, H_TICK):
            file.seek(number * WORD)
            beat = boot_ns() - round(seconds * 1e9) if number == word else 0
            file.write(struct.pack("=q", beat))


def state_before(feed_name: str, seconds: float) -> None:
    with place(feed_name).segment.open("r+b") as file:
        file.seek(H_STATE_SINCE * WORD)
        file.write(struct.pack("=q", time.time_ns() // 10**6 - round(seconds * 1000)))


class TestSpared:
    def test_a_feed_that_has_just_ended_is_spared(
        self, clean, cli_ring, cli_writer, feed_name
    ):
        cli_writer.close()
        code, output = clean(force=False)
        assert code == 1
        assert "was in use a short time ago and stays for 600 s more" in output
        assert output.endswith("nothing to remove\n")
        (left,) = json.loads(clean("--json", force=False)[1])["left"]
        assert left["state"] == "recent"
        assert place(feed_name).segment.exists()
        assert clean()[0] == 0
        assert not place(feed_name).segment.exists()

    def test_without_feed_it_is_no_failure(self, cli_writer, feed_name, monkeypatch):
        cli_writer.close()
        inventory = Inventory([feed_name], [])
        monkeypatch.setattr("shmfeed.segment.removal.take_inventory", lambda: inventory)
        monkeypatch.setattr("shmfeed.segment.removal.lock_files", list)
        assert main(["clean"]) == 0
        assert place(feed_name).segment.exists()

    @pytest.mark.parametrize("word", [H_ALIVE, H_TICK])
    @pytest.mark.parametrize(("seconds", "spared"), [(590, True), (601, False)])
    def test_a_killed_feeder_by_its_last_beat(
        self, clean, cli_writer, feed_name, word, seconds, spared
    ):
        cli_writer.close()
        beat_before(feed_name, seconds, word)
        assert clean(force=False)[0] == spared
        assert place(feed_name).segment.exists() == spared

    @pytest.mark.parametrize(("seconds", "spared"), [(590, True), (601, False)])
    def test_a_feeder_that_ended_by_the_time_of_its_end(
        self, clean, cli_writer, feed_name, seconds, spared
    ):
        cli_writer.close()
        state_before(feed_name, seconds)
        assert clean(force=False)[0] == spared
        assert place(feed_name).segment.exists() == spared

    @pytest.mark.parametrize("change", [beat_before, state_before])
    def test_a_time_far_in_the_future_spares_nothing(
        self, clean, cli_writer, feed_name, change
    ):
        cli_writer.close()
        change(feed_name, -1e7)
        assert clean(force=False)[0] == 0

    @pytest.mark.parametrize(("seconds", "spared"), [(590, True), (601, False)])
    def test_an_unfinished_segment_by_its_file(self, clean, feed_name, seconds, spared):
        path = place(feed_name).segment
        path.touch(0o600)
        os.utime(path, (time.time() - seconds,) * 2)
        assert clean(force=False)[0] == spared
        assert path.exists() == spared
        path.unlink(missing_ok=True)


class TestLocks:
    @pytest.fixture
    def ended(self):
        """Return the pid of a process that has ended."""
        return subprocess.run(["/bin/sh", "-c", "echo $$"], capture_output=True).stdout

    @pytest.fixture
    def lock(self, ended, monkeypatch):
        """Make lock files; they alone are seen by `clean`."""
        made = []

        def make(form):
            path = place(form.format(ended.strip().decode(), os.getpid())).lock
            path.parent.mkdir(0o700, exist_ok=True)
            path.touch(0o600)
            made.append(path)
            return path

        monkeypatch.setattr("shmfeed.segment.removal.lock_files", lambda: made)
        monkeypatch.setattr(
            "shmfeed.segment.removal.take_inventory", lambda: Inventory([], [])
        )
        yield make
        for path in made:
            path.unlink(missing_ok=True)

    def test_locks_of_ended_replays_and_benchmarks_are_removed(self, lock, capsys):
        gone = [lock("replay-{}-1-0a1b"), lock("bench-{}"), lock("bench-{}-500")]
        stay = [lock("bench-{1}-7"), lock("trade-{}"), lock("bench-{}x")]
        assert main(["clean", "--dry-run"]) == 0
        assert capsys.readouterr().out == (
            "would remove 3 lock files of replays and benchmarks that have ended\n"
        )
        assert all(path.exists() for path in gone)
        assert main(["clean", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert [one["path"] for one in found["removed"]] == list(map(str, gone))
        assert not any(path.exists() for path in gone)
        assert all(path.exists() for path in stay)

    def test_a_lock_that_is_held_stays(self, lock):
        """A process of another PID namespace: its pid is not here."""
        path = lock("bench-{}-1")
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            assert main(["clean"]) == 0
            assert path.exists()
        assert main(["clean"]) == 0
        assert not path.exists()

    def test_the_lock_of_a_feed_with_files_stays(self, lock):
        path = lock("replay-{}-2-0a1b")
        segment = place(path.stem).segment
        segment.touch(0o600)
        try:
            main(["clean"])
            assert path.exists()
        finally:
            segment.unlink()
