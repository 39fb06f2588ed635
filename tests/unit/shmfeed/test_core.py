"""The choice of the core, and the build, the packing and the install of it."""

import inspect
import os
import platform
import runpy
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Callable
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import pytest
from conftest import Child
from support.compiling import NEEDS_BUILD, ROOT, checkout

from shmfeed import core
from shmfeed.errors import UnsupportedPlatformError
from shmfeed.follower import ReattachingReader
from shmfeed.layout import VERSION
from shmfeed.memory.bound_entry import BoundEntry
from shmfeed.memory.futex import futex_load, futex_spin, futex_wait, futex_wait_any
from shmfeed.memory.rows import Rows, Slice
from shmfeed.memory.wakeup import Eventcount, sleep_past, sleep_past_any, spin_past
from shmfeed.ringbuf import RingReader, RingWriter

SO = EXTENSION_SUFFIXES[0]

ASK = "from shmfeed import core; print(core.build, core.WHY, sep='|')"
# A look-alike in the place of the extension.
DOUBLE = """
import sys, types
from shmfeed import layout
double = types.ModuleType("shmfeed._ringbuf")
double.LAYOUT = {"VERSION": layout.VERSION, "COLUMNS": len(layout.COLUMNS)} | %s
for name in ("Rows", "Slice", "RingReader", "RingWriter", "ReattachingReader"):
    setattr(double, name, type(name, (), {}))
double.fence = double.read_cut = double.kept_bytes = lambda: None
double.limit_kept = lambda limit: None
double.read_list = double.fence
sys.modules[double.__name__] = double
"""
OLD = DOUBLE % {} + "del double.fence\n"  # of sources of the same layout
ABSENT = "import sys; sys.modules['shmfeed._ringbuf'] = None\n"
BROKEN = """
import importlib.abc, sys
class Broken(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "shmfeed._ringbuf":
            raise ImportError("undefined symbol: moon", name=name)
sys.meta_path.insert(0, Broken())
"""


def asked(child: Child, code: str, **environ: str) -> list[str]:
    process = child(code, env=os.environ | {"SHMFEED_PURE": ""} | environ)
    said, complaint = process.communicate()
    assert process.returncode == 0, complaint
    return said.strip().split("|")


class TestWhichServes:
    @pytest.mark.parametrize("word", ["1", " Yes "])
    def test_the_variable_asks_for_pure_python(self, child, word) -> None:
        why = "SHMFEED_PURE asks for it"
        assert asked(child, DOUBLE % {} + ASK, SHMFEED_PURE=word) == [
            "pure Python",
            why,
        ]

    @pytest.mark.parametrize("word", ["", "0", "No"])
    def test_c_is_the_choice_where_it_was_built(self, child, word) -> None:
        code = DOUBLE % {} + ASK + "; assert core.Rows is double.Rows"
        assert asked(child, code, SHMFEED_PURE=word) == ["C", ""]

    def test_another_value_of_the_variable_is_refused(self, child) -> None:
        process = child(ASK, env=os.environ | {"SHMFEED_PURE": "maybe"})
        complaint = process.communicate()[1]
        assert "BadArgumentError: SHMFEED_PURE is 'maybe'; it must be one" in complaint

    def test_another_value_of_the_variable_ends_a_command(self) -> None:
        command = [sys.executable, "-m", "shmfeed", "doctor"]
        environ = os.environ | {"SHMFEED_PURE": "maybe"}
        done = subprocess.run(command, env=environ, capture_output=True, text=True)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        assert "SHMFEED_PURE is 'maybe'" in done.stderr

    @pytest.mark.parametrize(
        ("double", "why"),
        [
            (ABSENT, "the C core was not built"),
            (BROKEN, "the C core cannot be loaded: undefined symbol: moon"),
            (DOUBLE % {"VERSION": 0}, "the C core was built for another layout"),
            (DOUBLE % {"GONE": 1}, "the C core was built for another layout"),
            (DOUBLE % {"COLUMNS": 8}, "the C core was built for another layout"),
            (OLD, "the C core was built from other sources: it lacks fence"),
        ],
        ids=["absent", "broken", "stale", "a constant went", "a column came", "old"],
    )
    def test_pure_python_where_c_cannot_be_loaded(self, child, double, why) -> None:
        assert asked(child, double + ASK) == ["pure Python", why]


def test_the_core_here_was_built_from_these_sources() -> None:
    """Otherwise these tests test another core; `make` builds it again."""
    if core.build != "C":
        pytest.skip(f"pure Python is in use: {core.WHY}")
    sources = [ROOT / "shmfeed/layout.py", *(ROOT / "shmfeed").rglob("*.[ch]")]
    made = Path(core.extension.__file__).stat().st_mtime
    newer = [path.name for path in sources if path.stat().st_mtime > made]
    assert newer == [], "not built since they changed: run make"


