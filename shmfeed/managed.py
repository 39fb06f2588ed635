"""The feeder as a manager's child: `python -m shmfeed.managed`.

Standard input: one line of JSON, {"manager", "pid", "settings"}, which may hold the
token, and then nothing until the manager ends or closes it. Standard output: one line
of JSON, {"running": pid} or {"error": class, "message": text}. Standard error: the log.
"""

import faulthandler
import json
import logging
import signal
import sys
import threading
from types import FrameType
from typing import Any

from shmfeed.config import Settings, from_json
from shmfeed.errors import FeedLostError, ShmfeedError
from shmfeed.feeder import Feeder

log = logging.getLogger(__name__)

EXIT_FAILED, EXIT_LOST = 1, 4
LINE_LIMIT = 4 << 20


def main() -> int:
    """Run the feeder that standard input describes; its exit code."""
    faulthandler.enable()
    order = json.loads(sys.stdin.buffer.readline(LINE_LIMIT))
    try:
        settings = from_json(json.dumps(order["settings"]).encode())
        set_up_logging(settings)
        feeder = Feeder(settings, order["manager"], order["pid"])
    except ShmfeedError as error:
        _report(error=type(error).__name__, message=str(error))
        return EXIT_FAILED
    stop_on_signals(feeder)
    _report(running=True)
    if settings.stop_with_manager:
        threading.Thread(target=_follow_manager, args=[feeder], daemon=True).start()
    return run(feeder)


def run(feeder: Feeder) -> int:
    """Run it to its end; the process's exit code."""
    try:
        feeder.run()
    except FeedLostError as error:
        log.error("%s", error)  # noqa: TRY400 # a fact about the host, not a bug here
        return EXIT_LOST
    return 0


def stop_on_signals(feeder: Feeder, unlink: bool = False) -> None:
    """SIGTERM and SIGINT end the feeder; the main thread only."""

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 # signal's
        feeder.stop(unlink)

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)


def set_up_logging(settings: Settings) -> None:
    """The log goes to `log_file`, or to standard error."""
    logging.raiseExceptions = False  # whoever read our standard error may have gone
    logging.basicConfig(
        filename=settings.log_file,
        level=settings.log_level,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )


def _follow_manager(feeder: Feeder) -> None:
    while sys.stdin.buffer.read(1):
        pass
    feeder.stop()


def _report(**fields: Any) -> None:
    print(json.dumps(fields), flush=True)


if __name__ == "__main__":
    sys.exit(main())
