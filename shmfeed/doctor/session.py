"""The user's session: systemd removes its shared memory at the last logout."""

import os
import re
from pathlib import Path

from shmfeed.doctor.finding import Finding, note, ok, problem

_FIRST_NORMAL_UID = 1000
_DIRECTORIES = (
    "usr/lib/systemd",
    "usr/local/lib/systemd",
    "run/systemd",
    "etc/systemd",
)
_SETTING = re.compile(r"^\s*RemoveIPC\s*=\s*(\S+)\s*$", re.IGNORECASE)
_TRUE = {"1", "yes", "true", "on", "y", "t"}
_CHECK = "user session"


def check_session(root: Path = Path("/"), uid: int | None = None) -> Finding:
    """Check that the feeds of this user survive the last logout."""
    if not (root / "run/systemd/system").is_dir():
        return ok(_CHECK, "systemd does not run here; a logout removes no feed")
    uid = os.geteuid() if uid is None else uid
    if uid < _FIRST_NORMAL_UID:
        return ok(_CHECK, f"user {uid} is a system user; a logout removes no feed")
    name = user_name(uid, root)
    if (root / "var/lib/systemd/linger" / name).exists():
        return ok(_CHECK, f"lingering is enabled for {name}; a logout removes no feed")
    remedy = (
        f"as root: loginctl enable-linger {name}; or run the feeder as a system user"
    )
    setting = read_remove_ipc(root)
    if setting is None:
        return note(
            _CHECK,
            f"systemd may remove the feeds of user {name} at the last logout;"
            " logind.conf does not set RemoveIPC, and its usual default is yes",
            remedy,
        )
    if not setting:
        return ok(_CHECK, "RemoveIPC=no; a logout removes no feed")
    return problem(
        _CHECK,
        f"RemoveIPC=yes; systemd removes the feeds of user {name} at the last logout,"
        " even while a feeder runs",
        remedy,
    )


def read_remove_ipc(root: Path) -> bool | None:
    """Return the RemoveIPC that logind uses, None where no file sets it."""
    main = [
        path for top in _DIRECTORIES if (path := root / top / "logind.conf").is_file()
    ]
    # As systemd reads them: of the main files only the last one here counts, then the
    # drop-ins in the order of their names; one replaces another of the same name.
    drop_ins: dict[str, Path] = {}
    for top in _DIRECTORIES:
        for path in (root / top / "logind.conf.d").glob("*.conf"):
            drop_ins[path.name] = path
    setting = None
    for path in [*main[-1:], *(drop_ins[name] for name in sorted(drop_ins))]:
        for line in _read_lines(path):
            found = _SETTING.match(line)
            if found:
                setting = found[1].lower() in _TRUE
    return setting


def user_name(uid: int, root: Path = Path("/")) -> str:
    """Return the name of a user, or its number where /etc/passwd has no name."""
    for line in _read_lines(root / "etc/passwd"):
        fields = line.split(":")
        if len(fields) > 2 and fields[2] == str(uid):
            return fields[0]
    return str(uid)


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
