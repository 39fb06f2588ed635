"""The routes of the page, behind its door."""

from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp

from shmfeed.errors import (
    BadArgumentError,
    FeedNotFoundError,
    ShmfeedError,
    StreamNotFoundError,
)
from shmfeed.observe.page.bars import MAX_BARS, read_bars
from shmfeed.observe.page.event_stream import EventStream
from shmfeed.observe.page.guard import Guard, refusal
from shmfeed.observe.page.hub import Hub
from shmfeed.observe.page.model import PageModel
from shmfeed.observe.page.render import render_page
from shmfeed.observe.page.static_files import PREFIX, addresses, load_files
from shmfeed.text import repr_short
from shmfeed.validation import check_feed_name

MAX_PAGES = 128  # open at once
DEFAULT_BARS = 500

_MAX_DIGITS = 9  # of a number of bars

_FRESH = {"Cache-Control": "no-store"}


class Pages:
    """The answers of all routes, from one hub."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._files = load_files()
        self._urls = addresses(self._files)
        self._rendered = (0, b"")  # the document, and the version of its model

    def routes(self) -> list[Route]:
        """Return the routes. Each answers GET and HEAD."""
        return [
            Route("/", self.document),
            Route("/events", self.events),
            Route("/api/feeds", self.feeds),
            Route("/api/bars", self.bars),
            Route("/healthz", self.healthz),
            Route("/livez", self.livez),
            Route(f"{PREFIX}{{name}}", self.static),
        ]

    async def document(self, _request: Request) -> Response:
        """Return the page, rendered once a sample."""
        await self._hub.refresh()
        model = self._hub.model
        if self._rendered[0] != model.version:
            text = render_page(model, self._urls)
            self._rendered = model.version, text.encode()
        return HTMLResponse(self._rendered[1], headers=_FRESH)

    async def events(self, _request: Request) -> Response:
        """Return the stream of changes, unless too many pages are open."""
        if self._hub.pages >= MAX_PAGES:
            return refusal(503, {"Retry-After": "10"}, f"{MAX_PAGES} pages are open")
        return EventStream(self._hub)

    async def feeds(self, request: Request) -> Response:
        """Return the status of each feed, or of the feeds that `feed` names."""
        await self._hub.refresh()
        named = request.query_params.getlist("feed")
        found = self._hub.statuses
        if named:
            found = [status for status in found if status["feed"] in named]
        missing = set(named) - {status["feed"] for status in found}
        if missing:
            return _error(404, f"this page does not show feed {min(missing)!r}")
        return _json(found)

    async def bars(self, request: Request) -> Response:
        """Return the bars of `feed`, `symbol` and `timeframe`, the last `n`."""
        try:
            asked = self._asked_bars(request.query_params)
            return _json(await self._hub.read(read_bars, *asked, self._hub.owner))
        except BadArgumentError as error:
            return _error(400, str(error))
        except FeedNotFoundError as error:
            return _error(404, error.strerror or str(error))
        except StreamNotFoundError as error:
            return _error(404, str(error))
        except ShmfeedError as error:
            return _error(503, str(error))

    def _asked_bars(self, query: QueryParams) -> tuple[str, str, str, int]:
        for name in ("feed", "symbol", "timeframe"):
            if name not in query:
                raise BadArgumentError(f"{name} is missing in the query")
        feed = check_feed_name(query["feed"])
        shown = self._hub.feeds
        if shown is not None and feed not in shown:
            raise FeedNotFoundError(f"this page does not show feed {feed!r}")
        text = query.get("n", str(DEFAULT_BARS))
        is_number = text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS
        number = int(text) if is_number else 0
        if not number:
            raise BadArgumentError(
                f"n is {repr_short(text)}; give a number from 1 to {MAX_BARS}"
            )
        return feed, query["symbol"], query["timeframe"], min(number, MAX_BARS)

    async def healthz(self, request: Request) -> Response:
        """Return 200 if each feed, or each that `feed` names, is live or quiet."""
        await self._hub.refresh()
        model = self._hub.model
        asked = request.query_params.getlist("feed") or list(model.feeds)
        is_good = model.is_good(asked)
        lines = ["ok" if is_good else "not ok"]
        if request.scope["shmfeed.has_token"]:
            lines += [_health_line(model, feed) for feed in dict.fromkeys(asked)]
        return _text("\n".join(lines), 200 if is_good else 503)

    async def livez(self, _request: Request) -> Response:
        """Return 200."""
        return _text("ok", 200)

    async def static(self, request: Request) -> Response:
        """Return a file of the page."""
        file = self._files.get(request.path_params["name"])
        if file is None:
            return refusal(404)
        is_tagged = request.url.query == file.tag
        kept = "public, max-age=31536000, immutable" if is_tagged else "no-cache"
        headers = {"Cache-Control": kept, "ETag": f'"{file.tag}"'}
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(file.content, headers=headers, media_type=file.media_type)


def make_app(
    hub: Hub,
    *,
    is_local: bool,
    names: Sequence[str] = (),
    token: str | None = None,
) -> ASGIApp:
    """Return the application that serves the page of a hub."""
    router = Router(Pages(hub).routes(), redirect_slashes=False)
    return Guard(router, is_local=is_local, names=names, token=token)


def _health_line(model: PageModel, feed: str) -> str:
    if feed not in model.feeds:
        return f"{repr_short(feed)}: this page does not show such a feed"
    return f"{feed}: {model.feeds[feed]['health']}"


def _json(value: Any, code: int = 200) -> Response:
    body = msgspec.json.encode(value)  # NaN becomes null
    return Response(body, code, _FRESH, media_type="application/json")


def _error(code: int, text: str) -> Response:
    return _json({"error": text}, code)


def _text(text: str, code: int) -> Response:
    return Response(f"{text}\n", code, _FRESH, media_type="text/plain")