def signature_of(member: Callable[..., object]) -> list[tuple[str, object, str]]:
    """Return names, kinds and defaults; an extension has no annotations."""
    found = inspect.signature(member).parameters.values()
    return [(one.name, one.kind, repr(one.default)) for one in found]


def documented(owner: type) -> set[str]:
    """Return the public members that `owner` defines, and those of the package."""
    internal = {"_current_reader", "_detach", "_find", "_last_reader"}
    inherited = vars(BoundEntry).keys() if issubclass(owner, BoundEntry) else ()
    names = {*vars(owner), *inherited} - {"checked_word", "retry_budget"}
    return {name for name in names if name[0] != "_" or name in internal}


CLASSES = (RingReader, RingWriter, ReattachingReader, Rows, Slice, Eventcount)
MEMBERS = [(one, name) for one in CLASSES for name in sorted(documented(one))]


@pytest.mark.skipif(core.build != "C", reason="pure Python serves")
class TestHelp:
    @pytest.mark.parametrize(
        ("pure", "name"), MEMBERS, ids=[f"{o.__name__}.{n}" for o, n in MEMBERS]
    )
    def test_a_member_reads_the_same_on_both_cores(self, pure, name) -> None:
        ours, theirs = getattr(pure, name), getattr(served(pure), name)
        assert inspect.getdoc(theirs) == inspect.getdoc(ours)
        assert callable(theirs) == callable(ours)
        if callable(ours):
            # C's self is positional alone.
            assert signature_of(theirs)[1:] == signature_of(ours)[1:]
            assert inspect.getdoc(ours)

    @pytest.mark.parametrize("pure", CLASSES)
    def test_a_class_has_the_same_members_and_text(self, pure) -> None:
        theirs = served(pure)
        extra = {"block"} if pure is Slice else set()  # C refuses it by a property
        assert documented(theirs) - extra == documented(pure)
        assert inspect.getdoc(theirs) == inspect.getdoc(pure)
        if pure not in {Rows, Slice}:  # the core alone makes those
            assert signature_of(theirs) == signature_of(pure)

    @pytest.mark.parametrize(
        "pure",
        [
            *[futex_load, futex_spin, futex_wait, futex_wait_any],
            *[spin_past, sleep_past, sleep_past_any],
        ],
    )
    def test_a_function_reads_the_same_on_both_cores(self, pure) -> None:
        theirs = served(pure)
        assert inspect.getdoc(theirs) == inspect.getdoc(pure)
        assert signature_of(theirs) == signature_of(pure)

    def test_the_build_writes_any_text_as_a_literal_of_c(self) -> None:
        literal = runpy.run_path(str(ROOT / "setup.py"))["literal"]
        assert literal('a "b\\c"??/\n') == r'"a \"b\\c\"?\?/\n"'


def served(pure: Any) -> Any:
    """Return the twin in C of a class or function; skip the test without one."""
    if not hasattr(core.extension, pure.__name__):
        pytest.skip("the eventcount has a twin on Linux alone")
    return getattr(core.extension, pure.__name__)


class TestMemoryOrder:
    @pytest.mark.parametrize("machine", ["x86_64", "AMD64"])
    @pytest.mark.parametrize("build", ["C", "pure Python"])
    def test_total_store_order_is_enough(self, monkeypatch, machine, build) -> None:
        monkeypatch.setattr(platform, "machine", lambda: machine)
        monkeypatch.setattr(core, "build", build)
        core.check_memory_order()

    @pytest.mark.parametrize("machine", ["aarch64", "arm64", "ppc64le", ""])
    def test_other_cpus_need_c_and_pure_python_is_refused(
        self, monkeypatch, machine
    ) -> None:
        monkeypatch.setattr(platform, "machine", lambda: machine)
        monkeypatch.setattr(core, "build", "C")
        core.check_memory_order()
        monkeypatch.setattr(core, "build", "pure Python")
        monkeypatch.setattr(core, "WHY", "the moon is full")
        with pytest.raises(UnsupportedPlatformError, match="no memory fences") as seen:
            core.check_memory_order()
        assert f"on this CPU, {machine!r}" in str(seen.value)
        assert "pure Python is in use: the moon is full" in str(seen.value)
        assert str(seen.value).endswith(core.REMEDY)

    def test_a_32_bit_python_is_refused(self, monkeypatch) -> None:
        monkeypatch.setattr(platform, "machine", lambda: "x86_64")
        monkeypatch.setattr(core, "build", "pure Python")
        core.check_memory_order()
        monkeypatch.setattr("sys.maxsize", (1 << 31) - 1)
        with pytest.raises(UnsupportedPlatformError, match="'x86_64 in 32 bits'"):
            core.check_memory_order()

    @pytest.mark.parametrize(
        ("double", "environ", "remedy"),
        [
            (ABSENT, {}, "install a C compiler"),
            (DOUBLE % {}, {"SHMFEED_PURE": "1"}, "unset SHMFEED_PURE"),
        ],
    )
    def test_the_remedy_fits_the_reason(self, child, double, environ, remedy) -> None:
        code = double + "from shmfeed import core; print(core.REMEDY)"
        assert asked(child, code, **environ)[0].startswith(remedy)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return checkout(tmp_path_factory.mktemp("clean"))


