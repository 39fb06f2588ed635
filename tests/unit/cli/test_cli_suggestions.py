"""Mistakes on the command line: one line, an exit code, never a traceback."""

import os
from pathlib import Path

import pytest

from shmfeed.cli.exit_codes import COMMON, MEANINGS
from shmfeed.cli.main import COMMANDS, main
from shmfeed.layout import H_MAX_STREAMS
from shmfeed.segment.mapping import place

pytest_plugins = ["support.command_process"]
pytestmark = pytest.mark.usefixtures("no_settings")

LONG = "x" * 100_000
READING_COMMANDS = {
    "status": ["status"],
    "watch": ["status", "--watch"],
    "tail": ["tail", "BTCUSDT", "1m"],
    "follow": ["tail", "BTCUSDT", "1m", "-f"],
}


def run_failing(capsys, *arguments) -> tuple[int, str]:
    """Run a command that fails; return its exit code and its last line."""
    try:
        code = main([*arguments])
    except SystemExit as ended:  # argparse
        code = ended.code
    output, errors = capsys.readouterr()
    assert output == ""
    assert "Traceback" not in errors
    assert errors.endswith("\n")
    last = errors.splitlines()[-1]
    assert last.startswith("shmfeed")
    assert last.isprintable()
    assert len(last) < 1500
    return code, last


@pytest.mark.parametrize(
    "arguments",
    [
        ["--csrf-token", "s3cr3t"],
        ["--csrf-token=s3cr3t"],
        ["--x", "--csrf_token=s3cr3t"],
        ["--token", "s3cr3t"],
        ["--csrf", "s3cr3t"],
    ],
)
def test_a_token_in_an_argument_is_not_printed(arguments, capsys) -> None:
    code, last = run_failing(capsys, "run", "--symbols", "A", *arguments)
    assert code == 2
    assert "set WEBSOCKET_CSRF_TOKEN, or csrf_token in a file" in last
    assert "s3cr3t" not in last


@pytest.mark.parametrize(
    "words", [["--headers", "X: s3cr3t"], ["--header=X: s3cr3t"], ["--headers=s3cr3t"]]
)
def test_headers_as_an_option_are_not_repeated(words, capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["run", *words])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert "s3cr3t" not in said
    assert "set SHMFEED_HEADERS, or headers in a file" in said


