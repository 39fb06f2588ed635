"""THE DOOR OF THE PAGE: refuses requests before any of them reaches a route.

In this order: a method other than GET and HEAD (405), a target that is too long (414),
a `Host` that is not on the list (403), a request that another site's page makes (403),
and, where a token is set, a request without it (401).

A page on loopback answers each browser that resolves a name to 127.0.0.1, so a foreign
page could read it under its own name (DNS rebinding). The list of hosts prevents that.
An address in numbers is no name that a foreign page could have chosen.
"""

import base64
import binascii
import hmac
from collections.abc import Iterable
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shmfeed.observe.listening import is_accepted_host

MAX_TARGET = 2048  # bytes of a path with its query
METHODS = ("GET", "HEAD")
OPEN_PATHS = ("/livez", "/healthz")  # for probes, which have no token

_SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self';"
        " img-src 'self' data:; connect-src 'self'; base-uri 'none';"
        " form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_LOOPBACK_NAMES = ("localhost",)


class Guard:
    """An ASGI application that lets accepted requests through to another one."""

    def __init__(
        self, app: ASGIApp, *, is_local: bool, names: Iterable[str], token: str | None
    ) -> None:
        """Guard `app`.

        Args:
            app: The application.
            is_local: The server listens on loopback alone: of addresses in numbers,
                loopback's alone are accepted.
            names: Names of this host that are accepted beside `localhost`.
            token: The token that each request has to bring, None for none.
        """
        self._app = app
        self._is_local = is_local
        self._names = {name.lower() for name in (*_LOOPBACK_NAMES, *names)}
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # lifespan
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_SECURITY_HEADERS)
            await send(message)

        headers = Headers(scope=scope)
        refusal = self._refuse(scope, headers)
        if refusal is None:
            scope["shmfeed.has_token"] = self._has_token(headers)
            await self._app(scope, receive, send_guarded)
        else:
            await refusal(scope, receive, send_guarded)

    def _refuse(self, scope: Scope, headers: Headers) -> Response | None:
        if scope["method"] not in METHODS:
            return refusal(405, {"Allow": ", ".join(METHODS)})
        if len(scope["raw_path"]) + len(scope["query_string"]) > MAX_TARGET:
            return refusal(414)
        if not is_accepted_host(headers.get("host", ""), self._is_local, self._names):
            return refusal(403, reason="this name is not accepted as Host")
        if _is_from_another_site(headers):
            return refusal(403, reason="this request comes from another site")
        if scope["path"] not in OPEN_PATHS and not self._has_token(headers):
            challenge = 'Basic realm="shmfeed", charset="UTF-8"'
            return refusal(401, {"WWW-Authenticate": challenge})
        return None

    def _has_token(self, headers: Headers) -> bool:
        if self._token is None:
            return True
        given = token_of(headers.get("authorization", ""))
        return hmac.compare_digest(given.encode(), self._token.encode())


def refusal(
    code: int, headers: dict[str, str] | None = None, reason: str = ""
) -> Response:
    """Return an answer of a status and its words."""
    text = f"{code} {HTTPStatus(code).phrase}"
    return PlainTextResponse(f"{text}: {reason}" if reason else text, code, headers)


def token_of(authorization: str) -> str:
    """Return the token of a header `Authorization`, "" without one.

    It is that of `Bearer`, or the password of `Basic`, which a browser asks for.
    """
    scheme, _, rest = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() != "basic":
        return ""
    try:
        pair = base64.b64decode(rest.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
    return pair.partition(":")[2]


def _is_from_another_site(headers: Headers) -> bool:
    # A link may lead here; scripts, frames and images of another site may not.
    site, mode = headers.get("sec-fetch-site"), headers.get("sec-fetch-mode")
    return site in ("cross-site", "same-site") and mode != "navigate"
