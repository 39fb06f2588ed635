"""The files of a release: what they carry, what their tags promise, how they read."""

import fnmatch
import io
import json
import os
import re
import runpy
import subprocess
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from shmfeed import layout
from shmfeed.observe import charts

ROOT = Path(__file__).parents[3]
ADDRESS = "https://example.org/owner/shmfeed"
LINK = re.compile(r"\]\(([^)\s]+)\)")
EPOCH = 1_700_000_000


@pytest.fixture(autouse=True)
def programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "release")
    monkeypatch.chdir(ROOT)


class TestSdist:
    def test_its_bytes_depend_on_its_files_and_one_time(self, tmp_path) -> None:
        from sdist import normalise

        one, other = tmp_path / "one.tar.gz", tmp_path / "other.tar.gz"
        write_archive(one, ["a/b", "a/c"], time=1, user=0)
        write_archive(other, ["a/c", "a/b"], time=2, user=1000)
        assert one.read_bytes() != other.read_bytes(), "the control: they differ"
        for path in (one, other):
            normalise(path, EPOCH)
        assert one.read_bytes() == other.read_bytes()
        with tarfile.open(one) as packed:
            assert [(m.name, m.mtime, m.uid) for m in packed] == [
                ("a/b", EPOCH, 0),
                ("a/c", EPOCH, 0),
            ]
            assert packed.extractfile("a/c").read() == b"a/c"

    def test_it_has_each_file_of_the_clone(self) -> None:
        done = subprocess.run(
            ["git", "ls-files"], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip("no clone: this is an sdist")
        kinds = packed_kinds((ROOT / "MANIFEST.in").read_text())
        assert "shmfeed/*" in kinds
        # The build backend packs these by itself.
        kinds |= {"LICENSE", "MANIFEST.in", "pyproject.toml", "setup.py"}
        lost = [
            name
            for name in done.stdout.splitlines()
            if not any(fnmatch.fnmatch(name, kind) for kind in kinds)
        ]
        assert lost == []


def write_archive(path: Path, names: list[str], *, time: int, user: int) -> None:
    with tarfile.open(path, "w:gz") as packed:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.uid = len(name), time, user
            packed.addfile(member, io.BytesIO(name.encode()))


def packed_kinds(manifest: str) -> set[str]:
    rules = [line.split() for line in manifest.splitlines()]
    kinds = {f"{rule[1]}/*" for rule in rules if rule[0] == "graft"}
    return kinds.union(*(rule[1:] for rule in rules if rule[0] == "include"))


class TestWheel:
    CORE = "shmfeed/_ringbuf.cpython-312-x86_64-linux-gnu.so"
    TAGGED = "shmfeed-1-cp312-cp312-manylinux2014_x86_64.manylinux_2_17_x86_64.whl"
    FILES = frozenset(("shmfeed/__init__.py", "shmfeed/py.typed"))

    @pytest.mark.parametrize(
        ("name", "core", "fault"),
        [
            (TAGGED, None, "has not the C core of its tag, but []"),
            (TAGGED, CORE.replace("312", "311"), "has not the C core of its tag"),
            (TAGGED, CORE.replace("x86_64", "aarch64"), "has not the C core of"),
            ("shmfeed-1-cp312-cp312-linux_x86_64.whl", None, "has not the C core of"),
            ("shmfeed-1-py3-none-any.whl", CORE, "has a tag that does not fit"),
            ("shmfeed-1-py3-none-linux_x86_64.whl", None, "has a tag that does not"),
        ],
    )
    def test_a_tag_that_does_not_fit_the_core_is_found(
        self, tmp_path, name, core, fault
    ) -> None:
        from contents import faults_of

        wheel = self.written(tmp_path / name, {*self.FILES, *([core] if core else [])})
        (found,) = faults_of(wheel, self.FILES)
        assert found.startswith(fault)

    def test_a_wheel_of_pure_python_says_so(self, tmp_path) -> None:
        from contents import faults_of

        wheel = self.written(tmp_path / "shmfeed-1-py3-none-any.whl", self.FILES)
        assert faults_of(wheel, self.FILES) == []

    def test_lost_and_foreign_files_are_found(self, tmp_path) -> None:
        from contents import LICENSES, faults_of

        names = {"shmfeed/__init__.py", "tests/conftest.py", "shmfeed/_ringbuf.c"}
        wheel = tmp_path / "shmfeed-1-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as packed:
            for name in names:
                packed.writestr(name, "")
        assert faults_of(wheel, self.FILES)[0] == "lacks shmfeed/py.typed"
        assert set(faults_of(wheel, self.FILES)[1:]) == {
            *(f"lacks the licence {name}" for name in LICENSES),
            "carries tests/conftest.py",
            "carries shmfeed/_ringbuf.c",
        }

    def written(self, path: Path, names) -> Path:
        from contents import LICENSES

        licences = {f"shmfeed-1.dist-info/licenses/{name}" for name in LICENSES}
        with zipfile.ZipFile(path, "w") as packed:
            for name in {*names, *licences}:
                packed.writestr(name, "")
        return path


class TestDescription:
    def test_each_link_leads_to_the_clone_of_this_version(self) -> None:
        make = runpy.run_path("setup.py")["description"]
        links = LINK.findall(make(ADDRESS, "1.2"))
        own = [link for link in links if link.startswith(ADDRESS)]
        assert f"{ADDRESS}/blob/v1.2/docs/quickstart.md" in own
        assert all(link.startswith("https://") for link in links)
        for link in own:
            place = link.removeprefix(f"{ADDRESS}/").split("/", 2)[2]
            assert (ROOT / place.partition("#")[0]).exists(), link

    def test_without_an_address_a_dead_link_is_plain_text(self) -> None:
        make = runpy.run_path("setup.py")["description"]
        text = make("", "1.2")
        assert "](docs/" in Path("README.md").read_text(), "the control"
        assert all(link.startswith("https://") for link in LINK.findall(text))
        assert "Quick start runs it in three terminals" in text

    def test_code_keeps_its_brackets(self, monkeypatch, tmp_path) -> None:
        make = runpy.run_path("setup.py")["description"]
        monkeypatch.chdir(tmp_path)
        (tmp_path / "README.md").write_text(
            "[a](b) ![c](d.png) [e](#f) [g](h/)\n```\nx[a](b)\n```\n[a](https://b)\n"
        )
        assert make(ADDRESS, "1") == (
            f"[a]({ADDRESS}/blob/v1/b) ![c]({ADDRESS}/raw/v1/d.png)"
            f" [e]({ADDRESS}/blob/v1/README.md#f) [g]({ADDRESS}/tree/v1/h/)\n"
            "```\nx[a](b)\n```\n[a](https://b)\n"
        )


def test_the_bill_of_materials_names_what_is_carried_and_needed(tmp_path) -> None:
    from sbom import write

    archive = tmp_path / "shmfeed-1.2.tar.gz"
    archive.write_bytes(b"")
    for name in ("one", "two"):
        write(tmp_path / name, ROOT, [archive], EPOCH)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    bill = json.loads((tmp_path / "one").read_text())
    assert bill["metadata"]["component"]["version"] == "1.2"
    parts = {part["name"]: part for part in bill["components"]}
    carried = parts.pop("lightweight-charts")
    assert carried["version"] == charts.VERSION
    assert carried["hashes"] == [{"alg": "SHA-256", "content": charts.SHA256}]
    required = {name for name, one in parts.items() if one["scope"] == "required"}
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    assert required == {re.split("[>=<]", d)[0] for d in project["dependencies"]}
    assert "uvicorn" in parts
    assert "ruff" not in parts


def test_no_message_advises_an_extra_of_a_clone() -> None:
    """Beside a wheel `pip install '.[metrics]'` finds nothing to install."""
    found = [
        str(path)
        for package in ("shmfeed", "wealthdata")
        for path in (ROOT / package).rglob("*.py")
        if "pip install" in (text := path.read_text()) and "'.[" in text
    ]
    assert found == []


def test_the_page_of_releases_names_the_layouts_of_this_version() -> None:
    version = runpy.run_path("shmfeed/_version.py")["__version__"]
    number = version.partition(".dev")[0]
    page = Path("docs/releases.md").read_text()
    read = ", ".join(map(str, range(layout.OLDEST_VERSION, layout.VERSION + 1)))
    assert f"| {number} | {layout.VERSION} | {read} |" in page


def test_the_workflow_runs_targets_that_exist() -> None:
    text = Path(".github/workflows/release.yml").read_text()
    targets = set(re.findall(r"\bmake ([a-z-]+)", text))
    assert {"dist", "dist-check"} <= targets
    makefile = Path("Makefile").read_text()
    assert all(re.search(rf"^{name}:", makefile, re.MULTILINE) for name in targets)


def test_the_compiler_of_another_cpu_is_named_where_it_lacks(monkeypatch) -> None:
    from targets import Target

    monkeypatch.setitem(os.environ, "PATH", "/nowhere")
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(SystemExit, match="no compiler for riscv64: install riscv64"):
        Target("riscv64", 243).compiler()
