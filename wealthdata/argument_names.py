"""Errors of a read in the argument names of the call that made it."""

import re
from collections.abc import Mapping

from shmfeed.errors import BadArgumentError


def rename(error: BadArgumentError, names: Mapping[str, str]) -> BadArgumentError:
    """Return the error with the arguments of `get_price` named as the caller's are.

    `names` has the caller's name of each argument. Only an error about an argument
    begins with its name, so the text of any other stays as it is.
    """
    text = str(error)
    words = "|".join(names)
    if not re.match(rf"({words})\b", text):
        return error
    return BadArgumentError(
        re.sub(rf"\b({words})\b", lambda found: names[found.group()], text)
    )
