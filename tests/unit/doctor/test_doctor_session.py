"""systemd's RemoveIPC, by the files that say it."""

import pytest

from shmfeed.doctor.session import check_session, remove_ipc, user_name

UID = 1234


@pytest.fixture
def root(tmp_path):
    """A host that systemd runs, with a user of that number."""
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(
        f"root:x:0:0::/:/bin/sh\nann:x:{UID}:5::/:/x\n"
    )
    return tmp_path


def conf(root, name, text):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_it_says_yes(root) -> None:
    conf(root, "etc/systemd/logind.conf", "[Login]\n#x\nRemoveIPC = yes\n")
    found = check_session(root, UID)
    assert found.level == "problem"
    assert "removes the feeds of user ann at the last logout" in found.found
    assert "loginctl enable-linger ann" in found.remedy


def test_it_says_no(root) -> None:
    conf(root, "etc/systemd/logind.conf", "[Login]\nRemoveIPC=no\n")
    assert check_session(root, UID).level == "ok"


@pytest.mark.parametrize("text", [None, "[Login]\n#RemoveIPC=yes\n"])
def test_it_says_nothing(root, text) -> None:
    if text:
        conf(root, "etc/systemd/logind.conf", text)
    found = check_session(root, UID)
    assert found.level == "note"
    assert "enable-linger" in found.remedy


def test_no_trap_for_others(root, tmp_path) -> None:
    conf(root, "etc/systemd/logind.conf", "RemoveIPC=yes\n")
    assert check_session(root, 0).level == "ok"
    assert check_session(root, 999).level == "ok"
    conf(root, "var/lib/systemd/linger/ann", "")
    assert check_session(root, UID).level == "ok"
    assert check_session(root / "etc", UID).level == "ok"  # nothing runs there


def test_the_last_word_counts(root) -> None:
    conf(root, "usr/lib/systemd/logind.conf", "RemoveIPC=no\n")
    assert remove_ipc(root) is False
    conf(root, "etc/systemd/logind.conf", "RemoveIPC=1\n")
    assert remove_ipc(root) is True
    conf(root, "usr/lib/systemd/logind.conf.d/20-b.conf", "RemoveIPC=off\n")
    assert remove_ipc(root) is False
    conf(root, "etc/systemd/logind.conf.d/10-a.conf", "RemoveIPC=yes\n")
    assert remove_ipc(root) is False  # drop-ins go by their names
    conf(root, "etc/systemd/logind.conf.d/20-b.conf", "\n")  # in the other's place
    assert remove_ipc(root) is True


def test_a_user_without_a_name(tmp_path) -> None:
    assert user_name(77, tmp_path) == "77"
