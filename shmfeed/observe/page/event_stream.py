"""Server-sent events: what has changed, for one open page.

A page that reads slowly is sent fewer, larger messages: each is made when the one
before it has gone out. The connection's own limit ends a page that reads nothing.
"""

import asyncio

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from shmfeed.observe.page.hub import Hub

RETRY_MS = 1000  # a browser connects again after so long

_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class EventStream(Response):
    """The answer that lasts as long as the page, or until the server stops."""

    media_type = "text/event-stream"

    def __init__(self, hub: Hub) -> None:
        super().__init__(headers=_HEADERS)
        del self.headers["content-length"]
        self._hub = hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {
            "type": "http.response.start",
            "status": self.status_code,
            "headers": self.raw_headers,
        }
        await send(start)
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body"})
            return
        self._hub.open_page()
        try:
            await self._until_gone(receive, send)
        finally:
            self._hub.close_page()

    async def _until_gone(self, receive: Receive, send: Send) -> None:
        # A generator alone goes on after its browser has gone, until its next message.
        gone = asyncio.create_task(_disconnect(receive))
        told = asyncio.create_task(self._tell(send))
        try:
            await asyncio.wait((gone, told), return_when=asyncio.FIRST_COMPLETED)
        finally:
            is_told = told.done()
            gone.cancel()
            told.cancel()
            await asyncio.gather(gone, told, return_exceptions=True)
        if is_told:
            told.result()  # raises what ended it

    async def _tell(self, send: Send) -> None:
        hub, version = self._hub, 0
        await hub.refresh()
        await _send_text(send, f"retry: {RETRY_MS}\n\n".encode())
        while True:
            await hub.next_version(version)
            if hub.is_stopping:
                await send({"type": "http.response.body"})
                return
            data = hub.model.message_since(version)
            version = hub.model.version
            await _send_text(send, b"data: %b\n\n" % data)


async def _send_text(send: Send, text: bytes) -> None:
    await send({"type": "http.response.body", "body": text, "more_body": True})


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
