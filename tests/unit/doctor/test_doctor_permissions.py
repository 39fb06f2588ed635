"""Permissions of the feeds' directory, of its files, and of config files."""

import os

import pytest
from support.users import FEEDER, GROUP, OTHER_GROUP, READER, result_as

import shmfeed
from shmfeed.doctor.permissions import (
    check_config_file,
    check_directory,
    check_files,
    check_group,
    check_owner,
)

pytest_plugins = ["support.users_fixture"]

CANARY = "s3cr3t-canary"


def test_the_directory_must_be_private(tmp_path) -> None:
    path = tmp_path / "feeds"
    assert check_directory(path).level == "ok"
    path.mkdir(mode=0o700)
    assert check_directory(path).level == "ok"
    path.chmod(0o750)  # for a group
    assert check_directory(path).level == "ok"
    path.chmod(0o755)
    found = check_directory(path)
    assert "has mode 0755, not 0700" in found.found
    assert found.remedy == f"chmod 700 {path}"
    path.rmdir()
    path.symlink_to("/tmp")
    assert "is not a directory" in check_directory(path).found


def test_a_directory_of_another_user_is_a_problem(tmp_path) -> None:
    if os.geteuid():
        pytest.skip("only root can give a directory to another user")
    path = tmp_path / "feeds"
    path.mkdir(mode=0o700)
    os.chown(path, 65534, 65534)
    assert "belongs to user 65534" in check_directory(path).found


def test_a_file_open_to_others_is_a_problem(tmp_path) -> None:
    (tmp_path / "a.lock").touch(0o600)
    assert list(check_files(tmp_path)) == []
    (tmp_path / "b.lock").touch()
    (tmp_path / "b.lock").chmod(0o666)
    (found,) = check_files(tmp_path)
    assert (found.level, found.check) == ("problem", str(tmp_path / "b.lock"))
    assert list(check_files(tmp_path / "none")) == []


def test_a_lock_file_that_a_feeder_refuses_is_a_problem(tmp_path) -> None:
    path = tmp_path / "a.lock"
    path.touch(0o600)
    (tmp_path / "a.second").hardlink_to(path)
    (found,) = check_files(tmp_path)
    assert (found.level, found.check) == ("problem", str(path))
    assert "it has 2 names (hard links)" in found.found
    (tmp_path / "a.second").unlink()
    path.chmod(0o400)
    assert "its mode is 0400, it must be 0600" in next(check_files(tmp_path)).found
    path.unlink()
    path.mkdir(mode=0o700)
    assert "must be a regular file" in next(check_files(tmp_path)).found


@pytest.mark.parametrize(("mode", "level"), [(0o600, "ok"), (0o644, "problem")])
def test_a_token_that_others_can_read_is_a_problem(
    tmp_path, mode, level, caplog
) -> None:
    path = tmp_path / "a.toml"
    path.write_text(f'csrf_token = "{CANARY}"')
    path.chmod(mode)
    found = check_config_file(path)
    assert found.level == level
    assert CANARY not in str(found)
    assert level == "ok" or found.remedy == f"chmod 600 {path}"
    assert not caplog.records
    path.write_text("history = 5")
    assert check_config_file(path).level == "ok"


def test_a_config_file_that_cannot_be_read(tmp_path) -> None:
    assert "No such file" in check_config_file(tmp_path / "a.toml").found
    (tmp_path / "a.toml").write_text("=")
    assert "is not well-formed toml" in check_config_file(tmp_path / "a.toml").found


def test_a_group_must_be_one_of_the_feeders(other_users) -> None:
    def levels() -> list[list[str]]:
        groups = (None, str(GROUP), str(OTHER_GROUP))
        return [[one.level for one in check_group(group)] for group in groups]

    assert result_as(FEEDER, [GROUP], levels) == [[], ["ok"], ["problem"]]


def test_the_owners_feeds_must_be_readable(other_users, feed_name) -> None:
    def create(name: str, group: str | None) -> None:
        shmfeed.create(name, 10, 16, 1, group=group).close()

    def levels() -> list[list[str]]:
        owners = ("", str(FEEDER), "no-such-user")
        return [
            [one.level for one in check_owner({"SHMFEED_OWNER": owner})]
            for owner in owners
        ]

    result_as(FEEDER, [GROUP], create, feed_name, str(GROUP))
    result_as(FEEDER, [GROUP], create, f"{feed_name}2", None)
    found = result_as(READER, [GROUP], levels)
    assert found == [[], ["ok", "problem"], ["problem"]]
