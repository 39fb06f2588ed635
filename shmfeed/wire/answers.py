"""An HTTP answer: its header and the beginning of its body, read within limits.

The header is read as RFC 9110 and RFC 9112 have it: names in any case, fields that come
several times, folded lines, spaces around values, lines that end without a carriage
return, and interim answers (103) before the final one.
"""

import re
from typing import NamedTuple

from shmfeed.text import one_line
from shmfeed.wire.asked_wait import parse_http_date, wait_of_answer
from shmfeed.wire.errors import ConnectionLostError, HandshakeError
from shmfeed.wire.tcp import ConnectDeadline, Steps, WireSocket, receive_some

MAX_HEADER_BYTES = 16 << 10
MAX_BODY_BYTES = 2 << 10  # of a refusal: its words stand at the beginning
BODY_SECONDS = 1.0  # to read them; a status without words is better than none

_SWITCHING = 101
_HEADER_END = re.compile(rb"\r?\n\r?\n")
_STATUS = re.compile(r"HTTP/1\.[01] ([0-9]{3})(?: (.*))?", re.DOTALL)
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?\r?\n")
_TITLE = re.compile(r"<title[^>]*>([^<]*)", re.IGNORECASE)
_TAG = re.compile(r"<[^>]*>")


class Answer(NamedTuple):
    """The status and the header of an answer; the names of `fields` in lower case."""

    code: int
    reason: str
    fields: dict[str, list[str]]

    def one(self, name: str) -> str:
        """Return the value of a field, which may be there once; "" if it is absent.

        Raises:
            HandshakeError: It is there more than once, with different values.
        """
        values = set(self.fields.get(name, ()))
        if len(values) > 1:
            raise HandshakeError(f"the answer has several {name} fields that differ")
        return values.pop() if values else ""

    def tokens(self, name: str) -> list[str]:
        """Return the members of a list field, over all its lines, in lower case."""
        members = ",".join(self.fields.get(name, ())).split(",")
        return [member.strip(" \t").lower() for member in members if member.strip()]

    def status_with(self, words: str) -> str:
        """Return the status, its reason, and the words of the body if there are any."""
        status = f"{self.code} {self.reason}".rstrip()
        return f"{status}: {words}" if words else status

    @property
    def server_time(self) -> int | None:
        """The answer's `Date`, ms UTC; None without a valid one."""
        dates = [parse_http_date(date) for date in self.fields.get("date", ())]
        return dates[0] if len(dates) == 1 else None

    def wait(self, words: str) -> float:
        """Return the seconds that the answer, with these words, asks to wait."""
        asked = self.fields.get("retry-after", [])
        return wait_of_answer(self.code, asked, words, self.server_time)


def parse_answer(head: bytes) -> Answer:
    """Return the answer that a header, without its empty line, states.

    Raises:
        HandshakeError: It is not HTTP.
    """
    status, *lines = head.decode("latin-1").replace("\r\n", "\n").split("\n")
    match = _STATUS.fullmatch(status)
    if match is None:
        raise HandshakeError("the answer is not HTTP")
    fields: dict[str, list[str]] = {}
    for line in _unfolded(lines):
        name, colon, value = line.partition(":")
        if not colon:
            raise HandshakeError("the answer has a header line without a colon")
        fields.setdefault(name.strip(" \t").lower(), []).append(value.strip(" \t"))
    return Answer(int(match[1]), one_line(match[2] or "", 80), fields)


def read_answer(
    sock: WireSocket, deadline: ConnectDeadline
) -> Steps[tuple[Answer, bytes]]:
    """Return the final answer, and the bytes that came behind its header.

    Raises:
        ConnectionLostError: It is not HTTP, too long, or does not come.
    """
    data = b""
    left = MAX_HEADER_BYTES
    while True:
        end = _HEADER_END.search(data)
        if end is None:
            data += yield from _more(sock, left - len(data), deadline)
            continue
        answer = parse_answer(data[: end.start()])
        data = data[end.end() :]
        if answer.code // 100 != 1 or answer.code == _SWITCHING:
            return answer, data
        left -= end.end()  # an interim answer; the final one follows


def read_body(
    sock: WireSocket, answer: Answer, data: bytes, deadline: ConnectDeadline
) -> Steps[bytes]:
    """Return the beginning of an answer's body; `data` is what came of it already.

    Reading takes at most BODY_SECONDS. A failure ends it and is not raised; the bytes
    before it are the body.
    """
    deadline = deadline.at_most(BODY_SECONDS)
    body, is_whole = body_in(answer, data)
    try:
        while not is_whole and len(data) < MAX_BODY_BYTES:
            more = yield from receive_some(sock, MAX_BODY_BYTES - len(data), deadline)
            if not more:
                break
            data += more
            body, is_whole = body_in(answer, data)
    except (OSError, ConnectionLostError):
        pass
    return body


def body_in(answer: Answer, data: bytes) -> tuple[bytes, bool]:
    """Return the body in `data`, behind a header, and whether it is there whole."""
    data = data[:MAX_BODY_BYTES]
    if "chunked" in answer.tokens("transfer-encoding"):
        return _dechunked(data)
    sizes = [size for size in answer.tokens("content-length") if size.isdecimal()]
    if not sizes:
        return data, False
    size = min(MAX_BODY_BYTES, *(int(size[:9]) for size in sizes))
    return data[:size], len(data) >= size


def words_of(answer: Answer, body: bytes) -> str:
    """Return the words of a body as one line; of a page in HTML its title."""
    if answer.tokens("content-encoding"):  # compressed, which no request asked for
        return ""
    text = body.decode("utf-8", "replace")
    if "<" in text[:256] and ("html" in text[:256].lower()):
        title = _TITLE.search(text)
        text = title[1] if title else _TAG.sub(" ", text)
    words = one_line(text)
    return (
        ""
        if words.lower() in {answer.status_with("").lower(), answer.reason.lower()}
        else words
    )


def _unfolded(lines: list[str]) -> list[str]:
    """Return header lines, each with the folded lines that continue it."""
    whole: list[str] = []
    for line in lines:
        if line[:1] in {" ", "\t"} and whole:
            whole[-1] += " " + line.strip(" \t")
        elif line.strip(" \t"):
            whole.append(line)
    return whole


def _more(sock: WireSocket, most: int, deadline: ConnectDeadline) -> Steps[bytes]:
    if most <= 0:
        raise ConnectionLostError(
            f"the answer to the handshake is longer than {MAX_HEADER_BYTES} bytes"
        )
    data = yield from receive_some(sock, most, deadline)
    if not data:
        raise ConnectionLostError(
            "the server closed the connection during the handshake"
        )
    return data


def _dechunked(data: bytes) -> tuple[bytes, bool]:
    body, at = b"", 0
    while size := _CHUNK_SIZE.match(data, at):
        count = int(size[1], 16)
        if not count:
            return body, True
        start = size.end()
        body += data[start : start + count]
        at = start + count
        at += 2 if data[at : at + 2] == b"\r\n" else 1
    # A size line that is not complete yet, or not one at all.
    return body, b"\n" in data[at:]
