"""A server of the wealthai protocol whose connections the test commands."""

import json
import time

from websockets.sync.server import ServerConnection


class HouseServer:
    """A handler for `loopback.venue`: it acknowledges, refuses, and leaves the rest.

    Attributes:
        connections: The connections that were acknowledged, in that order.
        symbols: The symbols that each of them asked for last.
        requests: The symbols of each CONNECT, refused ones too.
        refuse: Symbols to refuse; `names` says if the refusal names one.
        most: The most symbols of a connection.
        delay: Seconds before an answer to a new client.
        hangs_up: Close the connection after a refusal.
        answers: Answer a CONNECT; it may be set to False.
    """

    def __init__(self, *, names: bool = True, hangs_up: bool = False) -> None:
        self.connections: list[ServerConnection] = []
        self.symbols: dict[ServerConnection, list[str]] = {}
        self.requests: list[list[str]] = []
        self.refuse: set[str] = set()
        self.most = 1000
        self.delay = 0.0
        self.answers = True
        self.names, self.hangs_up = names, hangs_up

    def __call__(self, ws: ServerConnection) -> None:
        time.sleep(self.delay)
        for text in ws:
            said = json.loads(text)
            if said.get("type") != "CONNECT":
                continue
            self.requests.append(said["symbols"])
            if not self.answers:
                continue
            reply = {"request_id": said["request_id"], **self._reply(said["symbols"])}
            if reply["type"] == "CONNECTED":
                self.symbols[ws] = said["symbols"]
                if ws not in self.connections:
                    self.connections.append(ws)
            ws.send(json.dumps(reply))
            if reply["type"] == "ERROR" and self.hangs_up:
                return

    def _reply(self, symbols: list[str]) -> dict[str, str]:
        bad = sorted(self.refuse.intersection(symbols))
        if bad:
            words = f"unknown symbol {bad[0]}" if self.names else "refused"
            return {"type": "ERROR", "message": words}
        if len(symbols) > self.most:
            return {"type": "ERROR", "message": "refused"}
        return {"type": "CONNECTED"}
