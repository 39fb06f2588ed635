"""The files of a run: one, or one for each feed that its symbols name."""

from collections.abc import Sequence
from pathlib import Path

from shmfeed.errors import BadArgumentError
from shmfeed.text import repr_short
from shmfeed.validation import check_feed_name
from wealthdata.carried import list_of


def split_feed(text: str) -> tuple[str, str]:
    """Return the feed and the file of FEED=FILE; "" and the file if it names none.

    Raise BadArgumentError if the name is not one of a feed.
    """
    name, equals, path = text.partition("=")
    if not equals or "/" in name or Path(text).exists():
        return "", text
    return check_feed_name(name), path


def files_by_feed(
    option: str, files: Sequence[str], feeds: Sequence[str]
) -> dict[str, str]:
    """Return the file of each feed.

    Args:
        option: The option that names the files, for messages.
        files: Each `FILE`, or `FEED=FILE`.
        feeds: The feeds of the symbols.

    Raises:
        BadArgumentError: A feed has no file, or two; or a file has no feed.
    """
    named: dict[str, str] = {}
    plain: list[str] = []
    for text in files:
        name, path = split_feed(text)
        if not name:
            plain.append(path)
        elif name in named:
            raise BadArgumentError(f"{option} names feed {name!r} twice")
        else:
            named[name] = path
    lacking = [name for name in feeds if name not in named]
    if plain and len(plain) == len(lacking) == 1:
        named[lacking[0]] = plain.pop()
        lacking = []
    if plain or lacking:
        wanted = " ".join(f"{option} {name}=FILE" for name in feeds)
        raise BadArgumentError(
            f"{option} is {repr_short(' '.join(files))}, and the symbols are of feed"
            f" {list_of(feeds)}; give one file for each feed: {wanted}"
        )
    return named
