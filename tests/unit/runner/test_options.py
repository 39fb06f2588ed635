"""The options of a run: what is wrong with them, before anything runs."""

import pytest
from support.runs import Runs, minutes

pytest_plugins = ["support.runs_fixture"]

FAILING = "def initialize(context): raise ValueError\n"
HANDLER = "def handle_bar(context, bar): decide(bar.close)\n"
RUN = "--symbols AAA --frequency 1m"
REFUSED = [
    (f"{RUN} --backtest b.csv --replay b.csv", "--replay and --backtest are two ways"),
    (
        f"{RUN} --backtest b.csv --feed f",
        "--feed is for a live run; with --backtest no",
    ),
    (f"{RUN} --replay b.csv --feed f", "--feed is for a live run; with --replay no"),
    (f"{RUN} --backtest b.csv --speed 3", "--speed is for a replay"),
    (f"{RUN} --replay b.csv --speed 0", "--speed is '0'; it must be a number above 0"),
    (f"{RUN} --replay b.csv --speed -1", "--speed is '-1'"),
    (f"{RUN} --replay b.csv --speed nan", "--speed is 'nan'"),
    (f"{RUN} --replay b.csv --speed inf", "--speed is 'inf'"),
    (f"{RUN} --replay b.csv --speed fast", "--speed is 'fast'"),
    ("--symbols AAA,AAA --frequency 1m", "--symbols has AAA twice"),
    ("--symbols AAA,, --frequency 1m", "symbol '' is not accepted"),
    ("--symbols A@@ --frequency 1m", "security is 'A@@'; it must be SYMBOL"),
    ("--symbols AAA --frequency 1min", "--frequency '1min' is not accepted"),
    ("--symbols AAA --frequency 60m,1h", "--frequency has 1h twice"),
]


@pytest.mark.parametrize(("options", "wanted"), REFUSED)
def test_options_that_do_not_fit_are_named(
    runs: Runs, options: str, wanted: str
) -> None:
    path = runs.write("strategy.py", "raise SystemError('it was loaded')")
    found = runs(["run", path, *options.split()])
    assert (found.code, found.output) == (2, [])
    assert wanted in found.errors
    assert "it was loaded" not in found.errors


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (
            ["run", "s.py"],
            "the following arguments are required: --symbols, --frequency",
        ),
        (["run", *RUN.split()], "the following arguments are required: STRATEGY.py"),
        (
            ["run", "s.py", *RUN.split(), "--bactest", "b.csv"],
            "did you mean --backtest?",
        ),
        (["run", "s.py", *RUN.split(), "--symbols", "B"], "--symbols: given twice"),
        (["rnu"], "invalid choice: 'rnu'"),
    ],
)
def test_a_wrong_word_ends_with_the_usage(
    arguments: list[str],
    wanted: str,
    runs: Runs,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught:
        runs(arguments)
    assert caught.value.code == 2
    assert wanted in capsys.readouterr().err


def test_without_a_command_the_help_is_printed(runs: Runs) -> None:
    found = runs([])
    assert found.code == 2
    assert "run a strategy live, on a replay or in a backtest" in found.errors


def test_a_strategy_may_stand_behind_the_options(runs: Runs) -> None:
    names = ("one.py", "two.py")
    one, two = (
        runs.write(name, f"def handle_bar(c, b): print({name!r})") for name in names
    )
    bars = runs.write_bars(minutes(1))
    found = runs(["run", one, *RUN.split(), "--backtest", bars, two])
    assert found.output == ["one.py", "two.py"]
    found = runs(["run", one, *RUN.split(), "--backtest", bars, one])
    assert (found.code, found.output) == (2, [])
    assert f"strategy {one!r} is given twice" in found.errors


@pytest.mark.parametrize(
    ("symbols", "wanted"),
    [("AAA,BBB", "has no bar of BBB; it has AAA"), ("aaa", "did you mean AAA?")],
)
def test_symbols_without_bars_are_named_before_the_run(
    runs: Runs, symbols: str, wanted: str
) -> None:
    source = "def initialize(context): print('initialized')\n"
    found = runs.backtest(source, symbols=symbols)
    assert (found.code, found.output) == (2, [])
    assert wanted in found.errors


def test_a_timeframe_without_a_whole_bar_is_told(runs: Runs) -> None:
    source = "def handle_bar(context, bar): print(bar.timeframe)\n"
    found = runs.backtest(source, frequency="1m,1h")
    assert (found.code, found.output) == (0, ["1m"] * 3)
    assert "has no whole 1h bar of AAA" in found.errors


@pytest.mark.parametrize("way", ["backtest", "replay"])
def test_a_run_without_a_close_time_is_refused(runs: Runs, way: str) -> None:
    source = "def handle_bar(context, bar): print(bar.timeframe)\n"
    path, bars = runs.write("ma.py", source), runs.write_bars(minutes(3))
    run = ["run", path, "--symbols", "AAA", f"--{way}", bars, "--frequency"]
    found = runs([*run, "1h"])
    assert (found.code, found.output) == (2, [])
    wanted = "bars.csv has no whole 1h bar of AAA that closes in the run"
    assert wanted in found.errors
    assert runs([*run, "3m"])[:2] == (0, ["3m"])  # control


def test_a_run_that_cannot_begin_leaves_an_earlier_recording(runs: Runs) -> None:
    recording = runs.folder / "decisions.jsonl"
    options = "--record", str(recording)
    assert runs.backtest(HANDLER, *options).code == 0
    earlier = recording.read_text()
    assert len(earlier.splitlines()) == 5
    runs.backtest("raise ValueError\n", *options)
    runs.backtest("x = 1\n", *options)
    runs.backtest(HANDLER, *options, symbols="BBB")
    assert runs.backtest(f"{FAILING}{HANDLER}", *options).code == 1
    assert runs.backtest(f"{FAILING}{HANDLER}", *options, "--keep-going").code == 1
    assert recording.read_text() == earlier
    runs.backtest(HANDLER, *options, bars=minutes(2))  # control
    assert len(recording.read_text().splitlines()) == 4
    decided = "def initialize(context):\n    decide('begin')\n    raise ValueError\n"
    assert runs.backtest(decided + HANDLER, *options).code == 1
    assert len(recording.read_text().splitlines()) == 3  # it has a decision
