"""The files of the page: in memory, by name, so that no path leads to another file."""

import hashlib
from pathlib import Path
from typing import NamedTuple

from shmfeed.observe import charts

PREFIX = "/static/"

_FOLDER = Path(__file__).parent / "static"
_JAVASCRIPT = "text/javascript"
# By name: the media type. The tests check each script with node.
OWN_FILES = {
    "page.css": "text/css",
    "format.js": _JAVASCRIPT,
    "chart.js": _JAVASCRIPT,
    "events.js": _JAVASCRIPT,
    "page.js": _JAVASCRIPT,
    "worker.js": _JAVASCRIPT,
}


class StaticFile(NamedTuple):
    """A file, its media type, and a tag that changes with its content."""

    content: bytes
    media_type: str
    tag: str


def load_files() -> dict[str, StaticFile]:
    """Return all files by name."""
    texts = {
        name: ((_FOLDER / name).read_text(encoding="utf-8"), kind)
        for name, kind in OWN_FILES.items()
    }
    texts["charts.js"] = charts.read_script(), _JAVASCRIPT
    texts["NOTICE"] = charts.read_notice(), "text/plain"
    return {name: _file(text, kind) for name, (text, kind) in texts.items()}


def addresses(files: dict[str, StaticFile]) -> dict[str, str]:
    """Return the addresses of all files, by their names as a template writes them.

    An address holds the file's tag: after an upgrade a browser asks for the new file.
    """
    return {
        name.lower().replace(".", "_"): f"{PREFIX}{name}?{file.tag}"
        for name, file in files.items()
    }


def _file(text: str, media_type: str) -> StaticFile:
    content = text.encode()
    return StaticFile(content, media_type, hashlib.sha256(content).hexdigest()[:16])
