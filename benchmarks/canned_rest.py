"""A REST service that answers pages of klines from memory, as Binance's does.

Its rows are the local venue's, made beforehand, so that it costs next to nothing.
"""

import asyncio
import json
import threading
import time
from email.utils import formatdate
from urllib.parse import parse_qsl, urlsplit

from shmfeed.simulator import bar

MINUTE = 60_000
AHEAD = 10  # minutes for which there are rows
LIMIT, PAGE_WEIGHT, INFO_WEIGHT = 6000, 2, 20


class CannedRest:
    """The last `count` bars of one minute of each symbol, and those to come."""

    def __init__(self, symbols: list[str], count: int, seed: int) -> None:
        now = time.time_ns() // 1_000_000 // MINUTE * MINUTE
        self._first = now - count * MINUTE
        self._rows = {
            symbol: [
                _row(bar(seed, symbol, "1m", self._first + n * MINUTE))
                for n in range(count + AHEAD)
            ]
            for symbol in symbols
        }
        self.weight = 0
        self.port = 0
        ready = threading.Event()
        threading.Thread(target=self._serve, args=(ready,), daemon=True).start()
        ready.wait()

    def _serve(self, ready: threading.Event) -> None:
        async def serve() -> None:
            server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
            self.port = server.sockets[0].getsockname()[1]
            ready.set()
            await server.serve_forever()

        asyncio.run(serve())

    async def _talk(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError):
                break
            target = head.split(b" ", 2)[1].decode()
            body = self._answer(target)
            lines = (
                "HTTP/1.1 200 OK",
                f"Date: {formatdate(usegmt=True)}",
                f"Content-Length: {len(body)}",
                f"X-MBX-USED-WEIGHT-1M: {self.weight}",
            )
            writer.write("\r\n".join([*lines, "", ""]).encode() + body)
            await writer.drain()
        writer.close()

    def _answer(self, target: str) -> bytes:
        parts = urlsplit(target)
        fields = dict(parse_qsl(parts.query))
        if parts.path.endswith("exchangeInfo"):
            self.weight += INFO_WEIGHT
            listed = [{"symbol": one, "status": "TRADING"} for one in self._rows]
            return json.dumps({"symbols": listed}).encode()
        self.weight += PAGE_WEIGHT
        now = time.time_ns() // 1_000_000
        limit = int(fields["limit"])
        last = (min(int(fields.get("endTime", now)), now) - self._first) // MINUTE + 1
        if "startTime" in fields:
            first = max(0, -(-(int(fields["startTime"]) - self._first) // MINUTE))
            last = min(last, first + limit)
        else:
            first = max(0, last - limit)
        return b"[" + b",".join(self._rows[fields["symbol"]][first:last]) + b"]"


def _row(one: tuple[float, ...]) -> bytes:
    opened, ends, *values = one[:8]
    prices = [f"{value:.8f}" for value in values]
    row = [opened, *prices[:5], ends - 1, prices[5], 480, "0", "0", "0"]
    return json.dumps(row).encode()
