"""The checks of a file that is to be a store."""

import sqlite3
from contextlib import closing

import pytest
from support.storing import IDENTITY, OTHER, stored, version_of

from shmfeed.errors import BadArgumentError
from shmfeed.identity import FeedIdentity
from shmfeed.store import schema
from shmfeed.store.file import StoreFile
from shmfeed.store.schema import StoreError, check_path, open_to_read, open_to_write


@pytest.fixture
def path(tmp_path):
    return tmp_path / "bars.sqlite"


def fill(path, count=3):
    with StoreFile(str(path), IDENTITY, replace=False) as file:
        file.write([version_of(number) for number in range(count)])


def refused(path, identity=IDENTITY, replace=False):
    with pytest.raises(StoreError) as caught:
        open_to_write(str(path), identity, replace)
    return caught.value


class TestPath:
    def test_a_file_and_a_name_that_is_free(self, path):
        check_path(str(path))
        fill(path)
        check_path(str(path))

    def test_a_name_in_the_working_directory(self, path, monkeypatch):
        monkeypatch.chdir(path.parent)
        check_path("bars.sqlite")

    @pytest.mark.parametrize("name", ["", "none/bars.sqlite", "file/bars.sqlite"])
    def test_no_file_can_be_there(self, tmp_path, name):
        (tmp_path / "file").touch()
        with pytest.raises(BadArgumentError, match="is not accepted") as caught:
            check_path(str(tmp_path / name))
        assert repr(str(tmp_path / name)) in str(caught.value)

    def test_a_device(self):
        with pytest.raises(BadArgumentError, match="it is not a file"):
            check_path("/dev/null")


class TestFormat:
    def test_a_new_store_names_version_and_identity(self, path):
        with closing(open_to_write(str(path), IDENTITY, False)) as connection:
            assert schema.stored_identity(connection) == IDENTITY
            for pragma, value in (
                ("user_version", 1),
                ("application_id", 0x53484D46),
                ("auto_vacuum", 2),
                ("journal_mode", "wal"),
                ("synchronous", 1),
            ):
                found = connection.execute(f"PRAGMA {pragma}").fetchone()[0]
                assert found == value, pragma

    def test_names_are_taken_as_they_are(self, tmp_path):
        path = tmp_path / "a?b#c%20:memory:&mode=ro"
        fill(path)
        assert len(stored(path)) == 3

    def test_an_empty_file_becomes_a_store(self, path):
        path.touch()
        fill(path)
        assert len(stored(path)) == 3

    def test_another_version(self, path):
        fill(path)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA user_version = 7")
        before = path.read_bytes()
        error = refused(path)
        assert error.kind == "version"
        assert "version 7" in str(error)
        assert "version 1" in str(error)
        assert path.read_bytes() == before
        with pytest.raises(StoreError, match="version 7"):
            open_to_read(str(path))

    def test_a_database_of_another_program(self, path):
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE bar_versions (stream)")
        before = path.read_bytes()
        assert refused(path, replace=True).kind == "foreign"
        assert path.read_bytes() == before

    @pytest.mark.parametrize("rubbish", [b"rubbish" * 2000, b"\0" * 9000, b"x"])
    def test_rubbish(self, path, rubbish):
        path.write_bytes(rubbish)
        error = refused(path)
        assert error.kind == "damaged"
        assert "move it away" in str(error)
        assert path.read_bytes() == rubbish

    def test_a_damaged_page(self, path):
        fill(path, 5000)
        data = bytearray(path.read_bytes())
        data[8192:40_000] = b"\xa5" * (40_000 - 8192)
        path.write_bytes(data)
        assert refused(path).kind == "damaged"

    def test_a_creation_that_was_killed(self, path):
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(schema._BEFORE)
        fill(path)
        assert len(stored(path)) == 3


class TestIdentity:
    def test_one_venue_in_common_is_enough(self, path):
        fill(path)
        venues = ("another", *IDENTITY.venues)
        open_to_write(str(path), IDENTITY._replace(venues=venues), False).close()

    def test_another_one_is_refused(self, path):
        fill(path)
        error = refused(path, OTHER)
        assert error.kind == "identity"
        for part in (str(IDENTITY), str(OTHER), "--replace"):
            assert part in str(error)
        assert len(stored(path)) == 3

    def test_replace_drops_its_bars(self, path):
        fill(path)
        with StoreFile(str(path), OTHER, replace=True) as file:
            file.write([version_of(9)])
        assert [row[0] for row in stored(path)] == [version_of(9).bar.open_time]
        assert refused(path, IDENTITY).kind == "identity"

    def test_replace_keeps_the_bars_of_the_same_one(self, path):
        fill(path)
        StoreFile(str(path), IDENTITY, replace=True).close()
        assert len(stored(path)) == 3

    def test_an_empty_store_takes_any(self, path):
        StoreFile(str(path), IDENTITY, replace=False).close()
        StoreFile(str(path), OTHER, replace=False).close()
        assert refused_none(path, OTHER)

    @pytest.mark.parametrize(
        ("change", "fault"),
        [
            ("DELETE FROM store_info", "is missing"),
            ("UPDATE store_info SET value = 'rubbish'", "is 'rubbish'"),
            ("UPDATE store_info SET value = x'00ff'", "is b'\\x00\\xff'"),
            ("UPDATE store_info SET value = ''", "is ''"),
            ("UPDATE store_info SET value = 'a/b/c/d'", "is 'a/b/c/d'"),
        ],
    )
    def test_one_that_cannot_be_read(self, path, change, fault):
        """Its bars may be of any venue: nothing of it is read or changed."""
        fill(path)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(change)
            connection.commit()
        before = path.read_bytes()
        error = refused(path)
        assert error.kind == "damaged"
        assert f"the identity of its bars {fault}; move it away" in str(error)
        assert path.read_bytes() == before
        StoreFile(str(path), IDENTITY, replace=True).close()
        assert stored(path) == []
        assert refused_none(path, IDENTITY)

    def test_one_that_cannot_be_read_of_an_empty_store(self, path):
        fill(path, 0)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("DELETE FROM store_info")
            connection.commit()
        StoreFile(str(path), IDENTITY, replace=False).close()
        assert refused_none(path, IDENTITY)


def refused_none(path, identity: FeedIdentity) -> bool:
    with closing(open_to_read(str(path))) as connection:
        return schema.stored_identity(connection) == identity
