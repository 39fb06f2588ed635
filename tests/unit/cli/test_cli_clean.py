"""`shmfeed clean`: removed files, files that stay, and races with feeders."""

import json
import os
import socket

import pytest
from support import own_shm
from support.forks import Fork, board
from support.waiting import until

from shmfeed.cli.main import main
from shmfeed.errors import ShmfeedError
from shmfeed.segment.mapping import place
from shmfeed.segment.removal import leftovers
from shmfeed.writer import create

pytest_plugins = ["support.command_process"]
pytestmark = pytest.mark.usefixtures("no_settings")


@pytest.fixture
def clean(capsys, feed_name):
    """Run `clean --feed` on this test's feed; return exit code and output."""

    def run(*arguments):
        code = main(["clean", "--feed", feed_name, *arguments])
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
        code = main(["clean", "--json", *arguments])
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
    main(["clean"])
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
