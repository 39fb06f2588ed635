"""An hour of Binance traffic with duplicates, late finals and a lost connection."""

import json
import random

from support.waiting import until

import shmfeed
from shmfeed.bar import AFTER_GAP, CLOSED_BY_NEXT, CLOSED_BY_VENUE, UNCONFIRMED
from shmfeed.manager import WebSocketManager
from shmfeed.simulator import Venue, bar

MINUTE = 60_000
START = 1_700_000_040_000
BARS = 60
UPDATES = (1, 3, 5)
SEED = 5
SYMBOLS = ["BTCUSDT", "ETHUSDT", "BNBUSDT"]
LOST = (30, 31)  # bars of the first symbol that end while no client is connected


def frame(symbol, number, step):
    """Return the frame about a bar after `step` updates; None: the final one."""
    open_time = START + number * MINUTE
    made = bar(SEED, symbol, "1m", open_time, *([] if step is None else [step]))
    kline = {
        "t": open_time, "T": open_time + MINUTE - 1, "s": symbol, "i": "1m",
        "o": repr(made.open), "h": repr(made.high), "l": repr(made.low),
        "c": repr(made.close), "v": repr(made.volume), "q": repr(made.money),
        "x": step is None, "n": 1, "f": 1, "L": 1, "V": "0", "Q": "0", "B": "0",
    }  # fmt: skip
    stream = f"{symbol.lower()}@kline_1m"
    data = {"e": "kline", "E": open_time + MINUTE, "s": symbol, "k": kline}
    return json.dumps({"stream": stream, "data": data})


def hour(rng, symbol, first, last):
    """Return frames of bars first..last-1, finals up to 3 frames late, some twice."""
    frames, late = [], []
    for number in range(first, last):
        for step in UPDATES:
            frames.append(frame(symbol, number, step))
            late = [(wait - 1, text) for wait, text in late]
            frames += [text for wait, text in late if wait <= 0]
            late = [(wait, text) for wait, text in late if wait > 0]
        final = frame(symbol, number, None)
        if rng.random() < 0.3 and number < last - 1:
            late.append((rng.randint(1, 3), final))
        else:
            frames.append(final)
        if rng.random() < 0.3:
            frames.append(rng.choice(frames[-4:]))
    return frames + [text for _, text in late]


def interleaved(rng, queues):
    """Merge the frames of all symbols at random, each symbol's order kept."""
    queues = [list(reversed(queue)) for queue in queues]
    mixed = []
    while any(queues):
        mixed.append(rng.choice([queue for queue in queues if queue]).pop())
    return mixed


def test_an_hour_of_late_and_doubled_frames_and_a_lost_connection(feed_name, seed):
    rng = random.Random(seed)
    manager = WebSocketManager(feed_name)
    sent = 0
    with Venue(protocol="binance", speed=None) as venue:
        manager.configure(
            symbols=SYMBOLS, resolutions=["1m"], endpoint=venue.url,
            protocol="binance", market_type="spot",
        )  # fmt: skip

        def play(first_of_first_symbol, first, last):
            nonlocal sent
            starts = [first_of_first_symbol, first, first]
            for text in interleaved(
                rng,
                [
                    hour(rng, symbol, start, last)
                    for symbol, start in zip(SYMBOLS, starts, strict=True)
                ],
            ):
                assert venue.send(text) == 1
                sent += 1
            until(lambda: manager.get_status()["messages"] == sent)

        try:
            manager.start(timeout=20)
            play(0, 0, 30)
            venue.drop_connections()
            until(lambda: manager.get_status()["reconnects"] == 1)
            until(manager.is_connected)
            venue.wait_connections(1)
            play(30 + len(LOST), 30, BARS)
            until(lambda: not _held_back(manager))
            # A gap is counted a moment after its bars can be read.
            until(lambda: manager.get_status()["gaps"] == len(LOST))
            status = manager.get_status()
            assert status["malformed"] == status["revisions"] == status["ignored"] == 0
            assert status["gaps"] == len(LOST)
            with shmfeed.attach(feed_name) as feed:
                _check(feed, SYMBOLS[0], LOST)
                for symbol in SYMBOLS[1:]:
                    _check(feed, symbol, ())
        finally:
            manager.stop()


def _held_back(manager):
    streams = manager.get_status()["streams"]
    return any(stream["health"] == "recovering" for stream in streams)


def _check(feed, symbol, lost):
    rows = feed.ring(symbol, "1m").snapshot(1000)
    numbers = [number for number in range(BARS) if number not in lost]
    assert rows.open_time.tolist() == [START + number * MINUTE for number in numbers]
    for row, number in enumerate(numbers):
        read, made = rows.bar(row), bar(SEED, symbol, "1m", START + number * MINUTE)
        assert read[:8] == made[:8], (symbol, number)
        assert read.flags & CLOSED_BY_VENUE
        assert not read.flags & (CLOSED_BY_NEXT | UNCONFIRMED)
        assert bool(read.flags & AFTER_GAP) == (number - 1 in lost)
