"""A night in ten minutes: three feeds live through a schedule of troubles.

    PYTHONPATH=tests python -m night --seconds 600

Each feed has a venue, a manager with the default settings, and a feeder, each in a
process of its own but the managers. The exit code is 0 if no feed has a failure.
"""

import argparse
import logging
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from night import verdict as judges
from night.plan import Trouble, kinds, troubles
from night.player import Player
from night.report import report
from night.verdict import StreamRows, Verdict
from support import census

import shmfeed
from shmfeed.segment.mapping import place

SEED = 7
FEEDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "flags": (
        {"sequence": "connection"},
        {"symbols": ["BTCUSDT", "ETHUSDT"], "resolutions": ["1s", "1m"]},
    ),
    "clock": (
        {"closed_flag": False, "sequence": "stream", "timestamps": True},
        {"symbols": ["BTCUSDT", "SOLUSDT"], "resolutions": ["1s", "1m"]},
    ),
    "binance": (
        {"protocol": "binance"},
        {
            "protocol": "binance",
            "market_type": "spot",
            "symbols": ["BTCUSDT", "BNBUSDT"],
            "resolutions": ["1s", "1m"],
        },
    ),
}
RECOVERY = 90.0  # s at the end without trouble: the longest delay, and what it needs


class ManagerLines(logging.Handler):
    """The lines that the managers log, with their time.monotonic()."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[float, str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        self.lines.append((time.monotonic(), record.name, text))


def night(seconds: float, seed: int, folder: Path, **settings: Any) -> list[Verdict]:
    """Play a night and return the findings about each feed.

    Args:
        seconds: Its length.
        seed: Of the troubles.
        folder: Where the feeders' logs go.
        **settings: Settings of the managers, which are the default ones otherwise.
    """
    handler = ManagerLines()
    log = logging.getLogger("shmfeed")
    players: dict[str, Player] = {}
    with ExitStack() as stack:  # each feed is stopped, whatever fails
        log.addHandler(handler)
        stack.callback(log.removeHandler, handler)
        for name, (options, given) in FEEDS.items():
            feed = f"t{os.getpid()}x-{name}"
            options = {"seed": SEED, **options}
            player = players[name] = Player(feed, options, given | settings, folder)
            stack.callback(place(feed).lock.unlink, missing_ok=True)
            stack.callback(player.stop)
            player.start()
        for name, plan in plans_of(seed, seconds).items():
            players[name].play(plan, seconds)
        for player in players.values():
            player.join()
        return [judge(player, handler.lines) for player in players.values()]


def plans_of(seed: int, seconds: float) -> dict[str, list[Trouble]]:
    """Return the troubles of each feed; the end of the night has none."""
    without = seconds - min(RECOVERY, seconds * 0.6)
    plans = {}
    for number, (name, (options, _)) in enumerate(FEEDS.items()):
        rng = random.Random(f"{seed} {name}")
        order = kinds(seed, number / len(FEEDS))
        protocol = options.get("protocol", "wealthai")
        plans[name] = troubles(rng, order, protocol, without)
    return plans


def judge(player: Player, manager_lines: Sequence[tuple[float, str, str]]) -> Verdict:
    """Return the findings about one feed, which still runs."""
    found = Verdict(player.name, list(player.errors))
    status = player.manager.get_status()
    spans = judges.windows(player.played, player.samples)
    for number in range(len(player.played)):
        judges.judge_recovery(found, player.played, number, player.samples)
    judges.judge_health(found, player.samples, status)
    told = [(when, text) for when, _, text in manager_lines if player.name in text]
    connected = [judges.was_connected(one, player.samples) for one in player.played]
    judges.judge_losses(found, player.played, connected, spans, player.lines(), told)
    offset = time.time() - time.monotonic()
    with shmfeed.attach(player.name) as feed:
        for stream in status["streams"]:
            rows = rows_of(feed, stream["symbol"], stream["timeframe"])
            judges.judge_rows(found, SEED, rows, spans, offset)
    judges.judge_gaps(found, status["gaps"])
    judges.judge_dials(found, player.venue.dials + player.venue.tell("dials"))
    return found


def rows_of(feed: shmfeed.Feed, symbol: str, timeframe: Any) -> StreamRows:
    """Return a private copy of a stream's rows."""
    rows = feed.ring(symbol, timeframe).snapshot(1000)
    return StreamRows(
        (symbol, timeframe),
        np.array(rows.open_time),
        np.array(rows.values),
        np.array(rows["flags"]),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--keep", metavar="FOLDER", help="keep the feeders' logs there")
    given = parser.parse_args()
    os.environ[census.MARK] = str(os.getpid())
    before = census.take()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(given.keep or temporary)
        folder.mkdir(exist_ok=True)
        verdicts = night(given.seconds, given.seed, folder)
    left = [
        line
        for line in census.leftovers(before)
        if "/dev/shm" not in line or f"t{os.getpid()}x" in line  # another run's
    ]
    print(report(verdicts, left))
    return 1 if left or any(one.failures for one in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main())
