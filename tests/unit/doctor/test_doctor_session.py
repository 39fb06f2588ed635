"""systemd's RemoveIPC, as logind's files set it."""

import pytest

from shmfeed.doctor.session import check_session, read_remove_ipc, user_name

UID = 1234


@pytest.fixture
def root(tmp_path):
    """Return the root of a host that runs systemd, with a user ann."""
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(
        f"root:x:0:0::/:/bin/sh\nann:x:{UID}:5::/:/x\n"
    )
    return tmp_path


def write(root, name, text):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_remove_ipc_yes_is_a_problem(root) -> None:
    write(root, "etc/systemd/logind.conf", "[Login]\n#x\nRemoveIPC = yes\n")
    found = check_session(root, UID)
    assert found.level == "problem"
    assert "removes the feeds of user ann at the last logout" in found.found
    assert "loginctl enable-linger ann" in found.remedy


def test_remove_ipc_no_is_ok(root) -> None:
    write(root, "etc/systemd/logind.conf", "[Login]\nRemoveIPC=no\n")
    assert check_session(root, UID).level == "ok"


@pytest.mark.parametrize("text", [None, "[Login]\n#RemoveIPC=yes\n"])
def test_remove_ipc_unset_is_a_note(root, text) -> None:
    if text:
        write(root, "etc/systemd/logind.conf", text)
    found = check_session(root, UID)
    assert found.level == "note"
    assert "enable-linger" in found.remedy


def test_system_users_and_lingering_users_are_safe(root, tmp_path) -> None:
    write(root, "etc/systemd/logind.conf", "RemoveIPC=yes\n")
    assert check_session(root, 0).level == "ok"
    assert check_session(root, 999).level == "ok"
    write(root, "var/lib/systemd/linger/ann", "")
    assert check_session(root, UID).level == "ok"
    assert check_session(root / "etc", UID).level == "ok"  # no systemd runs there


def test_the_last_file_counts(root) -> None:
    write(root, "usr/lib/systemd/logind.conf", "RemoveIPC=no\n")
    assert read_remove_ipc(root) is False
    write(root, "etc/systemd/logind.conf", "RemoveIPC=1\n")
    assert read_remove_ipc(root) is True
    write(root, "usr/lib/systemd/logind.conf.d/20-b.conf", "RemoveIPC=off\n")
    assert read_remove_ipc(root) is False
    write(root, "etc/systemd/logind.conf.d/10-a.conf", "RemoveIPC=yes\n")
    assert read_remove_ipc(root) is False  # drop-ins count in the order of their names
    write(
        root, "etc/systemd/logind.conf.d/20-b.conf", "\n"
    )  # it replaces the other of its name
    assert read_remove_ipc(root) is True


def test_a_user_without_a_name_is_its_number(tmp_path) -> None:
    assert user_name(77, tmp_path) == "77"
