"""`shmfeed ls` and the listing behind it: readable feeds, unreadable feeds, none."""

import json
import os
import re
import struct

import pytest
from support import own_shm
from support.command_line import append

from shmfeed.accounts import user_name
from shmfeed.cli.main import main
from shmfeed.layout import H_SIZE, READY, VERSION
from shmfeed.listing import feed_row, list_feeds
from shmfeed.segment.mapping import place
from shmfeed.writer import create

pytest_plugins = ["support.command_process"]
pytestmark = pytest.mark.usefixtures("no_settings")

UNREADABLE_SEGMENTS = {
    "empty": (b"", "it is not ready: a feeder is creating it now"),
    "unready": (bytes(8192), "it is not ready: a feeder is creating it now"),
    "a line of text": (
        b"hello",
        "is not a shmfeed segment; it was not changed; move it away, or use another",
    ),
    "foreign": (b"x" * 8192, "is not a shmfeed segment"),
    "other version": (
        struct.pack("=q", READY + 8) + bytes(8184),
        f"has layout version {VERSION + 8}, this shmfeed reads 1 to {VERSION}",
    ),
    "damaged": (struct.pack("=4q", READY, 99, 16, 100) + bytes(8160), "is damaged"),
}


@pytest.fixture
def ls(capsys):
    """Run it; return exit code and output."""

    def run(*arguments):
        code = main(["ls", *arguments])
        output, errors = capsys.readouterr()
        assert errors == ""
        return code, output

    return run


def test_a_feed_is_one_line(ls, cli_ring, cli_writer, feed_name) -> None:
    cli_writer.add_stream("ETHUSDT", "1m")
    code, output = ls("--feed", feed_name)
    head, line = output.splitlines()
    assert code == 0
    assert head.split() == (
        [
            "FEED",
            "HEALTH",
            "STATE",
            "PID",
            "STREAMS",
            "BARS",
            "MIB",
            "LAST",
            "MESSAGE",
            "IDENTITY",
        ]
    )
    size = place(feed_name).segment.stat().st_size
    assert re.fullmatch(
        rf"{feed_name} +waiting +connected +{os.getpid()} +2 +5 +{size / 2**20:.2f}"
        r" +0\.\d s ago +-",
        line,
    )


def test_all_feeds_are_listed(ls, cli_ring, feed_name) -> None:
    code, output = ls()
    assert code == 0
    assert feed_name in output
    code, output = ls("--json")
    rows = {row["feed"]: row for row in json.loads(output)}
    assert rows[feed_name].keys() == {
        *("feed", "health", "state", "pid", "streams", "bars", "bytes"),
        *("last_message_age", "identity", "reason"),
    }
    assert (rows[feed_name]["health"], rows[feed_name]["bars"]) == ("live", 5)
    assert rows[feed_name]["reason"] is None


def test_a_dead_feed_has_no_pid(ls, cli_ring, cli_writer, feed_name) -> None:
    append(cli_ring, 5)
    cli_writer.close()
    code, output = ls("--feed", feed_name)
    assert code == 0
    assert re.search(rf"{feed_name} +dead +disconnected +- +1 +6 ", output)


def test_an_unknown_feed_is_exit_2(feed_name, capsys) -> None:
    assert main(["ls", "--feed", feed_name]) == 2
    assert f"there is no feed {feed_name!r}" in capsys.readouterr().err
    assert main(["ls", "--feed", "a/b"]) == 2
    assert "feed name 'a/b' is not accepted" in capsys.readouterr().err


@pytest.mark.parametrize("kind", UNREADABLE_SEGMENTS)
def test_an_unreadable_segment_is_listed_with_the_reason(ls, feed_name, kind) -> None:
    content, reason = UNREADABLE_SEGMENTS[kind]
    where = place(feed_name)
    where.segment.touch(0o600)
    where.segment.write_bytes(content)
    code, output = ls("--feed", feed_name)
    assert code == 1  # because --feed names it
    line, _, last = output.splitlines()[1:]
    assert line.split()[:3] == [feed_name, "unreadable", "-"]
    assert last.startswith(f"{feed_name}: {reason}")
    code, output = ls("--json")
    assert code == 0
    (row,) = (row for row in json.loads(output) if row["feed"] == feed_name)
    assert row["health"] == "unreadable"
    assert row["bytes"] == len(content)
    assert row["reason"].startswith(reason)


