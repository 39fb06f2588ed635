"""The fuzz targets still fit the code that they are made for; without atheris."""

import re
from pathlib import Path

import pytest

FUZZ = Path(__file__).parents[3] / "fuzz"
SHARED = {"judge", "loop", "run"}  # no targets
TARGETS = sorted(path.stem for path in FUZZ.glob("*.py") if path.stem not in SHARED)

SEEDS = """
import importlib, sys
sys.modules["atheris"] = None
sys.path.insert(0, sys.argv[1])
exec(sys.argv[3])
target = importlib.import_module(sys.argv[2])
for seed in target.SEEDS:
    for end in range(len(seed) + 1):
        target.one(seed[:end])
        target.one(seed[end:])
print(len(target.SEEDS))
"""

BROKEN = {
    "codec_wealthai": "import shmfeed.codecs.wealthai as w; w.UNREADABLE = ()",
    "codec_binance": "import shmfeed.codecs.binance as b; b.UNREADABLE = ()",
    "rest_binance": "import shmfeed.history.blocks as b; b._refuse = lambda *_: None",
    "handshake": "import shmfeed.wire.answers as a; a.one_line = None",
    "control": "import shmfeed.control.messages as w; w._NOT_JSON = ()",
    "settings_file": "import shmfeed.settings.loading as f; f.tomllib = None",
    "note": "import shmfeed.memory.note as n; n.NOTE_BYTES = 10_000",
    "faults_grammar": "import shmfeed.simulator.faults.spec as g; g.FAULT_KINDS = None",
}


@pytest.mark.parametrize("target", TARGETS)
def test_its_seeds_cut_anywhere(child, target):
    process = child(SEEDS, FUZZ, target, "")
    output, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
    assert int(output) > 0


@pytest.mark.parametrize("target", TARGETS)
def test_it_finds_what_is_broken(child, target):
    """The control: the same seeds over code with a mistake in it."""
    process = child(SEEDS, FUZZ, target, BROKEN[target])
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "Traceback" in errors


def test_the_runner_knows_every_target():
    listed = re.search(r"TARGETS = \((.*?)\)", (FUZZ / "run.py").read_text(), re.DOTALL)
    assert listed is not None
    assert sorted(re.findall(r'"(\w+)"', listed[1])) == TARGETS


def test_without_atheris_it_says_why(child):
    code = "import sys, runpy; sys.modules['atheris'] = None; sys.path.insert(0,"
    code += " sys.argv[1]); sys.argv = ['run.py']; runpy.run_path(sys.path[0] +"
    code += " '/run.py', run_name='__main__')"
    process = child(code, FUZZ)
    output, errors = process.communicate(timeout=30)
    assert (process.returncode, output) == (2, "")
    assert errors.startswith("no fuzzing with this Python 3.")
    assert "make fuzz PYTHON=" in errors
