"""A manager's function that returns the venue's token.

The function is called at each launch of a feeder, and when a feeder asks because it is
about to dial. It runs in a thread of its own, so that it delays no supervision, and one
call at a time. Its exceptions are named by their class alone: a text may hold a secret.
"""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from shmfeed.errors import BadArgumentError, ShmfeedError, WebSocketConnectionError
from shmfeed.settings.schema import TOKEN, check_setting

LIMIT = 10.0  # s, for the function to return
TOKEN_SECONDS = 2.0  # for which its token serves further dials
SLOW_SECONDS = 0.5  # s of work after which a start that fails names the function

log = logging.getLogger(__name__)

TokenFunction = Callable[[], str]


class TokenSource:
    """The function of one manager, and its last token.

    Thread safety: one thread at a time may call the methods.
    """

    def __init__(self, function: TokenFunction) -> None:
        self.function = function
        self._thread: threading.Thread | None = None
        self._begun = 0.0
        self._token: str | None = None
        self._failure = ""
        self._served: tuple[int, int] = (0, 0)  # the last request: feeder, number

    @property
    def is_slow(self) -> bool:
        """True if the function has been at work for a while."""
        thread = self._thread
        if thread is None or not thread.is_alive():
            return False
        return time.monotonic() - self._begun > SLOW_SECONDS

    def take(self) -> str | None:
        """Return a token of the last TOKEN_SECONDS, or None while the function works.

        Raises:
            WebSocketConnectionError: The function has failed, or hangs.
        """
        now = time.monotonic()
        if self._thread is not None:
            if self._thread.is_alive():
                if now - self._begun > LIMIT:
                    raise WebSocketConnectionError(
                        f"the csrf_token function has not returned within {LIMIT:g} s"
                    )
                return None
            self._thread = None
            if self._token is None:
                raise WebSocketConnectionError(
                    f"the csrf_token function has failed: {self._failure}"
                )
            self._begun = now
            return self._token
        if self._token is not None and now - self._begun < TOKEN_SECONDS:
            return self._token
        self._token, self._begun = None, now
        self._thread = threading.Thread(
            target=self._call, name="shmfeed-token", daemon=True
        )
        self._thread.start()
        return None

    def serve(self, request: tuple[int, int], send: Callable[[str], object]) -> None:
        """Answer a feeder's request, given as its pid and number, by `send`.

        Call it until the request is another one. An empty token says that there is no
        new one.
        """
        if not request[1] or request == self._served:
            return
        try:
            token = self.take()
        except WebSocketConnectionError as error:
            log.warning("feeder %d keeps its last token: %s", request[0], str(error))
            token = ""
        if token is not None:
            self._served = request
            with suppress(ShmfeedError):  # the feeder has ended, and asks no more
                send(token)

    def _call(self) -> None:
        try:
            self._token = str(check_setting(TOKEN, self.function()))
        except BadArgumentError as error:  # its text shows no token
            self._failure = str(error)
        except BaseException as error:  # noqa: BLE001 # whatever a user's function does
            self._failure = type(error).__name__
