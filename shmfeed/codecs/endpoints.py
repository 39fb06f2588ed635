"""From a user's endpoints to the complete URLs to try."""

from collections.abc import Callable, Iterator, Sequence
from urllib.parse import SplitResult, urlsplit, urlunsplit

from shmfeed.errors import BadArgumentError
from shmfeed.settings.endpoint import check_endpoint


def expand(
    given: Sequence[str],
    ports: Sequence[int],
    complete: Callable[[SplitResult], SplitResult],
    check: Callable[[str], str] = check_endpoint,
) -> list[str]:
    """Return the URL of each endpoint and port, in order, without duplicates.

    `complete` gives an endpoint the path and the query to connect to. `check` returns
    an endpoint that is accepted, and raises for any other.

    Raises:
        BadArgumentError: An endpoint is not accepted, or names a port that is not
            among `ports`.
    """
    urls = [
        urlunsplit(complete(parts)._replace(netloc=netloc, fragment=""))
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
        shown = f"{parts.scheme}://{parts.netloc}"
        raise BadArgumentError(
            f"endpoint {shown!r} names port {parts.port}, port is {list(ports)}; leave"
            " one of them out"
        )