@pytest.mark.parametrize(
    "words",
    [
        ["--proxy-password", "s3cr3t"],
        ["--proxy-password=s3cr3t"],
        ["--x", "s3cr3t", "--api-key", "s3cr3t"],
        ["--authorization", "s3cr3t"],
    ],
)
def test_what_may_be_another_secret_is_not_repeated(words, capsys) -> None:
    code, last = run_failing(capsys, "run", *words)
    assert code == 2
    assert "s3cr3t" not in last
    assert words[-2 if len(words) % 2 == 0 else 0].partition("=")[0] in last


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stauts"], "invalid choice: 'stauts'; did you mean status?"),
        (["statu"], "did you mean status?"),  # an abbreviation is a typing mistake
        (["STATUS"], "did you mean status?"),
        (["config", "shw"], "; did you mean show?"),
        (["wait", "--health", "liv"], "; did you mean live?"),
        (["completion", "bsh"], "; did you mean bash?"),
        (["xyzzy"], f"; one of: {' '.join(COMMANDS)}"),
        (["--versoin"], "did you mean --version?"),
        (["--", "status"], "invalid choice"),
        (["status", "--js"], "arguments: --js; did you mean --json?"),
        (["status", "--jsn"], "did you mean --json?"),
        (["run", "--symbls", "A"], "--symbls A; did you mean --symbols?"),
        (["run", "--hist", "5"], "did you mean --history?"),
        (["clean", "--dry"], "did you mean --dry-run?"),
        (["ls", "\x1b[31m"], r"unrecognized arguments: '\x1b[31m'"),
        (["ls", "\udcff"], r"'\udcff'"),
        (["ls", LONG], "unrecognized arguments: xxx"),
        ([LONG], "invalid choice: 'xxx"),
        (["status", "--feed", "a", "--feed", "b"], "argument --feed: given twice"),
        (["status", "--feed=a", "--feed", "a"], "argument --feed: given twice"),
        (["status", "--json", "--json"], "argument --json: given twice"),
        (["tail", "A", "1m", "-n5", "-n", "6"], "argument -n: given twice"),
        (["tail", "A", "1m", "-f", "--follow"], "argument -f/--follow: given twice"),
        (["tail", "A", "1m", "--csv", "--json"], "not allowed with argument"),
        (["tail", "A", "1m", "-n", LONG], "is not a number of bars"),
        (["run", "--history=1", "--history=2"], "argument --history: given twice"),
        (["run", "--allow-insecure", "--no-allow-insecure"], "given twice"),
        (["run", "--allow-insecure=maybe"], "'maybe' is not accepted; true or false"),
        (["run", "--no-allow-insecure=yes"], "ignored explicit argument 'yes'"),
        (["run", "--no-give-up", "true"], "unrecognized arguments: true"),
        (["demo", "--seed", "9" * 5000], "invalid int value"),
        (["demo", "--seconds", "x"], "invalid float value: 'x'"),
    ],
)
def test_typing_mistakes_are_named(arguments, message, capsys) -> None:
    code, last = run_failing(capsys, *arguments)
    assert code == 2
    assert message in last


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["status", "--feed", ""], "feed name '' is not accepted"),
        (["status", "--feed", "a\nb"], r"feed name 'a\nb' is not accepted"),
        (["ls", "--feed", LONG], "is not accepted"),
        (["tail", "A", "1m", "--feed", "../x"], "feed name '../x' is not accepted"),
        (["clean", "--feed", "\udcff"], r"'\udcff' is not accepted"),
        (["run", "--symbols", "", "--resolutions", "1m"], "give --symbols and"),
        (["run", "--symbols", "A", "--resolutions", ""], "give --symbols and"),
        (["run", "--symbols", "A B"], "symbol 'A B' is not accepted"),
        (["run", "--symbols", LONG], "is not accepted"),
        (["run", "--history", "9" * 5000], "(from --history)"),
        (["run", "--port", "-1"], "(from --port)"),
        (["run", "--connect-timeout", "nan"], "(from --connect-timeout)"),
        (["run", "--config", ""], "config_file '' is not accepted"),
        (["run", "--config", "/"], "config_file '/': is not a regular file"),
        (["run", "--config", "a\0b"], r"config_file 'a\x00b': cannot be read"),
        (["run", "--log-level", "loud"], "one of: DEBUG INFO WARNING ERROR CRITICAL"),
        (["doctor", "--history", "-5"], "(from --history)"),
        (["demo", "--seconds", "nan"], "--seconds nan is not accepted"),
        (["demo", "--seconds", "-1"], "--seconds -1.0 is not accepted"),
        (["demo", "--strategies", "9" * 30], "1 to 64"),
        (["demo", "--symbols", ""], "symbol '' is not accepted"),
    ],
)
def test_refused_values_are_named(arguments, message, capsys) -> None:
    code, last = run_failing(capsys, *arguments)
    assert code == 2
    assert message in last


def test_too_little_space_is_exit_1_and_leaves_nothing(capsys, feed_name) -> None:
    code, last = run_failing(
        capsys,
        *("run", "--feed", feed_name, "--symbols", "A", "--resolutions", "1m"),
        *("--history", "10000000", "--max-streams", "10000"),
    )
    assert code == 1
    assert "10000 streams of 10000000 bars; ask for fewer" in last
    assert not place(feed_name).segment.exists()


