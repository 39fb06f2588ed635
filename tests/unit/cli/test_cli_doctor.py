"""`shmfeed doctor`: its text, its JSON and its exit codes, on any system."""

import json
from pathlib import Path

import pytest
from support import own_shm, reduced_platform
from support.forks import Fork

from shmfeed.cli.doctor import format_findings
from shmfeed.cli.main import main
from shmfeed.doctor.finding import note, ok, problem

pytest_plugins = ["support.command_process"]
pytestmark = pytest.mark.usefixtures("no_settings")

CANARY = "s3cr3t-canary"


@pytest.fixture
def doctor(capsys):
    """Run it with --json; return exit code and findings by check."""

    def run(*arguments):
        code = main(["doctor", "--json", *arguments])
        output, errors = capsys.readouterr()
        assert errors == ""
        found = json.loads(output)
        assert found["ok"] == (code == 0)
        levels = [one["level"] for one in found["findings"]]
        assert found["ok"] == ("problem" not in levels)
        return code, {one["check"]: one for one in found["findings"]}

    return run


def test_every_check_has_a_finding(doctor, feed_name) -> None:
    _, found = doctor("--feed", feed_name)
    assert found.keys() >= {
        *("platform", "core", "clock", "open files", "python", "numpy", "msgspec"),
        *("module websocket", "environment", "space in /dev/shm", "inodes in /dev/shm"),
        *("memory", "processes", "feeds", "leftovers", "deleted segments"),
        "user session",
    }
    for one in found.values():
        assert one.keys() == {"check", "level", "found", "remedy"}
        assert one["level"] in ("ok", "note", "problem")
        assert one["level"] == "ok" or one["remedy"] or "did you mean" in one["found"]


def test_the_options_plan_the_segment(doctor, feed_name) -> None:
    _, found = doctor(
        *("--feed", feed_name, "--symbols", "A,B", "--resolutions", "1m,1h"),
        *("--history", "200"),
    )
    assert (
        f"feed '{feed_name}' takes 1.01 MiB, 16 streams of 200 bars"
        in (found["space in /dev/shm"]["found"])
    )


def test_a_segment_that_is_too_large_is_exit_1(doctor, feed_name) -> None:
    code, found = doctor("--feed", feed_name, "--history", "10000000")
    assert code == 1
    assert found["space in /dev/shm"]["level"] == "problem"
    assert "lower history or max_streams" in found["space in /dev/shm"]["remedy"]


def test_the_environment_and_the_file_are_checked(
    doctor, feed_name, tmp_path, monkeypatch
) -> None:
    file = tmp_path / "feed.toml"
    file.write_text(f'history = 300\ncsrf_token = "{CANARY}"\nfeed = "{feed_name}"')
    file.chmod(0o600)
    monkeypatch.setenv("SHMFEED_MAX_STREAMS", "3")
    monkeypatch.setenv("SHMFEED_GUARD", "lots")
    code, found = doctor("--config", str(file))
    assert code == 1
    assert "3 streams of 300 bars" in found["space in /dev/shm"]["found"]
    assert "guard 'lots' is not accepted" in found["environment SHMFEED_GUARD"]["found"]
    assert found[f"config file {file}"]["level"] == "ok"
    assert CANARY not in json.dumps(found)
    file.chmod(0o644)
    assert doctor("--config", str(file))[1][f"config file {file}"]["level"] == "problem"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", "histroy = 5", "'history'"),
        ("a.toml", "history = 0", "history 0 is not accepted"),
        ("a.json", "[", "is not well-formed json"),
        ("none.json", None, "No such file"),
    ],
)
def test_refused_settings_are_a_problem(doctor, tmp_path, name, text, message) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    code, found = doctor("--config", str(path))
    assert code == 1
    assert found["settings"]["level"] == "problem"
    assert message in found["settings"]["found"]
    assert "16 streams of 1000 bars" in found["space in /dev/shm"]["found"]


def test_settings_that_conflict_are_a_problem(doctor) -> None:
    code, found = doctor("--endpoint", "ws://example.com")
    assert code == 1
    assert "would send plain text" in found["settings"]["found"]


def test_a_refused_option_is_exit_2(capsys) -> None:
    assert main(["doctor", "--history", "x"]) == 2
    assert "history 'x' is not accepted" in capsys.readouterr().err


def test_findings_are_lines_of_printable_characters() -> None:
    text = format_findings(
        [ok("a", "b"), note("c", "\x1b[31m"), problem("e", "f\n", "g")]
    )
    assert text.splitlines() == [
        "ok      a: b",
        r"note    c: \x1b[31m",
        r"PROBLEM e: f\n",
        "        -> g",
        "",
        "1 problem, 1 note, 1 ok",
    ]
    assert format_findings([ok("a", "b")]).splitlines()[-1] == (
        "0 problems, 0 notes, 1 ok"
    )


