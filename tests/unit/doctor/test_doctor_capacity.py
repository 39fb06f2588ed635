"""Capacity for the planned segment: real small file systems, files of cgroups."""

import os
from pathlib import Path

import pytest
from support import own_shm
from support.forks import Fork

from shmfeed.doctor.capacity import (
    PlannedSegment,
    check_memory,
    check_mount,
    check_processes,
    check_space,
    plan_segment,
)
from shmfeed.doctor.cgroup import MEMORY, PIDS, in_container, tightest_limit
from shmfeed.layout import Geometry
from shmfeed.segment.mapping import place
from shmfeed.settings.model import Settings
from shmfeed.text import MIB, mebibytes
from shmfeed.writer import create

UNLIMITED = 9_223_372_036_854_771_712  # as cgroup v1 writes it
PLANNED = PlannedSegment("f", Geometry(16, 1000, 250), 4 * MIB)


@pytest.fixture
def host(tmp_path):
    """Write the files of a /proc and a /sys/fs/cgroup; return both directories."""

    def write(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path / "proc", tmp_path / "cgroup"

    return write


def v2(most, used, inactive=0, path="/"):
    at = f"cgroup{path.rstrip('/')}"
    return {
        "proc/self/cgroup": f"0::{path}\n",
        f"{at}/memory.max": f"{most}\n",
        f"{at}/memory.current": f"{used}\n",
        f"{at}/memory.stat": f"anon 5\ninactive_file {inactive}\n",
    }


def v1(most, used, inactive=0):
    return {
        "proc/self/cgroup": "5:memory:/docker/abc\n1:name=systemd:/x\n0::/\n",
        "cgroup/memory/memory.limit_in_bytes": f"{most}\n",
        "cgroup/memory/memory.usage_in_bytes": f"{used}\n",
        "cgroup/memory/memory.stat": f"x 1\ntotal_inactive_file {inactive}\n",
    }


class TestPlannedSegment:
    def test_it_is_the_segment_that_a_feeder_creates(self, feed_name):
        settings = Settings(feed=feed_name, symbols="A,B", resolutions="1m", history=20)
        planned = plan_segment(settings)
        with create(feed_name, 20, None, settings.planned_streams) as writer:
            writer.close()
        assert place(feed_name).segment.stat().st_size == planned.geometry.size
        needed = planned.new_bytes
        assert needed == planned.geometry.needed_bytes < planned.geometry.size
        assert f"{mebibytes(needed)} MiB, 16 streams of 20 bars" in planned.description
        assert plan_segment(settings).new_bytes == 0
        assert "exists already" in plan_segment(settings).description
        larger = plan_segment(Settings(feed=feed_name, history=21))
        assert larger.new_bytes == larger.geometry.needed_bytes

    def test_a_larger_segment_is_reused_unless_max_streams_is_set(self, feed_name):
        create(feed_name, 20, None, 40).close()
        assert plan_segment(Settings(feed=feed_name, history=20)).new_bytes == 0
        fewer = Settings(feed=feed_name, history=20, max_streams=39)
        assert plan_segment(fewer).new_bytes > 0

    def test_a_segment_that_cannot_be_opened_is_not_reused(self, feed_name):
        place(feed_name).segment.symlink_to("/etc/passwd")
        assert plan_segment(Settings(feed=feed_name)).new_bytes > 0


class TestMemory:
    @pytest.mark.parametrize("files", [v1, v2])
    @pytest.mark.parametrize(
        ("most", "used", "inactive", "level"),
        [
            (64 * MIB, 62 * MIB, 0, "problem"),
            (64 * MIB, 60 * MIB, 0, "ok"),
            (64 * MIB, 64 * MIB, 8 * MIB, "ok"),  # page cache is reclaimable
            (64 * MIB, 70 * MIB, 0, "problem"),
        ],
    )
    def test_the_limit_of_a_container(self, host, files, most, used, inactive, level):
        found = check_memory(PLANNED, *host(files(most, used, inactive)))
        assert found.level == level
        assert "of 64.00 MiB used (" in found.found
        if level == "problem":
            assert "which counts towards the limit" in found.found
            assert "--memory" in found.remedy

    @pytest.mark.parametrize("files", [v1(UNLIMITED, 5), v2("max", 5), {}])
    def test_a_container_without_a_limit_is_fine(self, host, files):
        found = check_memory(PLANNED, *host(files))
        assert (found.level, found.found) == ("ok", "no limit of a container")

    def test_the_tightest_of_nested_groups_counts(self, host):
        files = v2(1000, 10, path="/a/b")
        files |= {"cgroup/a/memory.max": "500\n", "cgroup/a/memory.current": "400\n"}
        limit = tightest_limit(MEMORY, *host(files))
        assert (limit.maximum, limit.free) == (500, 100)

    def test_a_path_of_the_host_that_is_not_mounted_here_does_not_hide_the_limit(
        self, host
    ):
        files = v2(1000, 10) | {"proc/self/cgroup": "0::/kubepods/pod1/../../x\n"}
        assert tightest_limit(MEMORY, *host(files)).maximum == 1000

    @pytest.mark.parametrize("text", ["", "-5", "x", "9" * 5000, "\u0661"])
    def test_an_unreadable_limit_is_ignored(self, host, text):
        assert tightest_limit(MEMORY, *host(v2(text, 10))) is None

    def test_the_memory_of_the_machine(self, host):
        files = {"proc/meminfo": "MemTotal: 9 kB\nMemAvailable:  2048 kB\n"}
        found = check_memory(PLANNED, *host(files))
        assert found.level == "problem"
        assert "the machine has 2.00 MiB available" in found.found

    def test_this_machine_has_memory_available(self):
        assert "available" in check_memory(PLANNED).found


class TestProcesses:
    @pytest.mark.parametrize(("most", "level"), [(100, "problem"), (200, "ok")])
    @pytest.mark.parametrize("version", [1, 2])
    def test_the_limit_of_a_container(self, host, most, level, version):
        group = "3:pids:/\n" if version == 1 else "0::/\n"
        at = "cgroup/pids" if version == 1 else "cgroup"
        files = {f"{at}/pids.max": f"{most}\n", f"{at}/pids.current": "90\n"}
        found = check_processes(*host({"proc/self/cgroup": group, **files}))
        assert found.level == level
        assert f"90 of {most} used" in found.found

    def test_a_container_without_a_limit_is_fine(self, host):
        proc, cgroups = host({"proc/self/cgroup": "0::/\n", "cgroup/pids.max": "max\n"})
        assert check_processes(proc, cgroups).level == "ok"
        assert tightest_limit(PIDS, proc, cgroups) is None


def test_a_container_is_recognized(host, tmp_path):
    proc, _ = host({"proc/self/cgroup": "0::/user.slice\n"})
    assert not in_container(proc, tmp_path)
    assert in_container(*reversed([tmp_path, host(v1(1, 1))[0]]))
    (tmp_path / ".dockerenv").touch()
    host({"proc/self/cgroup": "0::/user.slice\n"})
    assert in_container(proc, tmp_path)


def mount_as_nobody():
    if not os.geteuid():
        os.setuid(65534)  # root may write everywhere
    found = check_mount(Path())
    return found.level, found.found


class TestMount:
    def test_a_file_system_on_a_disk_is_a_note(self, tmp_path):
        mounts = tmp_path / "mountinfo"
        mounts.write_text(
            f"1 0 8:1 / / rw - ext4 x rw\n2 1 0:9 / {tmp_path} rw - xfs x rw\n"
        )
        found = check_mount(tmp_path, mounts)
        assert found.level == "note"
        assert "is xfs, not tmpfs" in found.found
        mounts.write_text(f"2 1 0:9 / {tmp_path} rw shared:1 - tmpfs x rw\n")
        assert check_mount(tmp_path, mounts).level == "ok"
        assert check_mount(tmp_path / ".", tmp_path / "none").level == "ok"

    def test_a_directory_that_cannot_be_written_is_a_problem(
        self, tmp_path, monkeypatch
    ):
        tmp_path.chmod(0o555)
        monkeypatch.chdir(tmp_path)
        with Fork(mount_as_nobody) as child:
            level, found = child.result()
        assert level == "problem"
        assert "cannot write to it" in found
        assert "its mode is 0555" in found


SMALL = """
import contextlib, io
from shmfeed.cli.main import main
def doctor(*arguments):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main(["doctor", "--json", *arguments])
    found = {one["check"]: one for one in json.loads(out.getvalue())["findings"]}
    return [code, found]
tell(doctor())
tell(doctor("--history", "20", "--max-streams", "1"))
tell(doctor("--history", "200", "--max-streams", "1"))
open("/dev/shm/filler", "w").close()
tell(doctor("--history", "20", "--max-streams", "1"))
"""


def test_a_shared_memory_too_small_for_the_segment_is_a_problem(child, feed_name):
    options = "size=512k,nr_inodes=5"
    first, small, medium, files = own_shm.run(child, feed_name, options, SMALL)
    space = first[1]["space in /dev/shm"]
    assert first[0] == 1
    assert space["level"] == "problem"
    assert (
        "0.50 MiB of 0.50 MiB free; feed 'default' takes 4.29 MiB, 16 streams"
        in (space["found"])
    )
    assert "enlarge it: " in space["remedy"]
    assert small[1]["space in /dev/shm"]["level"] == "ok"
    assert medium[1]["space in /dev/shm"]["level"] == "note"
    assert small[1]["inodes in /dev/shm"]["level"] == "ok"
    assert files[1]["inodes in /dev/shm"]["level"] == "problem"
    assert "nr_inodes" in files[1]["inodes in /dev/shm"]["remedy"]
    assert files[0] == 1


REMEDY = """
REMOUNT = 32
from pathlib import Path
from shmfeed.doctor.capacity import check_inodes
shm = Path("/dev/shm")
for number in range(10_800):
    (shm / str(number)).touch()
found = check_inodes(shm)
option = found.remedy.partition("remount,")[2].split()[0]
libc.mount(b"tmpfs", b"/dev/shm", b"tmpfs", REMOUNT, option.encode())
tell([found.level, check_inodes(shm).level])
"""


def test_the_remedy_for_inodes_helps_where_there_are_many_files(child, feed_name):
    assert own_shm.run(child, feed_name, "nr_inodes=10802", REMEDY) == [
        ["problem", "ok"]
    ]


def test_the_remedy_for_space_depends_on_the_container():
    shared = place("any").segment.parent
    planned = PlannedSegment("f", Geometry(1, 1, 16), 1 << 60)
    remedy = check_space(shared, planned, container=True).remedy
    assert "docker run --shm-size=" in remedy
    assert "emptyDir with medium: Memory at /dev/shm" in remedy
    remedy = check_space(shared, planned, container=False).remedy
    assert "mount -o remount,size=" in remedy