@pytest.mark.parametrize("arguments", READING_COMMANDS.values(), ids=READING_COMMANDS)
@pytest.mark.parametrize("kind", ["damaged", "empty", "directory", "symlink"])
def test_a_feed_that_cannot_be_read_is_one_line_of_error(
    arguments, kind, cli_ring, feed_name, capsys
) -> None:
    segment = place(feed_name).segment
    content = bytearray(segment.read_bytes())
    content[H_MAX_STREAMS * 8] ^= 255
    saved = segment.rename(segment.with_name(segment.name + "-saved"))
    if kind == "directory":
        segment.mkdir()
    elif kind == "symlink":
        segment.symlink_to("/etc/passwd")
    else:
        segment.touch(0o600)
        segment.write_bytes(content if kind == "damaged" else b"")
    code, last = run_failing(capsys, *arguments, "--feed", feed_name)
    assert code == (2 if kind == "empty" else 1)
    assert str(segment) in last or f"there is no feed {feed_name!r}" in last
    segment.rmdir() if kind == "directory" else segment.unlink()
    saved.rename(segment)


def test_a_misspelt_symbol_is_corrected(cli_ring, feed_name, capsys) -> None:
    code, last = run_failing(capsys, "tail", "BTCUSD", "1m", "--feed", feed_name)
    assert code == 2
    assert last.endswith("it carries: BTCUSDT 1m; did you mean BTCUSDT?")
    code, last = run_failing(capsys, "tail", "btcusdt", "1m", "--feed", feed_name)
    assert last.endswith("; did you mean BTCUSDT?")
    code, last = run_failing(capsys, "tail", "BTCUSDT", "1h", "--feed", feed_name)
    assert last.endswith("it carries: BTCUSDT 1m")


def test_the_streams_of_a_large_feed_are_not_all_listed(feed_name, capsys) -> None:
    from shmfeed.writer import create

    with create(feed_name, history=1, max_streams=200) as writer:
        for number in range(200):
            writer.add_stream(f"SYMBOL{number:03}", "1m")
        code, last = run_failing(capsys, "tail", "X", "1m", "--feed", feed_name)
        writer.close(unlink=True)
    assert code == 2
    assert "SYMBOL000 1m" in last


def test_tail_accepts_any_number_of_bars(cli_ring, feed_name, capsys) -> None:
    arguments = "tail", "BTCUSDT", "1m", "--feed", feed_name, "--json", "-n", "9" * 400
    assert main([*arguments]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 5


class TestExitCodes:
    def test_every_command_has_meanings(self) -> None:
        assert MEANINGS.keys() == COMMANDS.keys()
        for codes in MEANINGS.values():
            assert {0, 2} <= codes.keys()

    @pytest.mark.parametrize("name", COMMANDS)
    def test_the_help_lists_them(self, name, capsys) -> None:
        with pytest.raises(SystemExit):
            main([name, "--help"])
        section = capsys.readouterr().out.partition("exit codes:\n")[2]
        told = " ".join(section.split())  # a long line may be wrapped
        for code, meaning in (COMMON | MEANINGS[name]).items():
            assert f"{code} {meaning}" in told

    @pytest.mark.parametrize("name", COMMANDS)
    def test_the_page_of_operations_lists_them(self, name) -> None:
        page = (Path(__file__).parents[3] / "docs" / "feeders.md").read_text()
        codes = "; ".join(
            f"{code} {meaning}" for code, meaning in MEANINGS[name].items()
        )
        assert f"| `{name}` | {COMMANDS[name].summary} | {codes} |\n" in page

    def test_those_of_a_managed_feeder_are_the_same(self) -> None:
        from shmfeed.cli import exit_codes
        from shmfeed.feeder import main

        assert main.EXIT_FAILED == exit_codes.FAILED
        assert main.EXIT_LOST == exit_codes.LOST


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("columns", ["20", "1", "x", "100000"])
def test_the_help_fits_any_width(name, columns, monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert os.environ["COLUMNS"] == columns
    assert "exit codes:" in capsys.readouterr().out
