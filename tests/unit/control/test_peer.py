import os
import subprocess
import sys
import threading
from pathlib import Path

from shmfeed.control.peer import process_start, wait_for_exit


def test_the_start_time_distinguishes_processes():
    mine = process_start(os.getpid())
    assert mine == process_start(os.getpid())
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1) as other:
        assert process_start(other.pid) >= mine
        other.kill()
    assert process_start(other.pid) is None
    assert process_start(2**22 + 1) is None


def test_a_process_name_with_parentheses_is_parsed(tmp_path):
    odd = tmp_path / ") Z 1 (x"
    odd.symlink_to("/bin/sleep")
    with subprocess.Popen([odd, "60"]) as other:
        while b"sleep" not in _name(other.pid) and b") Z" not in _name(other.pid):
            pass
        assert process_start(other.pid) is not None
        other.kill()


def _name(pid):
    return Path(f"/proc/{pid}/stat").read_bytes()


def test_wait_for_exit_returns_when_the_process_has_ended():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1) as other:
        started = process_start(other.pid)
        assert not wait_for_exit(other.pid, started, 0.05)
        threading.Timer(0.1, other.kill).start()
        assert wait_for_exit(other.pid, started, 10)