NO_SHARED_MEMORY = """
import contextlib, io, pathlib, shutil
import shmfeed.segment.platform as segment
from shmfeed.cli.main import main
segment.SHARED_MEMORY = pathlib.Path("/dev/shm/none")
out = io.StringIO()
with contextlib.redirect_stdout(out):
    commands = ["doctor", "--json"], ["ls"], ["clean"], ["status"]
    codes = [main(arguments) for arguments in commands]
tell([codes, json.loads(out.getvalue())])
"""


def test_a_missing_shared_memory_is_reported(child, feed_name) -> None:
    ((codes, found),) = own_shm.run(child, feed_name, "size=64k", NO_SHARED_MEMORY)
    assert codes == [1, 1, 1, 1]
    levels = {one["check"]: one["level"] for one in found["findings"]}
    assert levels["platform"] == "problem"
    assert levels["feeds"] == levels["permissions"] == "note"
    assert levels["numpy"] == "ok"


READ_ONLY_COMMANDS = """
import contextlib, io, socket
from shmfeed.cli.main import main
from shmfeed.segment.mapping import place
def files():
    found = []
    for folder, folders, files in os.walk("/dev/shm"):
        for one in folders + files:
            it = os.lstat(os.path.join(folder, one))
            found.append([it.st_ino, it.st_mode, it.st_mtime_ns, it.st_size])
    return sorted(found)
def look():
    before = files()
    with contextlib.redirect_stdout(io.StringIO()):
        for arguments in (["doctor"], ["ls"], ["clean", "--dry-run"]):
            main(arguments)
    return before == files()
tell(look())
place("unfinished").segment.touch(0o600)
tell(look())
import shmfeed
shmfeed.create("left", 16, 16, 1).close()
held = shmfeed.create("held", 16, 16, 1)
with socket.socket(socket.AF_UNIX) as one:
    one.bind(str(place("left").socket))
tell(look())
place("held").lock.unlink()
tell(look())
before = files()
with contextlib.redirect_stdout(io.StringIO()):
    main(["clean", "--force"])
tell(before == files())
"""


def test_commands_that_read_change_nothing(child, feed_name) -> None:
    *unchanged, cleaned = own_shm.run(child, feed_name, "size=4m", READ_ONLY_COMMANDS)
    assert unchanged == [True] * 4
    assert not cleaned  # control: a change is seen


REDUCED_SYSTEMS = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from support import reduced_platform
import multiprocessing, msgspec, numpy, websocket, yaml
import argparse, contextlib, io, random, shutil, traceback, warnings  # as there
warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside BLAS's threads
fork, wait = os.fork, os.waitpid

def run(*arguments):
    from shmfeed.cli.main import main
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            return [main([*arguments]), out.getvalue(), err.getvalue()]
    except BaseException:
        return [traceback.format_exc(), "", ""]

for name, parts in json.loads(sys.argv[2]).items():
    sys.stdout.flush()
    pid = fork()
    if not pid:
        reduced_platform.remove(parts)
        # Never a real `clean`, which would remove the feeds of the user who runs this.
        clean = "clean", "--dry-run"
        found = [run("doctor", "--json"), run("ls"), run(*clean), run("status")]
        print(json.dumps([name, reduced_platform.missing(parts) == parts, found]))
        sys.stdout.flush()
        os._exit(0)
    wait(pid, 0)
"""


def test_a_system_that_lacks_something(child) -> None:
    parts = reduced_platform.PARTS
    cases = {name: [name] for name in parts} | {"all": [*parts]}
    folder = Path(__file__).parents[2]
    process = child(REDUCED_SYSTEMS, folder, json.dumps(cases))
    output, errors = process.communicate(timeout=150)
    assert (process.returncode, errors) == (0, "")
    results = [json.loads(line) for line in output.splitlines()]
    assert [name for name, _, _ in results] == [*cases]
    for name, missing, (doctor, *others) in results:
        assert missing, name
        assert doctor[0] in (0, 1), (name, doctor)
        findings = {one["check"]: one for one in json.loads(doctor[1])["findings"]}
        assert findings.keys() >= {"platform", "core", "clock", "numpy"}, name
        refused = findings["platform"]["level"] == "problem"
        assert doctor[0] == 1 if refused else True
        for code, _, errors in others:
            assert code in ((1,) if refused else (0, 1, 2)), (name, code)
            assert errors.count("\n") <= 1, (name, errors)
    assert {name for name, _, found in results if "live feeds need" in found[0][1]} >= {
        *(
            "fcntl",
            "posixshmem",
            "O_NOFOLLOW",
            "fchmod",
            "boottime",
            "shared memory",
            "all",
        ),
        *("users' numbers", "other cpu"),
    }


def as_another_user() -> int:
    import os

    if not os.geteuid():
        os.setuid(65534)
    return main(["doctor", "--json"])


def test_a_user_without_feeds(capfd) -> None:
    with Fork(as_another_user) as child:
        assert child.result() in (0, 1)
    assert json.loads(capfd.readouterr().out)["findings"]
