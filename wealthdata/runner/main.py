"""`python -m wealthdata`: from arguments to a run, from its outcome to an exit code."""

import argparse
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import partial
from importlib import import_module
from typing import Any

import wealthdata
from shmfeed.cli import exit_codes, suggestions
from shmfeed.cli.main import Parser, run_command
from shmfeed.errors import BadArgumentError, StreamNotFoundError
from shmfeed.text import counted, format_ms
from wealthdata.choices import current_choices
from wealthdata.runner.loop import Loop
from wealthdata.runner.namespace import names_of, provide_jqdata
from wealthdata.runner.options import (
    DESCRIPTION,
    EPILOG,
    RunOptions,
    add_arguments,
    check_options,
)
from wealthdata.runner.recording import (
    Recording,
    RunDescription,
    open_recording,
    strategy_labels,
)
from wealthdata.runner.report import tell
from wealthdata.runner.run_context import RunContext, run_params
from wealthdata.runner.running import RunningStrategy, moment_of
from wealthdata.runner.schedule import Schedule
from wealthdata.runner.steps import Mode, RunRequest
from wealthdata.runner.strategy_file import load_strategy
from wealthdata.runner.strategy_log import StrategyLog
from wealthdata.runner.watch import StoppedError, Watch


def run(args: argparse.Namespace) -> int:
    """Run the strategies. Return the exit code."""
    options = check_options(args)
    mode = _mode_of(options)
    with ExitStack() as stack:
        watch = stack.enter_context(Watch(tell, str))
        stack.enter_context(_reads_no_feed(bool(options.backtest)))
        try:
            stack.enter_context(mode)
            strategies = [*_load(options, mode, watch)]
            record = _open_record(options, mode)  # last: it replaces an earlier one
            if record is not None:
                stack.enter_context(record)
            return _run(options, mode, strategies, watch, record)
        except StoppedError as stop:
            return _stopped(stop, options)


def _run(
    options: RunOptions,
    mode: Mode,
    strategies: list[RunningStrategy],
    watch: Watch,
    record: Recording | None,
) -> int:
    loop = Loop(mode, strategies, watch, tell, record)
    stop: StoppedError | None = None
    try:
        loop.run()
    except StoppedError as stopped:
        stop = stopped
    _summarize(options, loop, strategies)
    if stop is None and not loop.steps and any(not s.has_ended for s in strategies):
        _refuse_no_step(options)
    if any(strategy.failures for strategy in strategies):
        if record is not None and not loop.steps:
            record.abandon()
        return exit_codes.FAILED
    return 0 if stop is None else _stopped(stop, options)


def _refuse_no_step(options: RunOptions) -> None:
    symbols, timeframes, _ = options.request
    raise BadArgumentError(
        f"{options.source} has no whole {' or '.join(timeframes)} bar of"
        f" {' or '.join(symbols)} that closes in the run, so that no handler was"
        " called; give a longer file, or a shorter --frequency"
    )


def _stopped(stop: StoppedError, options: RunOptions) -> int:
    if stop.number == signal.SIGTERM and options.kind == "live":
        return 0
    return 128 + stop.number


def _summarize(
    options: RunOptions, loop: Loop, strategies: Iterable[RunningStrategy]
) -> None:
    source = options.source or _feeds_of(options.request)
    steps = counted(loop.steps, "close time")
    span = ""
    if loop.first is not None and loop.last is not None:
        span = f", from {format_ms(loop.first)} to {format_ms(loop.last)}"
    tell(f"{options.kind} of {source}: {steps}{span}")
    for strategy in strategies:
        if strategy.failures:
            tell(f"{strategy.label}: {counted(strategy.failures, 'failure')}")


def _feeds_of(request: RunRequest) -> str:
    """Return the feeds of a live run in words."""
    default = request.feed or current_choices().feed or "none"
    named = (symbol.partition("@")[2] or default for symbol in request.symbols)
    names = tuple(dict.fromkeys(named))
    return f"feed{'s' * (len(names) > 1)} {', '.join(names)}"


