"""The feeder as a manager's child: `python -m shmfeed.feeder.main`.

Standard input gets one line of JSON, {"manager", "pid", "name", "settings", ..}, which
may hold the token; it stays open until the manager ends or closes it. Standard output
gets one line, formatted as a control-socket answer: success, or the error that stopped
the start. Standard error has the log.
"""

import faulthandler
import json
import logging
import os
import sys
import threading

from shmfeed.control.messages import encode_answer, encode_error
from shmfeed.errors import FeedLostError, ShmfeedError, WebSocketConnectionError
from shmfeed.feeder.feeder import Feeder
from shmfeed.feeder.logs import EarlyLines, FeederLog
from shmfeed.feeder.signals import FeederSignals
from shmfeed.settings.model import from_json

log = logging.getLogger(__name__)

EXIT_FAILED, EXIT_GAVE_UP, EXIT_LOST = 1, 3, 4
LINE_LIMIT = 4 << 20
LAUNCH_ID = 0  # the id of the only request that comes this way


def main() -> int:
    """Run the feeder that standard input describes, and return its exit code."""
    faulthandler.enable()
    if not sys.stderr.isatty():
        # A manager that does not read the log must not block the feeder.
        os.set_blocking(sys.stderr.fileno(), False)
    line = sys.stdin.buffer.readline(LINE_LIMIT)
    if not line.endswith(b"\n"):
        return EXIT_FAILED  # the manager ended before it had written the line
    message = json.loads(line)
    signals = FeederSignals()
    try:
        with EarlyLines():
            settings = from_json(json.dumps(message["settings"]).encode())
            feeder_log = FeederLog(settings)
        feeder = Feeder(
            settings,
            message["manager"],
            message["pid"],
            name=message.get("name", ""),
            replace=message.get("replace", False),
            feeder_log=feeder_log,
            pause=signals.wait,
        )
        if message.get("asks_token", False):
            feeder.ask_for_tokens(message["manager"], message["pid"])
    except ShmfeedError as error:
        _report(encode_error(LAUNCH_ID, error))
        return EXIT_FAILED
    signals.give_to(feeder)
    _report(encode_answer(LAUNCH_ID, {"pid": os.getpid()}))
    if settings.stop_with_manager:
        watch = threading.Thread(
            target=_release_with_manager, args=[feeder, message["manager"]], daemon=True
        )
        watch.start()
    return run(feeder)


def run(feeder: Feeder) -> int:
    """Run a feeder to its end, and return the process's exit code."""
    try:
        feeder.run()
    except FeedLostError as error:
        log.error("%s", error)  # noqa: TRY400 # a fact about the host, not a bug here
        return EXIT_LOST
    except WebSocketConnectionError as error:
        log.error("%s", error)  # noqa: TRY400 # as above
        return EXIT_GAVE_UP
    except ShmfeedError as error:
        log.error("%s", error)  # noqa: TRY400 # as above
        return EXIT_FAILED
    except Exception:
        log.exception("the feeder failed, and its bars stay readable")
        return EXIT_FAILED
    log.info("the feeder has ended, as it was asked to")
    return 0


def _release_with_manager(feeder: Feeder, manager: str) -> None:
    # Read the descriptor itself. A thread that is blocked in sys.stdin holds its lock,
    # which would abort the process at exit.
    while os.read(sys.stdin.fileno(), 1):
        pass
    feeder.release(manager)


def _report(line: bytes) -> None:
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
