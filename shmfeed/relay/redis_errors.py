"""Errors of Redis and of the way to it, in words for the operator.

Of a connection's failures some pass by themselves (EngineAwayError), and some need a
change of settings, rights or data (EngineRefusedError). The code of an answer decides,
wherever it stands: some servers put the answer of a command behind the words of the
script that ran it.
"""

import re
import socket
import ssl

from shmfeed.relay.engine import EngineAwayError, EngineRefusedError
from shmfeed.settings.endpoint import mask_secrets
from shmfeed.text import one_line


class ConnectionDroppedError(EngineAwayError):
    """The connection ended: the last command may have been run, or not."""


# Answers that pass: the code, and what it means.
_PASSING = {
    "OOM": "its memory is full and nothing of the flush was written: raise maxmemory,"
    " or give it less to hold",
    "READONLY": "it is a replica and takes no writes; its name is resolved again at the"
    " next attempt",
    "LOADING": "it is loading its data",
    "MISCONF": "it refuses writes because it cannot save to its disk: repair the disk,"
    " or set stop-writes-on-bgsave-error no",
    "BUSY": "a script of another client has kept it busy for seconds",
    "CLUSTERDOWN": "its cluster is down",
    "MASTERDOWN": "it is a replica that has lost its master",
    "TRYAGAIN": "its cluster is moving keys",
    "NOREPLICAS": "it has fewer replicas than min-replicas-to-write asks for",
    "UNBLOCKED": "it ended a wait because its role has changed",
}
# Answers that stay: the code, and what to do.
_LASTING = {
    "NOAUTH": "it asks for a password: set SHMFEED_REDIS_PASSWORD or"
    " redis_password_file",
    "WRONGPASS": "it refuses the password, or the user does not exist or is off",
    "NOPERM": "its ACL lacks a right for this user",
    "WRONGTYPE": "a key of this feed's name holds something that shmfeed did not write:"
    " delete it, or publish under another name",
    "CROSSSLOT": "it is a cluster that spreads the keys of one feed",
    "DENIED": "it is in protected mode and takes no client of another host: set a"
    " password on the server",
}
# redis-py turns these codes into classes, and takes them out of the text.
_CODE_OF_CLASS = {
    "OutOfMemoryError": "OOM",
    "ReadOnlyError": "READONLY",
    "BusyLoadingError": "LOADING",
    "NoPermissionError": "NOPERM",
    "ClusterDownError": "CLUSTERDOWN",
    "MasterDownError": "MASTERDOWN",
    "TryAgainError": "TRYAGAIN",
    "ClusterCrossSlotError": "CROSSSLOT",
    "AuthenticationError": "WRONGPASS",
}
_CODES = re.compile(rf"(?:^|[\s:-])({'|'.join([*_PASSING, *_LASTING])})(?=\s)")
# Texts that mean something else than their code, or have none.
_TEXTS = {
    "Authentication required": _LASTING["NOAUTH"],
    "without any password configured": "it knows no password: unset"
    " SHMFEED_REDIS_PASSWORD and redis_password_file",
    "but no password is set": "it knows no password: unset SHMFEED_REDIS_PASSWORD and"
    " redis_password_file",
    "DB index": "it has no database of this number",
    "SELECT is not allowed": "a cluster has database 0 alone",
    "can't run this command": _LASTING["NOPERM"],
    "unknown command": "it lacks a command, by its age or by its provider's choice",
    "Unknown Redis command": "it lacks a command, by its age or by its provider's"
    " choice",
}


def explain(
    error: Exception, command: str, server: str, secret: str = ""
) -> EngineAwayError | EngineRefusedError:
    """Return the error of a call, in words.

    Args:
        error: As redis-py or the socket raised it.
        command: The command that was sent.
        server: The server as host:port/db.
        secret: The password, which a server may repeat in its answer.
    """
    said = mask_secrets(str(error), {secret})
    names = {cls.__name__ for cls in type(error).__mro__}
    code = next((_CODE_OF_CLASS[name] for name in names & _CODE_OF_CLASS.keys()), "")
    if code or "ResponseError" in names:
        return _explain_answer(f"{code} {said}".strip(), command, server)
    if names & {"InvalidResponse", "ProtocolError"}:
        return EngineRefusedError(
            f"{server} does not speak Redis's protocol: {one_line(said, 100)}"
        )
    return _explain_failure(error, server)


def _explain_answer(
    text: str, command: str, server: str
) -> EngineAwayError | EngineRefusedError:
    text = one_line(text)
    meaning = next((means for part, means in _TEXTS.items() if part in text), "")
    found = _CODES.search(text)
    if not meaning and found is not None:
        if found[1] in _PASSING:
            return EngineAwayError(f"Redis {server}: {_PASSING[found[1]]} ({text})")
        meaning = _LASTING[found[1]]
    if meaning:
        return EngineRefusedError(
            f"Redis {server} refuses {command}: {meaning} ({text})"
        )
    return EngineAwayError(f"Redis {server} answers {command} with an error: {text}")


def _explain_failure(
    error: BaseException, server: str
) -> EngineAwayError | EngineRefusedError:
    cause = _cause_of(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return EngineRefusedError(
            f"Redis {server}: its certificate is refused: {cause.verify_message}"
        )
    if isinstance(cause, ssl.SSLError):
        reason = str(getattr(cause, "reason", None) or "").replace("_", " ").lower()
        return EngineAwayError(
            f"Redis {server}: TLS: {reason or cause.strerror or 'it failed'}"
        )
    if isinstance(cause, socket.gaierror):
        return EngineAwayError(f"Redis {server}: no such host: {cause.strerror}")
    if isinstance(cause, TimeoutError):
        return EngineAwayError(f"Redis {server} gave no answer in time")
    text = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    text = text[:1].lower() + text[1:]
    return ConnectionDroppedError(f"Redis {server}: {one_line(text.rstrip('.'))}")


def _cause_of(error: BaseException) -> BaseException:
    """Return the error of the socket behind those of redis-py."""
    seen = error
    while True:
        context = None if seen.__suppress_context__ else seen.__context__
        inner = seen.__cause__ or context
        if not isinstance(inner, OSError):
            return seen
        seen = inner
