"""From what a user gives as an endpoint to the complete URLs to try."""

from collections.abc import Callable, Iterator, Sequence
from urllib.parse import SplitResult, urlsplit, urlunsplit

from shmfeed.errors import BadArgumentError
from shmfeed.settings.endpoint import check


def complete(
    given: Sequence[str], ports: Sequence[int], path: Callable[[str], str]
) -> list[str]:
    """Each endpoint with each of the ports that it may have, once, in order.

    `path` makes an endpoint's path the one to connect to. Raises BadArgumentError.
    """
    urls = [
        urlunsplit((parts.scheme, netloc, path(parts.path), parts.query, ""))
        for parts in (urlsplit(check(endpoint)) for endpoint in given)
        for netloc in _netlocs(parts, ports)
    ]
    return list(dict.fromkeys(urls))


def _netlocs(parts: SplitResult, ports: Sequence[int]) -> Iterator[str]:
    if parts.port is None:
        yield from (f"{parts.netloc}:{port}" for port in ports)
        if not ports:
            yield parts.netloc
    elif not ports or parts.port in ports:
        yield parts.netloc
    else:
        raise BadArgumentError(
            f"port {list(ports)} contradicts the endpoint's own, {parts.port}: leave"
            " one of them out"
        )
