"""A strategy's file is a module of its own; another file is named with its line."""

from pathlib import Path

import pytest
from support.runs import Outcome, Runs, minutes

pytest_plugins = ["support.runs_fixture"]

HANDLER = "def handle_bar(context, bar): print('ran')\n"


def run_files(runs: Runs, *paths: str) -> Outcome:
    bars = runs.write_bars(minutes(1))
    options = ["--symbols", "AAA", "--frequency", "1m", "--backtest", bars]
    return runs(["run", *paths, *options])


REFUSED = {
    "syntax": (
        "import os\n\ndef handle_bar(context, bar)\n",
        "strategy.py line 3: expected ':'; the file is not Python",
    ),
    "encoding": ("x = '\udcff'\n" + HANDLER, "the file is not Python"),
    "nul": ("x = '\0'\n" + HANDLER, "the file is not Python"),
    "raises": (
        HANDLER + "value = 1\nvalue / 0\n",
        "strategy.py line 3: ZeroDivisionError: division by zero, while the file",
    ),
    "raises within": (
        HANDLER + "def f():\n    raise KeyError('a')\n\nf()\n",
        "strategy.py line 3: KeyError: 'a', while the file is loaded",
    ),
    "lacks a module": (
        "import jqlib.technical_analysis\n" + HANDLER,
        "; jqlib is a package of JoinQuant's platform, which is not here",
    ),
    "exits": (
        HANDLER + "import sys\nsys.exit('bye')\n",
        "strategy.py line 3: SystemExit: bye: the file exits while it is loaded; move",
    ),
    "no handler": ("x = 1\n", "strategy.py has no handler, so that nothing would run"),
    "near": (
        "def handle_bars(context, bar): pass\n",
        "; handle_bars (strategy.py line 1) is never called; did you mean handle_bar?",
    ),
    "of another platform": (
        "def on_bar(context, bar): pass\n",
        "on_bar (strategy.py line 1) is never called; did you mean handle_bar?",
    ),
    "camel case": (
        "def handleData(context, data): pass\n",
        "handleData (strategy.py line 1) is never called; did you mean handle_data?",
    ),
    "one argument": (
        "\ndef handle_bar(bar): pass\n",
        "handle_bar(bar) (strategy.py line 2) takes other arguments; it is called",
    ),
    "three arguments": (
        "def handle_data(context, data, now): pass\n",
        "it is called as handle_data(context, data)",
    ),
    "async": (
        "async def handle_bar(context, bar): pass\n",
        "handle_bar (strategy.py line 1) is async, and would never run",
    ),
    "generator": (
        "def handle_bar(context, bar): yield bar\n",
        "handle_bar (strategy.py line 1) has a yield, and its body would never run",
    ),
    "no function": (
        "handle_bar = 3\n",
        "handle_bar is 3; it must be a function, handle_bar(context, bar)",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_strategy_is_named_with_its_line(runs: Runs, case: str) -> None:
    source, wanted = REFUSED[case]
    path = runs.folder / "strategy.py"
    path.write_bytes(source.encode("utf-8", "surrogateescape"))
    found = run_files(runs, str(path))
    assert (found.code, found.output) == (2, [])
    assert wanted in found.errors


def test_paths_that_are_no_file(runs: Runs) -> None:
    (runs.folder / "folder.py").mkdir()
    (runs.folder / "notebook.ipynb").write_text("{}")
    for name, wanted in {
        "away.py": "cannot be read: No such file or directory",
        "folder.py": "cannot be read: it is a directory; name its file",
        "notebook.ipynb": "is not accepted; its name must end in .py",
        "nul\0.py": "cannot be read: embedded null",
    }.items():
        found = run_files(runs, str(runs.folder / name))
        assert found.code == 2
        assert wanted in found.errors


def test_a_name_that_is_almost_a_handlers_is_told(runs: Runs) -> None:
    """The strategy runs; helpers with names of their own are not remarked."""
    path = runs.write(
        "strategy.py",
        HANDLER + "def before_trading(context): pass\ndef handle(x): pass\n",
    )
    found = run_files(runs, path)
    assert (found.code, found.output) == (0, ["ran"])
    assert (
        "before_trading (strategy.py line 2) is never called; did you" in found.errors
    )
    assert "handle (" not in found.errors


def test_handlers_may_be_any_callable(runs: Runs) -> None:
    source = """
        from functools import partial

        class Strategy:
            def initialize(self, context): self.seen = 0
            def handle_bar(self, context, bar): print("method", bar.close)

        strategy = Strategy()
        initialize, handle_bar = strategy.initialize, strategy.handle_bar
        handle_data = partial(lambda word, context, data: print(word), "partial")
        on_strategy_end = lambda *_: print("end")
    """
    found = run_files(runs, runs.write("strategy.py", source))
    assert found.output == ["method 11.0", "partial", "end"]


def test_files_beside_it_are_found(runs: Runs) -> None:
    runs.write("lib/helper.py", "NAME = 'helper'\nfrom . import other\n")
    runs.write("lib/other.py", "NAME = 'other'\n")
    source = """
        import helper
        from . import other
        from .helper import NAME

        def handle_bar(context, bar):
            from . import late
            print(helper.NAME, other.NAME, NAME, late.NAME, __name__, __file__)
    """
    path = runs.write("lib/my-ma 2.py", source.replace("import helper", "import plain"))
    runs.write("lib/plain.py", "NAME = 'plain'\n")
    runs.write("lib/late.py", "NAME = 'late'\n")
    text = (runs.folder / "lib/my-ma 2.py").read_text()
    (runs.folder / "lib/my-ma 2.py").write_text(
        text.replace("helper.NAME", "plain.NAME")
    )
    found = run_files(runs, path)
    assert found.code == 0, found.errors
    names, module = found.output[0].split(" strategies_", 1)
    assert names == "plain other helper late"
    assert module.endswith(f".my_ma_2 {path}")
    assert not list(Path(path).parent.glob("__pycache__/my-ma*"))


def test_a_namesake_of_another_folder_is_refused(runs: Runs) -> None:
    """The second strategy would get the first one's helper."""
    absolute = "import tools\n" + HANDLER
    relative = "from . import tools\ndef handle_bar(context, bar): print(tools.NAME)\n"
    for name in ("one", "two"):
        runs.write(f"{name}/tools.py", f"NAME = {name!r}\n")
        runs.write(f"{name}/absolute.py", absolute)
        runs.write(f"{name}/relative.py", relative)
    folder = str(runs.folder)
    found = run_files(runs, f"{folder}/one/absolute.py", f"{folder}/two/absolute.py")
    assert found.code == 2
    assert "absolute.py would import tools of " in found.errors
    found = run_files(runs, *(f"{folder}/{n}/relative.py" for n in ("one", "two")))
    assert found.output == ["one", "two"]


def test_dataclasses_and_pickles_of_the_module_work(runs: Runs) -> None:
    source = """
        import pickle
        from dataclasses import dataclass

        @dataclass
        class Order:
            symbol: str

        def handle_bar(context, bar):
            print(pickle.loads(pickle.dumps(Order(bar.symbol))))
    """
    found = run_files(runs, runs.write("strategy.py", source))
    assert found.output == ["Order(symbol='AAA')"]


def test_nothing_to_run_is_told(runs: Runs) -> None:
    path = runs.write("strategy.py", "def initialize(context): print('set up')\n")
    found = run_files(runs, path)
    assert (found.code, found.output) == (1, ["set up"])
    assert "strategy.py has nothing to run: define handle_bar or" in found.errors
