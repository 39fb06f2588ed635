"""The request `history`: a manager answers a question, and waits for the next one."""

from typing import Any

from shmfeed.control.messages import ControlRequest
from shmfeed.control.peer import Peer
from shmfeed.errors import BadArgumentError
from shmfeed.history.interface import HistorySource
from shmfeed.history.manager_source import ManagerAnswer, ManagerSource


def serve_history(
    source: HistorySource | None, request: ControlRequest
) -> dict[str, Any]:
    """Return the next question of the feeder; number 0 says that it has none now.

    A control thread calls it, and waits as long as the request says.

    Raises:
        BadArgumentError: The feeder takes no history from a manager.
    """
    if not isinstance(source, ManagerSource):
        raise BadArgumentError(
            "this feeder takes no history from a function of a manager; its setting"
            " backfill says where from"
        )
    answer = ManagerAnswer(request.number, request.rows, request.failure, request.kind)
    question = source.exchange(
        answer, lambda: Peer.of(request.pid).may_run, request.wait
    )
    return question._asdict() if question is not None else {"number": 0}


def send_managers_away(source: HistorySource | None) -> None:
    """Return from the requests that wait for a question: a manager may want to end."""
    if isinstance(source, ManagerSource):
        source.send_away()
