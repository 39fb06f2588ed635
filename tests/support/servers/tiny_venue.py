"""A tiny venue of the WealthAI protocol, served by whatever server is under test.

It knows no server: it answers the first message, and then makes bars of one second.
With a pace below a second it plays the last minutes faster than they were.
"""

import json
import math
import time
from collections.abc import Iterator

SECOND = 1000  # ms
UPDATES = 4  # of each bar; the last one closes it
_HISTORY = 600  # s; where a faster pace begins


def acknowledge(text: str) -> str:
    """Return the answer to a CONNECT."""
    request = json.loads(text)
    assert request["type"] == "CONNECT", request
    return json.dumps({"type": "CONNECTED", "request_id": request["request_id"]})


def messages(pace: float) -> Iterator[tuple[float, str]]:
    """Yield the bars of BTCUSDT for ever, each with the seconds to wait before it.

    At a pace of 1 the bars are those of this host's clock.
    """
    now = time.time()
    first = math.floor(now) - (_HISTORY if pace < 1 else 0)
    begun = now if pace < 1 else math.floor(now)
    number = 0
    while True:
        for part in range(1, UPDATES + 1):
            due = begun + (number + part / UPDATES) * pace
            if due > now - pace:  # else it was before the client came
                yield max(0.0, due - time.time()), _bar(first + number, part)
        number += 1


def _bar(second: int, part: int) -> str:
    price = 100 + second % 50
    return json.dumps(
        {
            "type": "BAR",
            "symbol": "BTCUSDT",
            "timeframe": "1s",
            "open_time": second * SECOND,
            "close_time": (second + 1) * SECOND,
            "open": str(price),
            "high": str(price + 1),
            "low": str(price - 1),
            "close": str(price + part / 10),
            "volume": str(part),
            "closed": part == UPDATES,
        }
    )
