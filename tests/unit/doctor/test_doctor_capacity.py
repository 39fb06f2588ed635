"""Room for the plan: real small file systems, and the files of control groups."""

import os
from pathlib import Path

import pytest
from support import own_shm
from support.forks import Fork

from shmfeed.doctor.capacity import Plan, check_memory, check_mount, check_pids, plan_of
from shmfeed.doctor.cgroup import MEMORY, PIDS, in_container, tightest
from shmfeed.layout import Geometry
from shmfeed.segment.mapping import place
from shmfeed.settings.model import Settings
from shmfeed.writer import create

MIB = 1 << 20
BIG = 9_223_372_036_854_771_712  # what version 1 says for no limit
PLAN = Plan("f", Geometry(16, 1000, 250), 4 * MIB)


@pytest.fixture
def host(tmp_path):
    """Writes files of a /proc and a /sys/fs/cgroup: their two directories."""

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


class TestPlan:
    def test_it_is_the_segment_that_a_feeder_makes(self, feed_name):
        settings = Settings(feed=feed_name, symbols="A,B", resolutions="1m", history=20)
        plan = plan_of(settings)
        with create(feed_name, 20, None, settings.planned_streams) as writer:
            writer.close()
        size = place(feed_name).segment.stat().st_size
        assert plan.need == plan.geometry.size == size
        assert f"{size / MIB:,.2f} MiB, 16 streams of 20 bars" in plan.words
        assert plan_of(settings).need == 0  # it is there already
        assert "is there already" in plan_of(settings).words
        larger = Settings(feed=feed_name, history=21)
        assert plan_of(larger).need == plan_of(larger).geometry.size

    def test_room_that_is_there_serves_where_nobody_says_how_much(self, feed_name):
        create(feed_name, 20, None, 40).close()
        assert plan_of(Settings(feed=feed_name, history=20)).need == 0
        assert plan_of(Settings(feed=feed_name, history=20, max_streams=39)).need > 0

    def test_what_is_there_and_broken_counts_for_nothing(self, feed_name):
        place(feed_name).segment.symlink_to("/etc/passwd")
        assert plan_of(Settings(feed=feed_name)).need > 0


class TestMemory:
    @pytest.mark.parametrize("files", [v1, v2])
    @pytest.mark.parametrize(
        ("most", "used", "inactive", "level"),
        [
            (64 * MIB, 62 * MIB, 0, "problem"),
            (64 * MIB, 60 * MIB, 0, "ok"),
            (64 * MIB, 64 * MIB, 8 * MIB, "ok"),  # page cache is given back
            (64 * MIB, 70 * MIB, 0, "problem"),
        ],
    )
    def test_a_container_s_limit(self, host, files, most, used, inactive, level):
        found = check_memory(PLAN, *host(files(most, used, inactive)))
        assert found.level == level
        assert "of 64.00 MiB used (" in found.found
        if level == "problem":
            assert "whose pages count" in found.found
            assert "--memory" in found.remedy

    @pytest.mark.parametrize("files", [v1(BIG, 5), v2("max", 5), {}])
    def test_no_limit(self, host, files):
        found = check_memory(PLAN, *host(files))
        assert (found.level, found.found) == ("ok", "no limit of a container")

    def test_the_tightest_of_nested_groups(self, host):
        files = v2(1000, 10, path="/a/b")
        files |= {"cgroup/a/memory.max": "500\n", "cgroup/a/memory.current": "400\n"}
        limit = tightest(MEMORY, *host(files))
        assert (limit.most, limit.free) == (500, 100)

    def test_a_path_that_is_the_host_s(self, host):
        files = v2(1000, 10) | {"proc/self/cgroup": "0::/kubepods/pod1/../../x\n"}
        assert tightest(MEMORY, *host(files)).most == 1000

    @pytest.mark.parametrize("text", ["", "-5", "x", "9" * 5000, "\u0661"])
    def test_rubbish_is_no_limit(self, host, text):
        assert tightest(MEMORY, *host(v2(text, 10))) is None

    def test_the_machine_itself(self, host):
        files = {"proc/meminfo": "MemTotal: 9 kB\nMemAvailable:  2048 kB\n"}
        found = check_memory(PLAN, *host(files))
        assert found.level == "problem"
        assert "the machine has 2.00 MiB available" in found.found

    def test_here(self):
        assert "available" in check_memory(PLAN).found


