"""A child process with its own /dev/shm, in a mount namespace.

    python own_shm.py 64m program.py arguments..

runs a Python program there.
"""

import ctypes
import json
import os
import sys
from pathlib import Path

_NEW_MOUNTS, _NEW_USERS, _PRIVATE = 0x00020000, 0x10000000, 0x44000

NOT_PERMITTED = 77

# The arguments are a feed's name and the options of the tmpfs.
MOUNT = """
import ctypes, json, os, resource, shutil, sys
NEW_MOUNTS, NEW_USERS, PRIVATE = 0x00020000, 0x10000000, 0x44000
libc = ctypes.CDLL(None, use_errno=True)
uid, gid = os.geteuid(), os.getegid()
refused = 77  # the host does not permit it: skip; after the mounts: fail
def mount(what, where, kind, flags, options):
    if libc.mount(what, where, kind, flags, options):
        print(f"mount: {os.strerror(ctypes.get_errno())}", file=sys.stderr)
        sys.exit(refused)
if libc.unshare(NEW_MOUNTS):
    if libc.unshare(NEW_MOUNTS | NEW_USERS):
        print(f"unshare: {os.strerror(ctypes.get_errno())}", file=sys.stderr)
        sys.exit(refused)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"),
                       ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
mount(b"none", b"/", None, PRIVATE, None)
mount(b"tmpfs", b"/dev/shm", b"tmpfs", 0, sys.argv[2].encode())
refused = 1
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

def tell(what):
    print(json.dumps(what), flush=True)
"""


def run(child, name, options, code):
    """Run code in such a child, which must succeed; return what it told, in order.

    Skip the test where the host permits no mount namespace.
    """
    import pytest

    process = child(MOUNT + code, name, options)
    out, err = process.communicate(timeout=50)
    if process.returncode == NOT_PERMITTED:
        pytest.skip(f"this host permits no mount namespace: {err.strip()}")
    assert process.returncode == 0, (process.returncode, out, err)
    return [json.loads(line) for line in out.splitlines()]


def enter(size: str = "4m") -> bool:
    """Give this process of one thread its own, empty /dev/shm.

    Other processes then list no feed of it. Return False where that is not permitted.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.geteuid(), os.getegid()
    if libc.unshare(_NEW_MOUNTS):
        if libc.unshare(_NEW_MOUNTS | _NEW_USERS):
            return False
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    libc.mount(b"none", b"/", None, _PRIVATE, None)
    options = f"size={size}".encode()
    return not libc.mount(b"tmpfs", b"/dev/shm", b"tmpfs", 0, options)


if __name__ == "__main__":
    if not enter(sys.argv[1]):
        sys.exit(NOT_PERMITTED)
    os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