@pytest.mark.parametrize("kind", ["directory", "symlink", "dangling", "fifo", "open"])
def test_a_foreign_file_is_listed_with_the_reason(ls, feed_name, kind) -> None:
    segment = place(feed_name).segment
    make = {
        "directory": segment.mkdir,
        "symlink": lambda: segment.symlink_to("/etc/passwd"),
        "dangling": lambda: segment.symlink_to("/nowhere"),
        "fifo": lambda: os.mkfifo(segment, 0o600),
        "open": lambda: segment.touch(0o644),
    }
    make[kind]()
    row = feed_row(place(feed_name))
    assert row["health"] == "unreadable"
    assert row["reason"].startswith(("is refused: ", "cannot be opened as a segment"))
    assert ls()[0] == 0


def test_a_damaged_entry_is_a_reason(cli_ring, feed_name) -> None:
    where = place(feed_name)
    with where.segment.open("r+b") as file:
        content = file.read()
        file.seek(content.index(b"BTCUSDT") + 48)
        file.write(b"9q\0\0\0\0\0\0")  # an unknown timeframe
    row = feed_row(where)
    assert row["health"] == "unreadable"
    assert row["reason"]


def test_a_feed_that_is_removed_while_listing_is_left_out(
    feed_name, monkeypatch
) -> None:
    where = place(feed_name)
    create(feed_name, max_streams=1, history=16).close()

    monkeypatch.setattr("shmfeed.listing.feeds_with_segment", lambda _: [feed_name])
    where.segment.unlink()
    assert list_feeds() == []


NO_FEEDS = """
import contextlib, io
from shmfeed.cli.main import main
def printed(*arguments):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main([*arguments])
    return code, out.getvalue()
tell(printed("ls"))
tell(printed("ls", "--json"))
open("/dev/shm/shmfeed.%d.b" % uid, "w").close()
open("/dev/shm/shmfeed.%d.a" % uid, "w").close()
open("/dev/shm/shmfeed.%d.not a name" % uid, "w").close()
open("/dev/shm/shmfeed.%d.a" % (uid + 1), "w").close()
open("/dev/shm/other", "w").close()
tell(printed("ls"))
is_given = True
for name in "spot", "not a name", "usdm":
    path = "/dev/shm/shmfeed.%d.%s" % (uid + 1, name)
    open(path, "w").close()
    try:
        os.chown(path, uid + 1, -1)
    except OSError:  # only root can give a file away
        is_given = False
open("/dev/shm/shmfeed.%d.forged" % (uid + 2), "w").close()
for name in "a", "b", "not a name":
    os.unlink("/dev/shm/shmfeed.%d.%s" % (uid, name))
tell(printed("ls"))
tell(printed("ls", "--json"))
tell(printed("ls", "--owner", str(uid + 3)))
from shmfeed.listing import describe_feeds
tell([describe_feeds("usdm"), describe_feeds("usdm", uid + 3)])
tell(is_given)
"""


def test_without_feeds_it_suggests_a_command(child, feed_name) -> None:
    text, plain, two, *others = own_shm.run(child, feed_name, "size=64k", NO_FEEDS)
    assert text[0] == 0
    assert text[1].startswith("no feeds; start one with `shmfeed run --symbols ")
    assert plain == [0, "[]\n"]
    assert [line.split()[0] for line in two[1].splitlines()[1:3]] == ["a", "b"]
    assert len(two[1].splitlines()) == 6
    assert H_SIZE == 1  # as UNREADABLE_SEGMENTS assumes
    listed, as_json, of_nobody, described, is_given = others
    theirs = f"{user_name(1)} (spot, usdm); choose the user by SHMFEED_OWNER"
    clause = f"; other users have feeds: {theirs}" if is_given else ""
    assert listed == [0, text[1].replace("\n", f"{clause}\n")]
    assert (as_json, of_nobody) == (plain, text)
    assert described == [
        f"this user has no feed{clause.replace('spot, usdm', 'usdm')}",
        f"user {os.geteuid() + 3} has no feed",
    ]
