"""The tiny venue in aiohttp: DESCRIPTOR PEM."""

import asyncio
import os
import socket
import ssl
import sys

from aiohttp import web
from tiny_venue import acknowledge, messages

PACE = float(os.environ.get("PACE", "0.02"))


async def serve(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse(heartbeat=0.4)
    await ws.prepare(request)
    await ws.send_str(acknowledge(await ws.receive_str()))
    sender = asyncio.create_task(stream(ws))
    async for _ in ws:
        pass
    sender.cancel()
    return ws


async def stream(ws: web.WebSocketResponse) -> None:
    for wait, text in messages(PACE):
        await asyncio.sleep(wait)
        await ws.send_str(text)


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2])
application = web.Application()
application.router.add_get("/market_data", serve)
web.run_app(
    application,
    sock=socket.socket(fileno=int(sys.argv[1])),
    ssl_context=context,
    print=None,
)
