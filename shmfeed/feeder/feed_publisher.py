"""The process that publishes a feeder's feed to other hosts, as `publish_to` says."""

import logging
from typing import Self

from shmfeed.errors import BadArgumentError
from shmfeed.settings.model import Settings, from_checked, to_json
from shmfeed.supervised_process import SupervisedProcess

log = logging.getLogger(__name__)

# The settings that the process needs: it is given no secret of the venue.
_NAMES = (
    "feed",
    "publish_to",
    "flush_interval",
    "redis_password",
    "redis_password_file",
    "allow_insecure",
    "ca_file",
    "client_cert",
    "log_level",
)
_Order = tuple[bytes, str]  # the settings, and the password that is in a file


class FeedPublisher:
    """The publisher of one feed, or none without `publish_to`.

    A context manager: the process runs within it, and is started again where it ends.
    Only the main loop uses it.
    """

    def __init__(self, settings: Settings) -> None:
        self._feed = settings.feed
        self._is_open = False
        self._process: SupervisedProcess | None = None
        self._order: _Order | None = None
        self.use(settings)

    def use(self, settings: Settings) -> None:
        """Publish as these settings say; a change of them replaces the process."""
        try:
            order = _order_of(settings)
        except BadArgumentError as error:
            log.warning("feed %s is published as before: %s", self._feed, error)
            return
        if order != self._order:
            self._order = order
            if self._is_open:
                self._replace()

    def __enter__(self) -> Self:
        self._is_open = True
        self._replace()
        return self

    def __exit__(self, *exc: object) -> None:
        self._is_open = False
        process, self._process = self._process, None
        if process is not None:
            process.close()

    def _replace(self) -> None:
        before, self._process = self._process, None
        if before is not None:
            before.close(0.0)  # the main loop does not wait for Redis
        if self._order is not None:
            self._process = SupervisedProcess(
                "shmfeed.relay.child", self._feed, "publish_to", self._order[0]
            )
            self._process.start()


def _order_of(settings: Settings) -> _Order | None:
    """Return what the process is to do, None if nothing is to be published.

    Raises BadArgumentError if the password cannot be read.
    """
    if settings.publish_to is None:
        return None
    chosen = from_checked({name: getattr(settings, name) for name in _NAMES})
    return to_json(chosen), settings.read_redis_password()
