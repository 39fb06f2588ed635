"""The tiny venue as an ASGI application."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

from tiny_venue import acknowledge, messages

PACE = float(os.environ.get("PACE", "0.02"))


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    if scope["type"] == "lifespan":
        await _live(receive, send)
        return
    assert scope["type"] == "websocket", scope["type"]
    await receive()
    await send({"type": "websocket.accept"})
    said = await receive()
    await _say(send, acknowledge(said["text"]))
    sender = asyncio.create_task(_stream(send))
    while (await receive())["type"] != "websocket.disconnect":
        pass
    sender.cancel()


async def _stream(send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
    for wait, text in messages(PACE):
        await asyncio.sleep(wait)
        await _say(send, text)


async def _say(send: Callable[[dict[str, Any]], Awaitable[None]], text: str) -> None:
    await send({"type": "websocket.send", "text": text})


async def _live(
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return
