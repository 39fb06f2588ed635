"""The user's session: systemd removes shared memory at the last logout."""

import os
import re
from pathlib import Path

from shmfeed.doctor.finding import Finding, note, ok, problem

_FIRST_NORMAL_UID = 1000
_FOLDERS = ("usr/lib/systemd", "usr/local/lib/systemd", "run/systemd", "etc/systemd")
_SETTING = re.compile(r"^\s*RemoveIPC\s*=\s*(\S+)\s*$", re.IGNORECASE)
_TRUE = {"1", "yes", "true", "on", "y", "t"}
_NAME = "user session"


def check_session(root: Path = Path("/"), uid: int | None = None) -> Finding:
    """Whether feeds of this user survive the last logout."""
    if not (root / "run/systemd/system").is_dir():
        return ok(_NAME, "no systemd runs here: nothing is removed at a logout")
    uid = os.geteuid() if uid is None else uid
    if uid < _FIRST_NORMAL_UID:
        return ok(_NAME, f"user {uid} is a system user, whose memory systemd leaves")
    name = user_name(uid, root)
    if (root / "var/lib/systemd/linger" / name).exists():
        return ok(_NAME, f"user {name} lingers: nothing is removed at a logout")
    remedy = f"as root: loginctl enable-linger {name}; or run it as a system user"
    stated = remove_ipc(root)
    if stated is None:
        return note(
            _NAME,
            f"systemd may remove the feeds of user {name} at the last logout:"
            " logind.conf does not say, and RemoveIPC is yes unless it was built else",
            remedy,
        )
    if not stated:
        return ok(_NAME, "RemoveIPC=no: nothing is removed at a logout")
    return problem(
        _NAME,
        f"RemoveIPC=yes: systemd removes the feeds of user {name} at the last logout,"
        " also of a feeder that goes on",
        remedy,
    )


def remove_ipc(root: Path) -> bool | None:
    """What logind's files say of RemoveIPC, the last of them; None: nothing."""
    main = [path for top in _FOLDERS if (path := root / top / "logind.conf").is_file()]
    # Of the main files the most particular counts; drop-ins go by their names.
    drops: dict[str, Path] = {}
    for top in _FOLDERS:
        for path in (root / top / "logind.conf.d").glob("*.conf"):
            drops[path.name] = path
    stated = None
    for path in [*main[-1:], *(drops[name] for name in sorted(drops))]:
        for line in _lines(path):
            found = _SETTING.match(line)
            if found:
                stated = found[1].lower() in _TRUE
    return stated


def user_name(uid: int, root: Path = Path("/")) -> str:
    """The name of a user, or its number."""
    for line in _lines(root / "etc/passwd"):
        fields = line.split(":")
        if len(fields) > 2 and fields[2] == str(uid):
            return fields[0]
    return str(uid)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
