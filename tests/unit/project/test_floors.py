"""Imports point down, no packages form a circle, modules and functions stay small."""

import ast
import sys
from pathlib import Path

import pytest
from conftest import Child
from support.floors import (
    MAX_FUNCTION_LINES,
    MAX_MODULE_LINES,
    Imports,
    Room,
    breaches,
    circles,
    oversized,
    reach,
    read_imports,
)

ROOT = Path(__file__).parents[3]
PACKAGES = ("shmfeed", "wealthdata")


def room(floor: int, modules: str, uses: str | None = None, *more: str) -> Room:
    """Return a room of `modules`, given without their package's name.

    `uses` names the rooms of one word each, `more` those of several words.
    """
    full = " ".join(f"shmfeed.{name}" for name in modules.split())
    return Room(
        floor, full, None if uses is None else frozenset([*uses.split(), *more])
    )


ROOMS = {
    "ground": Room(
        0,
        "shmfeed shmfeed._version shmfeed.c_headers shmfeed.errors shmfeed.text"
        " shmfeed.forks shmfeed.accounts shmfeed.child_modules shmfeed.validation"
        " shmfeed.supervised_process"
        " shmfeed.bar shmfeed.bar_files shmfeed.identity shmfeed.whole_file"
        " shmfeed.chosen_feed shmfeed.process_name",
    ),
    "layout": room(1, "layout", "ground"),
    "settings": room(1, "settings.*", "ground"),
    "memory": room(2, "memory.*", "ground layout"),
    "ring": room(3, "ringbuf follower cutting core", "ground layout memory"),
    "segment": room(4, "segment.*", "ground layout memory ring"),
    "codecs": room(4, "codecs.*", "ground layout settings"),
    "control": room(5, "control.*", "ground segment"),
    "wire": room(5, "wire.*", "ground settings codecs"),
    "writing half": room(
        5, "writer capacity marks", "ground layout memory ring segment"
    ),
    "reading half": room(
        5,
        "accepted_feeder attached_segment feed cuts health holes venue_time status"
        " relay_status waiting spinning aio listing",
        "ground layout memory ring segment",
    ),
    "history": room(
        6, "history history.*", "ground layout settings memory codecs wire segment"
    ),
    "store": room(6, "store store.*", "ground layout settings memory"),
    "leases": room(6, "leases", "ground layout segment control"),
    # Events of a feed for an operator; its process reads the feed, and connects to a
    # webhook as the feeder does to the venue.
    "events": room(
        6,
        "events events.*",
        "ground layout settings memory ring segment wire",
        "reading half",
    ),
    # The publisher reads the feed; a follower's feeder uses the rest as its source.
    "relay": room(
        6,
        "relay relay.*",
        "ground layout settings memory ring segment control wire",
        "reading half",
    ),
    "feeder": room(7, "feeder.*"),
    "manager": room(
        8,
        "manager.*",
        "ground layout settings segment codecs control wire events",
        "reading half",
    ),
    "doctor": room(
        8,
        "doctor.*",
        "ground layout settings memory ring segment codecs store relay",
        "reading half",
    ),
    # Readers that show feeds: metrics, the page. They write no segment.
    "observers": room(
        8, "observe observe.*", "ground layout memory ring segment", "reading half"
    ),
    "simulator": room(9, "simulator.*", "ground"),
    "strategies": Room(9, "wealthdata.*", frozenset({"ground", "reading half"})),
    "demo": room(10, "demo.*"),
    "testing": room(10, "testing"),
    "commands": room(11, "cli.* __main__"),
    # Of the process that runs strategies: it may play, record and simulate feeds.
    "runner": Room(12, "wealthdata.runner.* wealthdata.__main__"),
}
RUNNER = ("wealthdata.runner", "wealthdata.__main__")

SOCKET_LIBRARIES = {
    "asyncio",
    "http.client",
    "urllib3",
    "sqlite3",
    "requests",
    "select",
    "selectors",
    "socket",
    "socketserver",
    "ssl",
    "urllib.request",
    "websocket",
    "websockets",
}
STRATEGY = ("wealthdata", "wealthdata.api", "shmfeed", "shmfeed.feed")


@pytest.fixture(scope="module")
def imports() -> Imports:
    return read_imports(ROOT, PACKAGES)


class TestThisProject:
    def test_imports_point_down(self, imports: Imports) -> None:
        assert breaches(imports, ROOMS) == []

    def test_the_two_halves_do_not_know_each_other(self, imports: Imports) -> None:
        assert "shmfeed.feed" not in reach(imports, "shmfeed.writer")
        assert "shmfeed.writer" not in reach(imports, "shmfeed.feed")

    def test_wealthdata_uses_few_modules(self, imports: Imports) -> None:
        used = {
            target
            for module, targets in imports.items()
            if module.startswith("wealthdata") and not module.startswith(RUNNER)
            for target in targets
            if target.startswith("shmfeed")
        }
        reading = ("bar", "cuts", "errors", "feed", "health", "text", "validation")
        waiting = ("spinning", "venue_time", "waiting")
        others = ("accepted_feeder", "accounts", "chosen_feed", "forks", "identity")
        others = (*others, "listing")
        assert used <= {f"shmfeed.{name}" for name in (*reading, *waiting, *others)}

    def test_a_strategy_reaches_no_socket(self, imports: Imports) -> None:
        reached = reach(imports, *STRATEGY)
        assert "shmfeed.feed" in reached
        assert "shmfeed.ringbuf" in reached
        assert not reached & SOCKET_LIBRARIES

    def test_the_feeder_does(self, imports: Imports) -> None:
        """Control: the check above would see it."""
        assert reach(imports, "shmfeed.feeder.feeder") & SOCKET_LIBRARIES

    def test_sizes(self) -> None:
        assert oversized(ROOT, PACKAGES) == []