class TestProcesses:
    @pytest.mark.parametrize(("most", "level"), [(100, "problem"), (200, "ok")])
    @pytest.mark.parametrize("version", [1, 2])
    def test_a_container_s_limit(self, host, most, level, version):
        group = "3:pids:/\n" if version == 1 else "0::/\n"
        at = "cgroup/pids" if version == 1 else "cgroup"
        files = {f"{at}/pids.max": f"{most}\n", f"{at}/pids.current": "90\n"}
        found = check_pids(*host({"proc/self/cgroup": group, **files}))
        assert found.level == level
        assert f"90 of {most} used" in found.found

    def test_none(self, host):
        proc, cgroups = host({"proc/self/cgroup": "0::/\n", "cgroup/pids.max": "max\n"})
        assert check_pids(proc, cgroups).level == "ok"
        assert tightest(PIDS, proc, cgroups) is None


def test_signs_of_a_container(host, tmp_path):
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
    def test_a_disk_in_its_place(self, tmp_path):
        mounts = tmp_path / "mountinfo"
        mounts.write_text(
            f"1 0 8:1 / / rw - ext4 x rw\n2 1 0:9 / {tmp_path} rw - xfs x rw\n"
        )
        found = check_mount(tmp_path, mounts)
        assert found.level == "note"
        assert "is xfs" in found.found
        mounts.write_text(f"2 1 0:9 / {tmp_path} rw shared:1 - tmpfs x rw\n")
        assert check_mount(tmp_path, mounts).level == "ok"
        assert check_mount(tmp_path / ".", tmp_path / "none").level == "ok"

    def test_not_to_be_written(self, tmp_path, monkeypatch):
        tmp_path.chmod(0o555)
        monkeypatch.chdir(tmp_path)
        with Fork(mount_as_nobody) as child:
            level, found = child.result()
        assert level == "problem"
        assert "may not be written by user" in found
        assert "its mode is 0555" in found


SMALL = """
import contextlib, io
from shmfeed.cli.main import main
def doctor(*words):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main(["doctor", "--json", *words])
    found = {one["check"]: one for one in json.loads(out.getvalue())["findings"]}
    return [code, found]
tell(doctor())
tell(doctor("--history", "20", "--max-streams", "1"))
tell(doctor("--history", "200", "--max-streams", "1"))
open("/dev/shm/filler", "w").close()
tell(doctor("--history", "20", "--max-streams", "1"))
"""


def test_a_small_shared_memory(child, feed_name):
    options = "size=512k,nr_inodes=5"
    first, small, medium, files = own_shm.run(child, feed_name, options, SMALL)
    room = first[1]["room in /dev/shm"]
    assert first[0] == 1
    assert room["level"] == "problem"
    assert (
        "0.50 MiB of 0.50 MiB free; feed 'default' takes 4.13 MiB, 16 streams"
        in (room["found"])
    )
    assert "enlarge it: " in room["remedy"]
    assert small[1]["room in /dev/shm"]["level"] == "ok"
    assert medium[1]["room in /dev/shm"]["level"] == "note"
    assert small[1]["files in /dev/shm"]["level"] == "ok"
    assert files[1]["files in /dev/shm"]["level"] == "problem"
    assert "nr_inodes" in files[1]["files in /dev/shm"]["remedy"]
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


def test_its_remedy_for_files_helps_where_there_are_many(child, feed_name):
    assert own_shm.run(child, feed_name, "nr_inodes=10802", REMEDY) == [
        ["problem", "ok"]
    ]


def test_its_remedy_in_a_container():
    from shmfeed.doctor.capacity import check_space

    shared = place("any").segment.parent
    plan = Plan("f", Geometry(1, 1, 16), 1 << 60)
    remedy = check_space(shared, plan, container=True).remedy
    assert "docker run --shm-size=" in remedy
    assert "emptyDir with medium: Memory at /dev/shm" in remedy
    assert "mount -o remount,size=" in check_space(shared, plan, container=False).remedy