def build_core(source: Path, into: Path, **environ: str) -> subprocess.CompletedProcess:
    places = ["--build-lib", str(into / "lib"), "--build-temp", str(into / "temp")]
    return subprocess.run(
        [sys.executable, "setup.py", "build_ext", *places],
        cwd=source,
        env=os.environ | {"SHMFEED_BUILD_EXTENSION": ""} | environ,
        capture_output=True,
        text=True,
        check=False,
    )


def built(into: Path) -> list[Path]:
    return [*into.rglob("*.so")]


class TestBuild:
    def test_a_failing_compiler_is_reported_and_the_install_goes_on(
        self, source, tmp_path
    ) -> None:
        done = build_core(source, tmp_path, CC="false")
        assert done.returncode == 0, done.stderr
        assert "shmfeed: the C core was not built" in done.stderr
        assert "pure Python is used" in done.stderr
        assert not built(tmp_path)

    def test_with_yes_a_failure_is_an_error(self, source, tmp_path) -> None:
        done = build_core(source, tmp_path, CC="false", SHMFEED_BUILD_EXTENSION="yes")
        assert done.returncode != 0
        assert "the C core cannot be built" in done.stderr
        assert not built(tmp_path)

    def test_a_missing_compiler_is_reported(self, source, tmp_path) -> None:
        environ = {"CC": str(tmp_path / "none"), "SHMFEED_BUILD_EXTENSION": "yes"}
        assert (
            "the C core cannot be built"
            in build_core(source, tmp_path, **environ).stderr
        )
        del environ["SHMFEED_BUILD_EXTENSION"]
        assert build_core(source, tmp_path, **environ).returncode == 0

    def test_missing_headers_of_numpy_are_reported(self, source, tmp_path) -> None:
        (tmp_path / "numpy.py").write_text("raise ImportError('no numpy here')")
        environ = {"PYTHONPATH": str(tmp_path), "SHMFEED_BUILD_EXTENSION": "yes"}
        done = build_core(source, tmp_path, **environ)
        assert done.returncode != 0
        assert "numpy's headers are missing: no numpy here" in done.stderr

    def test_headers_of_an_old_numpy_are_reported(self, source, tmp_path) -> None:
        (tmp_path / "numpy.py").write_text("__version__ = '1.26.4'")
        environ = {"PYTHONPATH": str(tmp_path), "SHMFEED_BUILD_EXTENSION": "yes"}
        done = build_core(source, tmp_path, **environ)
        assert done.returncode != 0
        assert (
            "numpy's headers are those of 1.26.4; build with 2 or later" in done.stderr
        )

    @NEEDS_BUILD
    def test_with_no_the_build_is_skipped(self, source, tmp_path) -> None:
        called = tmp_path / "called"
        compiler = tmp_path / "cc"
        compiler.write_text(f"#!/bin/sh\ntouch {called}\nexit 1\n")
        compiler.chmod(0o755)
        environ = {"CC": str(compiler), "SHMFEED_BUILD_EXTENSION": "no"}
        assert build_core(source, tmp_path, **environ).returncode == 0
        assert not called.exists()
        build_core(source, tmp_path, CC=str(compiler))
        assert called.exists(), "the control: it would be seen"

    @pytest.mark.parametrize(
        "environ", [{"CC": "false"}, {"SHMFEED_BUILD_EXTENSION": "no"}]
    )
    def test_a_failure_removes_an_earlier_build(
        self, source, tmp_path, environ
    ) -> None:
        """It would be packed, or loaded, in place of the new one."""
        suffix = sysconfig.get_config_var("EXT_SUFFIX")
        left = [
            source / folder / f"shmfeed/_ringbuf{suffix}"
            for folder in ("", "build/lib.linux-x86_64")
        ]
        for path in left:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        assert build_core(source, tmp_path, **environ).returncode == 0
        assert [path for path in left if path.exists()] == []

    def test_another_value_is_refused(self, source, tmp_path) -> None:
        done = build_core(source, tmp_path, SHMFEED_BUILD_EXTENSION="maybe")
        assert done.returncode != 0
        assert done.stderr.splitlines()[-1] == (
            "SHMFEED_BUILD_EXTENSION is 'maybe'; it must be yes, no, or unset"
        )


