"""The strategies in examples/, run live on simulated venues, and again on recordings.

The commands are those that a user types, but for the timeframe: bars of one second.
"""

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from support.waiting import until

from shmfeed.manager import WebSocketManager
from shmfeed.simulator import Venue

EXAMPLES = Path(__file__).parents[2] / "examples"
SYMBOLS = ["BTCUSDT", *(f"S{number:03}USDT" for number in range(199))]
WARMUP = 25


class Market:
    """A recorded venue, and a feed that a manager keeps of it."""

    def __init__(self, exits: ExitStack, name: str, symbols, folder: Path, seed: int):
        self.name = name
        self.frames = folder / f"{name}.frames"
        venue = exits.enter_context(
            Venue(
                protocol="binance",
                record=self.frames,
                history=WARMUP,
                update_interval=1.0,
                seed=seed,
            )
        )
        manager = WebSocketManager(name)
        manager.configure(
            symbols=symbols,
            endpoint=venue.url,
            rest_endpoint=venue.rest_url,
            protocol="binance",
            market_type="spot",
            resolutions=["1s"],
            warmup=WARMUP,
        )
        exits.callback(manager.stop)
        manager.start(timeout=30)


def wealthdata(*words):
    return [sys.executable, "-m", "wealthdata", *map(str, words)]


def run(*words):
    return subprocess.run(
        wealthdata(*words), capture_output=True, text=True, timeout=90, check=False
    )


def decided(path):
    lines = path.read_text().splitlines() if path.exists() else []
    return [line for line in lines if '"what"' in line]


def run_live(command, has_enough):
    """Run a command until there is enough, and end it by SIGTERM."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        until(lambda: has_enough() or process.poll() is not None, 60.0)
    finally:
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=30)
    return process.returncode, *said


def record(strategies, streams, options, path, enough):
    """Run strategies live until they have decided often enough."""
    code, _, said = run_live(
        wealthdata(
            "run", *of_examples(strategies), *streams, *options, "--record", path
        ),
        lambda: len(decided(path)) >= enough,
    )
    assert code == 0, said
    assert len(decided(path)) >= enough


def of_examples(names):
    return [EXAMPLES / name for name in names]


def check_replay(strategies, streams, options, live):
    """Run strategies on a replay, and compare with what they decided live."""
    again = live.with_suffix(".again.jsonl")
    files = of_examples(strategies)
    replayed = run("run", *files, *streams, *options, "--record", again)
    assert replayed.returncode == 0, replayed.stderr
    compared = run("compare", live, again)
    assert compared.returncode == 0, compared.stdout + compared.stderr


def check_asyncio(feed_name, symbols):
    """Run the program that follows in asyncio until each symbol has closed a bar."""
    program = [sys.executable, "-u", EXAMPLES / "asyncio_strategy.py", "1s", *symbols]
    environment = {**os.environ, "SHMFEED_FEED": feed_name}
    process = subprocess.Popen(
        program, stdout=subprocess.PIPE, env=environment, text=True
    )
    try:
        left = set(symbols)
        while left:
            line = process.stdout.readline()
            assert line, "the program has ended"
            symbol, event, *_ = line.split()
            if event == "closes":
                left.discard(symbol)
    finally:
        process.kill()
        process.communicate()


def test_strategies_of_one_feed(feed_name, tmp_path):
    strategies = ["moving_average.py", "cross_section.py", "joinquant_port.py"]
    streams = ["--symbols", ",".join(SYMBOLS), "--frequency", "1s"]
    live = tmp_path / "live.jsonl"
    with ExitStack() as exits:
        market = Market(exits, feed_name, SYMBOLS, tmp_path, seed=1)
        check_asyncio(feed_name, SYMBOLS[:3])
        record(strategies, streams, ["--feed", feed_name], live, 4 * len(SYMBOLS))
    check_replay(strategies, streams, ["--replay", market.frames], live)


def test_two_feeds(feed_name, tmp_path):
    spot, perpetual = f"{feed_name}-spot", f"{feed_name}-perp"
    strategies = ["spot_and_perpetual.py"]
    names = f"BTCUSDT@{spot},BTCUSDT@{perpetual}"
    streams = ["--symbols", names, "--frequency", "1s"]
    live = tmp_path / "live.jsonl"
    with ExitStack() as exits:
        markets = [
            Market(exits, name, ["BTCUSDT"], tmp_path, seed)
            for seed, name in enumerate((spot, perpetual))
        ]
        record(strategies, streams, [], live, 4)
    options = [f"--replay={one.name}={one.frames}" for one in markets]
    check_replay(strategies, streams, options, live)


def test_a_backtest_decides_what_a_replay_does(tmp_path):
    bars = EXAMPLES.parent / "tests/conformance/bars/minutes.csv"
    strategies = ["moving_average.py", "cross_section.py", "joinquant_port.py"]
    streams = ["--symbols", "ETHUSDT,BTCUSDT", "--frequency", "1m"]
    tested = tmp_path / "backtest.jsonl"
    files = of_examples(strategies)
    done = run("run", *files, *streams, "--backtest", bars, "--record", tested)
    assert done.returncode == 0, done.stderr
    assert len(decided(tested)) > 100
    check_replay(strategies, streams, ["--replay", bars], tested)