LOADED = "import sys, wealthdata; print(*sys.modules)"


def test_a_strategy_loads_no_socket_and_no_pandas(child: Child) -> None:
    process = child(LOADED)
    loaded, complaint = process.communicate()
    assert complaint == ""
    names = set(loaded.split())
    assert "wealthdata" in names
    assert not names & (SOCKET_LIBRARIES - {"select", "selectors"} | {"pandas"})


SMALL_ROOMS = {
    "low": Room(0, "a.low a.base"),
    "left": Room(1, "a.left a.other"),
    "right": Room(1, "a.right"),
    "high": Room(2, "a.high a.package.*", frozenset({"left"})),
    "root": Room(0, "a"),
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "a/package").mkdir(parents=True)
    files = {
        "__init__": "",
        "low": "import os\nfrom a import base",
        "base": "",
        "left": "from a.low import x",
        "right": "from . import low",
        "high": "import a.left",
        "package/__init__": "from a.package.inner import x",
        "package/inner": "from ..left import x",
    }
    for name, text in files.items():
        (tmp_path / f"a/{name}.py").write_text(text)
    return tmp_path


def found(tree: Path) -> list[str]:
    return breaches(read_imports(tree, ("a",)), SMALL_ROOMS)


class TestTheChecker:
    def test_order_is_no_breach(self, tree: Path) -> None:
        assert found(tree) == []
        assert read_imports(tree, ("a",))["a.low"] == {"os", "a.base"}

    @pytest.mark.parametrize(
        "text",
        [
            "import a.high",
            "import os, a.high as name",
            "from a.high import x",
            "from a import high",
            "from .high import x",
            "from . import high as name",
            "def f():\n    from a.high import x",
            "try:\n    import a.high\nexcept ImportError:\n    pass",
            "if not TYPE_CHECKING:\n    x = 1\nelse:\n    import a.high",
        ],
    )
    def test_upward(self, tree: Path, text: str) -> None:
        (tree / "a/base.py").write_text(text)
        assert found(tree)[0] == "a.base imports a.high: high (2) is not below low (0)"

    def test_sideways(self, tree: Path) -> None:
        (tree / "a/left.py").write_text("import a.right")
        assert found(tree) == [
            "a.left imports a.right: right (1) is not below left (1)"
        ]

    def test_downward_where_it_is_not_used(self, tree: Path) -> None:
        (tree / "a/package/inner.py").write_text("from ..right import x")
        assert found(tree) == [
            "a.package.inner imports a.right: high does not use right"
        ]

    def test_a_circle_within_a_room(self, tree: Path) -> None:
        (tree / "a/base.py").write_text("import a.low")
        assert found(tree) == ["a circle: a.base > a.low > a.base"]
        assert circles({"x": {"y"}, "y": {"z"}, "z": {"x"}}) == [["x", "y", "z", "x"]]

    def test_a_circle_of_packages(self, tree: Path) -> None:
        """No two modules import each other; their packages do."""
        (tree / "a/second").mkdir()
        (tree / "a/second/__init__.py").touch()
        (tree / "a/second/one.py").write_text("import a.package.other")
        (tree / "a/second/two.py").touch()
        (tree / "a/package/other.py").touch()
        (tree / "a/package/inner.py").write_text("import a.second.two")
        circle = "a circle of packages: a.package > a.second > a.package"
        rooms = {"all": Room(0, "a a.*")}
        assert breaches(read_imports(tree, ("a",)), rooms) == [circle]

    def test_a_module_without_a_floor(self, tree: Path) -> None:
        (tree / "a/new.py").touch()
        (tree / "a/package/new.py").touch()
        assert found(tree) == ["a.new has no floor yet"]

    def test_an_import_for_type_checkers_does_not_count(self, tree: Path) -> None:
        (tree / "a/base.py").write_text("if TYPE_CHECKING:\n    import a.high")
        assert found(tree) == []

    def test_reach(self, tree: Path) -> None:
        imports = read_imports(tree, ("a",))
        assert reach(imports, "a.high") == {"a.high", "a.left", "a.low", "a.base", "os"}

    @pytest.mark.parametrize("more", [0, 1])
    def test_long_modules(self, tree: Path, more: int) -> None:
        (tree / "a/base.py").write_text("\n" * (MAX_MODULE_LINES + more))
        assert len(oversized(tree, ("a",))) == more

    @pytest.mark.parametrize("more", [0, 1])
    @pytest.mark.parametrize("kind", ["def", "async def"])
    def test_long_functions(self, tree: Path, kind: str, more: int) -> None:
        head = f"class A:\n    {kind} f(\n        self\n    ):\n        'Doc.'\n"
        body = "        x = 1\n" * (MAX_FUNCTION_LINES + more)
        (tree / "a/base.py").write_text(head + body)
        assert len(oversized(tree, ("a",))) == more


def test_the_project_is_what_is_imported_here() -> None:
    import shmfeed

    assert Path(shmfeed.__file__).parent == ROOT / "shmfeed"
    assert sys.version_info >= (3, 11)


def test_no_two_plugins_of_the_tests_share_a_fixture_s_name() -> None:
    """A plugin's fixtures are global: one would take the other's place in each test."""
    homes: dict[str, set[str]] = {}
    for path in sorted((ROOT / "tests/support").glob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and any(
                "fixture" in ast.unparse(one) for one in node.decorator_list
            ):
                homes.setdefault(node.name, set()).add(path.name)
    assert len(homes) > 5
    assert {name: files for name, files in homes.items() if len(files) > 1} == {}