def _mode_of(options: RunOptions) -> Mode:
    request = options.request
    module: Any = import_module(f"wealthdata.runner.{options.kind}")
    if options.backtest:
        mode: Mode = module.BacktestMode(request, options.backtest)
    elif options.replay:
        mode = module.ReplayMode(request, options.replay, options.speed)
    else:
        mode = module.LiveMode(request)
    return mode


@contextmanager
def _reads_no_feed(backtest: bool) -> Iterator[None]:
    """Let no thread and no child of this process read a feed, in a backtest."""
    if not backtest:
        yield
        return
    earlier = current_choices().feed is None
    wealthdata.use(context_only=True)
    try:
        yield
    finally:
        wealthdata.use(context_only=earlier)


def _open_record(options: RunOptions, mode: Mode) -> Recording | None:
    if options.record is None:
        return None
    request = options.request
    return open_recording(
        options.record,
        RunDescription(
            options.strategies,
            request.symbols,
            ",".join(request.timeframes),
            options.kind,
            mode.feed,
            options.source,
        ),
    )


def _load(options: RunOptions, mode: Mode, watch: Watch) -> Iterator[RunningStrategy]:
    """Yield each strategy, loaded, with a context of its own."""
    provide_jqdata(options.strategies)
    labels = strategy_labels(options.strategies)
    start = moment_of(mode.start)
    frequency = ",".join(options.request.timeframes)
    for path, label in zip(options.strategies, labels, strict=True):
        context = RunContext(
            mode.history,
            run_params=run_params(mode.run_type, frequency, start),
            current_dt=start,
            universe=list(options.request.symbols),
        )
        say = partial(_tell_of, label)
        schedule = Schedule(mode.start, say)
        shown = label if len(labels) > 1 else ""
        log = StrategyLog(partial(_stamp, context), shown)
        with watch.load(label, path):
            strategy = load_strategy(path, label, names_of(log, schedule, say))
        for sentence in strategy.unknown:
            say(sentence)
        yield RunningStrategy(
            strategy, context, schedule, watch, options.keep_going, tell
        )


def _tell_of(label: str, text: str) -> None:
    tell(f"{label}: {text}")


def _stamp(context: RunContext) -> str:
    moment: object = context.current_dt
    return f"{moment:%Y-%m-%d %H:%M:%S}" if isinstance(moment, datetime) else "-"


_COMPARE = "compare two recordings, and name the first decision that differs"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: The arguments, by default those of this process.

    Raises:
        SystemExit: From argparse, for `--help` and wrong options.
    """
    usage_errors = BadArgumentError, StreamNotFoundError
    return run_command(_dispatch, argv, _tell_error, usage_errors)


def _tell_error(error: Exception) -> None:
    tell(str(error))


def _dispatch(arguments: Sequence[str]) -> int:
    if arguments and arguments[0] == "compare":
        compare: Any = import_module("wealthdata.runner.compare")
        code: int = compare.main(arguments[1:])
        return code
    parser = Parser(prog="python -m wealthdata", allow_abbrev=False)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    runner = commands.add_parser(
        "run",
        help="run a strategy live, on a replay or in a backtest",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_arguments(runner)
    commands.add_parser("compare", help=_COMPARE)
    args, unknown = parser.parse_known_args(arguments)
    if hasattr(args, "strategies"):  # one may stand behind the options, too
        args.strategies += [word for word in unknown if not word.startswith("-")]
        unknown = [word for word in unknown if word.startswith("-")]
    fault = suggestions.describe_unknown_arguments(
        runner, unknown
    ) or suggestions.describe_repeated_option(runner, arguments)
    if fault:
        runner.error(fault)
    if not hasattr(args, "strategies"):
        parser.print_help(sys.stderr)
        return exit_codes.USAGE
    return run(args)
