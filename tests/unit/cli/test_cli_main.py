"""The command line as a whole: its help, its failures, the modules it loads."""

import signal
import sys

import pytest
from conftest import Child
from support.command_line import end

import shmfeed
from shmfeed.cli.main import COMMANDS, main
from shmfeed.errors import BadArgumentError, FeedBusyError, StreamNotFoundError

pytest_plugins = ["support.command_process"]
pytestmark = pytest.mark.usefixtures("no_settings")

HEAVY_MODULES = {
    "socket",
    "ssl",
    "websocket",
    "asyncio",
    "msgspec",
    "pandas",
}
FEEDER_MODULES = {
    "shmfeed.codecs",
    "shmfeed.wire.connection",
    "shmfeed.manager",
    "shmfeed.simulator",
}


def test_python_m_prints_the_version(command) -> None:
    process = command("--version")
    assert process.communicate(timeout=10)[0] == f"shmfeed {shmfeed.__version__}\n"
    assert process.returncode == 0


def test_help_lists_every_command(capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert f"    {name}" in text
        assert command.summary in text


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_each_command_has_an_example(name, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    description, _, examples = text.partition("examples:\n")
    assert f"shmfeed {name}" in examples
    assert len(description.split("\n\n")[1]) > 60
    assert max(map(len, text.splitlines())) <= 100


def test_without_a_command_the_help_is_printed_and_exit_2(capsys) -> None:
    assert main([]) == 2
    assert "commands:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["frob"], "invalid choice: 'frob'"),
        (["--frob"], "shmfeed: error: unrecognized arguments: --frob"),
        (["status", "--frob"], "shmfeed status: error: unrecognized arguments: --frob"),
        (["status", "frob"], "shmfeed status: error: unrecognized arguments: frob"),
        (["tail", "A"], "shmfeed tail: error: the following arguments are required"),
    ],
)
def test_unknown_arguments_are_exit_2(arguments, message, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert message in errors


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (BadArgumentError("n is 0"), 2, "shmfeed: n is 0\n"),
        (StreamNotFoundError("no A 1m"), 2, "shmfeed: no A 1m\n"),
        (FeedBusyError("pid 7 has it", 7), 1, "shmfeed: pid 7 has it\n"),
        (PermissionError(13, "Permission denied", "x"), 1, "shmfeed: [Errno 13] "),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_each_failure_has_its_exit_code(
    raised, code, message, monkeypatch, capsys
) -> None:
    def fail(args: object) -> int:
        raise raised

    monkeypatch.setattr("shmfeed.cli.status.run", fail)
    assert main(["status"]) == code
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith(message)
    assert bool(errors) == bool(message)


def test_a_bug_keeps_its_traceback(monkeypatch) -> None:
    monkeypatch.setattr("shmfeed.cli.status.run", lambda args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["status"])


def test_a_closed_output_pipe_is_exit_141(command, cli_ring, feed_name) -> None:
    process = command("tail", "BTCUSDT", "1m", "-f", "--feed", feed_name)
    process.stdout.readline()
    process.stdout.close()
    cli_ring.append(*_bar_after(cli_ring))
    assert process.wait(10) == 141
    assert process.stderr.read() == ""


def _bar_after(cli_ring) -> tuple[float, ...]:
    return cli_ring.reader.last_closed().close_time, 1.0, 1.0, 1.0, 1.0, 1.0


PRINT_MODULES = """
import sys
from shmfeed.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print(*sorted(sys.modules), file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["status"], "BTCUSDT"),
        (["tail", "BTCUSDT", "1m"], "CLOSE TIME"),
        (["ls"], "LAST MESSAGE"),
        (["ls", "--help"], "exit codes:"),
    ],
)
def test_reading_loads_no_heavy_module(
    arguments, printed, child, cli_ring, feed_name
) -> None:
    process = child(PRINT_MODULES, *arguments, "--feed", feed_name)
    output, loaded = process.communicate(timeout=30)
    assert printed in output
    assert not (HEAVY_MODULES | FEEDER_MODULES) & set(loaded.split())


def test_the_list_of_commands_loads_no_heavy_module(child) -> None:
    output, loaded = child(PRINT_MODULES, "--help").communicate(timeout=30)
    assert "commands:" in output
    assert not (HEAVY_MODULES | FEEDER_MODULES) & set(loaded.split())


@pytest.mark.parametrize(
    ("arguments", "module"),
    [
        (["completion", "bash"], "shmfeed.feed"),
        (["completion", "bash", "--line", "shmfeed st"], "shmfeed.feed"),
        (["reset", "--help"], "shmfeed.feeder.intake"),
    ],
)
def test_what_few_calls_of_a_command_need_is_loaded_for_them_alone(
    arguments, module, child
) -> None:
    loaded = child(PRINT_MODULES, *arguments).communicate(timeout=30)[1].split()
    assert "shmfeed.cli.output" in loaded
    assert module not in loaded


def test_run_loads_heavy_modules(child) -> None:
    loaded = child(PRINT_MODULES, "run", "--help").communicate(timeout=30)[1]
    assert {"socket", "msgspec", "shmfeed.codecs"} <= set(loaded.split())


def test_simulate_runs_the_venue(command) -> None:
    process = command("simulate", "--symbols", "A")
    assert process.stdout.readline().startswith("listening on ws://127.0.0.1:")
    code, output, errors = end(process, signal.SIGTERM)
    assert (code, errors) == (0, "")
    assert output == "0 connections, 0 requests, 0 frames\n"


def test_simulate_refuses_bad_options(capsys) -> None:
    assert main(["simulate", "--speed", "0"]) == 2
    assert "speed '0' is not accepted" in capsys.readouterr().err


def test_main_parses_sys_argv(monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["shmfeed", "status", "--feed", "not/a/feed"])
    assert main() == 2
    assert "'not/a/feed' is not accepted" in capsys.readouterr().err


WITHOUT = """
import sys
sys.modules[sys.argv[1]] = None
from shmfeed.cli.main import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize(
    ("package", "command"),
    [("msgspec", "doctor"), ("msgspec", "run")],
)
def test_a_missing_package_is_one_line(
    child: Child, package: str, command: str
) -> None:
    process = child(WITHOUT, package, command)
    output, errors = process.communicate()
    assert (process.returncode, output) == (1, "")
    assert errors.startswith(f"shmfeed: module {package} is not installed for ")
    assert errors.count("\n") == 1


def test_a_missing_module_of_our_own_is_a_defect(child: Child) -> None:
    process = child(WITHOUT, "shmfeed.listing", "ls")
    assert "ModuleNotFoundError" in process.communicate()[1]
