"""The tiny venue in tornado: DESCRIPTOR PEM."""

import asyncio
import os
import socket
import ssl
import sys
from typing import Any

from tiny_venue import acknowledge, messages
from tornado.httpserver import HTTPServer
from tornado.web import Application
from tornado.websocket import WebSocketClosedError, WebSocketHandler

PACE = float(os.environ.get("PACE", "0.02"))


class Venue(WebSocketHandler):
    """One client."""

    def get_compression_options(self) -> dict[str, Any]:
        return {}  # the defaults, if the client offers compression

    async def on_message(self, message: str | bytes) -> None:
        await self.write_message(acknowledge(str(message)))
        try:
            for wait, text in messages(PACE):
                await asyncio.sleep(wait)
                await self.write_message(text)
        except WebSocketClosedError:
            pass


async def main() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2])
    application = Application([("/market_data", Venue)], websocket_ping_interval=0.4)
    listener = socket.socket(fileno=int(sys.argv[1]))
    listener.setblocking(False)
    HTTPServer(application, ssl_options=context).add_sockets([listener])
    await asyncio.Event().wait()


asyncio.run(main())
