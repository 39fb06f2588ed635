"""The feeder as a manager's child: `python -m shmfeed.feeder.main`.

Standard input: one line of JSON, {"manager", "pid", "settings"}, which may hold the
token, and then nothing until the manager ends or closes it. Standard output: one line,
as the control socket answers: that the feeder runs, or the error that it could not.
Standard error: the log.
"""

import faulthandler
import json
import logging
import os
import signal
import sys
import threading
from types import FrameType

from shmfeed.control.messages import encode_answer, encode_refusal
from shmfeed.errors import BadArgumentError, FeedLostError, ShmfeedError
from shmfeed.feeder.feeder import Feeder
from shmfeed.settings.model import Settings, from_json

log = logging.getLogger(__name__)

EXIT_FAILED, EXIT_LOST = 1, 4
LINE_LIMIT = 4 << 20
ORDER = 0  # the id of the only request that comes this way
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def main() -> int:
    """Run the feeder that standard input describes; its exit code."""
    faulthandler.enable()
    if not sys.stderr.isatty():
        # A manager that does not read our log must not keep us from our work.
        os.set_blocking(sys.stderr.fileno(), False)
    line = sys.stdin.buffer.readline(LINE_LIMIT)
    if not line.endswith(b"\n"):
        return EXIT_FAILED  # the manager ended before it had said what to do
    order = json.loads(line)
    try:
        settings = from_json(json.dumps(order["settings"]).encode())
        set_up_logging(settings)
        feeder = Feeder(settings, order["manager"], order["pid"])
    except ShmfeedError as error:
        _report(encode_refusal(ORDER, error))
        return EXIT_FAILED
    stop_on_signals(feeder)
    _report(encode_answer(ORDER, {"pid": os.getpid()}))
    if settings.stop_with_manager:
        follow = threading.Thread(
            target=_follow, args=[feeder, order["manager"]], daemon=True
        )
        follow.start()
    return run(feeder)


def run(feeder: Feeder) -> int:
    """Run it to its end; the process's exit code."""
    try:
        feeder.run()
    except FeedLostError as error:
        log.error("%s", error)  # noqa: TRY400 # a fact about the host, not a bug here
        return EXIT_LOST
    except ShmfeedError as error:
        log.error("%s", error)  # noqa: TRY400 # as above
        return EXIT_FAILED
    return 0


def stop_on_signals(feeder: Feeder, unlink: bool = False) -> None:
    """SIGTERM, SIGINT and SIGHUP end the feeder; the main thread only."""

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 # signal's
        feeder.stop(unlink)

    signals = {signal.SIGTERM, signal.SIGINT}
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
        signals.add(signal.SIGHUP)
    for number in signals:
        signal.signal(number, handle)
    # Whoever launched us may have had them blocked, and we inherit that.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)


def set_up_logging(settings: Settings) -> None:
    """The log goes to `log_file`, or to standard error; BadArgumentError."""
    logging.raiseExceptions = False  # whoever read our standard error may have gone
    try:
        logging.basicConfig(
            filename=settings.log_file, level=settings.log_level, format=LOG_FORMAT
        )
    except OSError as error:
        raise BadArgumentError(
            f"log_file is {settings.log_file!r}, which cannot be written:"
            f" {error.strerror}"
        ) from None


def _follow(feeder: Feeder, manager: str) -> None:
    # Past the buffer of sys.stdin: its lock, held here, would abort our exit.
    while os.read(sys.stdin.fileno(), 1):
        pass
    feeder.release(manager)


def _report(line: bytes) -> None:
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
