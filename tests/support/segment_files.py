"""Damaged segments, put in place whole.

Another test may list all feeds of this user at any time. A segment that shrinks while
the listing maps it takes that test's process with it, by SIGBUS.
"""

import os
from pathlib import Path


def put(path: Path, content: bytes, size: int | None = None) -> None:
    """Replace a segment by a new file of this content.

    The new file is truncated or extended to `size` before it has the segment's name,
    and a mapping of the old file keeps its pages.
    """
    built = path.with_name(f"{path.name}~put")  # no feed name holds a tilde
    built.touch(0o600)
    built.write_bytes(content)
    if size is not None:
        os.truncate(built, size)
    built.replace(path)