def run(*command: object, **environ: str) -> str:
    """Run a build with these variables and the usual ones; return its result."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd="/",
        env={name: os.environ[name] for name in ("PATH", "HOME")} | environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def pack(kind: str, source: Path, into: Path, **environ: str) -> Path:
    """Build an `sdist` or a `wheel` as an installer would."""
    code = (
        "import os, sys; from setuptools import build_meta; os.chdir(sys.argv[1]);"
        f"print(build_meta.build_{kind}(sys.argv[2]))"
    )
    said = run(sys.executable, "-c", code, source, into, **environ)
    return into / said.splitlines()[-1]


def install(wheel: Path, venv: Path) -> Path:
    """Return the Python of a new environment; its dependencies are this one's."""
    run(sys.executable, "-m", "venv", "--without-pip", venv)
    python = venv / "bin" / "python"
    options = ["--no-deps", "--no-index", "--quiet", "--disable-pip-version-check"]
    run(sys.executable, "-m", "pip", "--python", python, "install", *options, wheel)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = venv / "lib" / version / "site-packages"
    (site / "others.pth").write_text(sysconfig.get_path("purelib"))
    return python


ROUND_TRIP = """
import sys, shmfeed
from shmfeed import core
print(core.__file__.startswith(sys.prefix), core.build)
with shmfeed.create(sys.argv[1], history=8, max_streams=1) as writer:
    ring = writer.add_stream("BTCUSDT", "1s")
    ring.append(1000, 1, 2, 0.5, 1.5, 10)
    with shmfeed.attach(sys.argv[1]) as feed:
        print(*feed.ring("BTCUSDT", "1s").view(8)["close"])
    writer.close(unlink=True)
"""


class TestInstalled:
    @NEEDS_BUILD
    def test_an_sdist_becomes_a_wheel_and_serves_a_feed(
        self, source, tmp_path, feed_name
    ) -> None:
        sdist = pack("sdist", source, tmp_path)
        with tarfile.open(sdist) as archive:
            names = {Path(name).name for name in archive.getnames()}
            archive.extractall(tmp_path, filter="data")
        wanted = {path.name for path in (ROOT / "shmfeed").rglob("*.[ch]")}
        assert "_ringbuf.c" in wanted
        assert wanted <= names
        unpacked = tmp_path / sdist.name.removesuffix(".tar.gz")
        wheel = pack("wheel", unpacked, tmp_path, SHMFEED_BUILD_EXTENSION="yes")
        with zipfile.ZipFile(wheel) as archive:
            inside = archive.namelist()
        assert f"shmfeed/_ringbuf{SO}" in inside
        sources = [name for name in inside if name.endswith((".c", ".h"))]
        assert sources == ["shmfeed/include/shmfeed_layout.h"]
        python = install(wheel, tmp_path / "venv")
        code = "import shmfeed; print(shmfeed.get_include())"
        assert Path(run(python, "-c", code), "shmfeed_layout.h").is_file()
        code = "from shmfeed import _ringbuf; print(_ringbuf.LAYOUT['VERSION'])"
        assert run(python, "-c", code) == str(VERSION)
        assert run(python, "-c", ROUND_TRIP, feed_name) == "True C\n1.5"

    @pytest.mark.parametrize(
        "environ", [{"CC": "false"}, {"SHMFEED_BUILD_EXTENSION": "no"}]
    )
    def test_a_wheel_without_the_extension_says_so_and_serves_a_feed(
        self, source, tmp_path, feed_name, environ
    ) -> None:
        """The tag of a platform would promise C; an install would keep such a wheel."""
        wheel = pack("wheel", source, tmp_path, **environ)
        assert wheel.name.endswith("-py3-none-any.whl")
        with zipfile.ZipFile(wheel) as archive:
            (found,) = (n for n in archive.namelist() if n.endswith("/WHEEL"))
            said = archive.read(found).decode()
            assert not [name for name in archive.namelist() if ".data/" in name]
        assert "Root-Is-Purelib: true\nTag: py3-none-any\n" in said
        python = install(wheel, tmp_path / "venv")
        said = run(python, "-c", ROUND_TRIP, feed_name)
        assert said == "True pure Python\n1.5"
        assert run(python, "-c", ASK) == "pure Python|the C core was not built"
