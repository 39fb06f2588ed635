"""The doctor's findings about a store."""

import shutil
import sqlite3
from contextlib import closing

import pytest
from support.storing import IDENTITY, version_of

from shmfeed.doctor.store import check_store
from shmfeed.settings import loading
from shmfeed.store.file import StoreFile

BINANCE = {"protocol": "binance", "market_type": "spot", "venue": "stream.binance.com"}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "bars.sqlite"


def findings(path, **more):
    settings = loading.load({"store": str(path), **BINANCE, **more}, {})
    return [(one.level, one.found) for one in check_store(settings)]


def fill(path):
    with StoreFile(str(path), IDENTITY, replace=False) as file:
        file.write([version_of(0)])


def test_without_a_store():
    assert list(check_store(loading.load({}, {}))) == []


def test_a_store_that_is_not_there_yet(path):
    assert findings(path) == [("ok", f"{path} is made by the next feeder")]


def test_a_sound_store(path):
    fill(path)
    ((severity, found),) = findings(path)
    assert severity == "ok"
    assert found.endswith("MiB, bars of binance/spot/stream.binance.com")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.write_bytes(b"rubbish" * 999), "is damaged"),
        (lambda path: path.mkdir(), "it is a directory"),
    ],
)
def test_one_that_cannot_be_used(path, spoil, said):
    spoil(path)
    ((severity, found),) = findings(path)
    assert severity == "problem"
    assert said in found


def test_a_table_that_is_gone(path):
    fill(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE store_info")
    assert findings(path)[0][0] == "problem"


def test_an_identity_that_cannot_be_read(path):
    fill(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM store_info")
        connection.commit()
    ((severity, found),) = findings(path)
    assert severity == "problem"
    assert "the identity of its bars is missing" in found


def test_another_identity(path):
    fill(path)
    ((severity, found),) = findings(path, market_type="usdm")
    assert severity == "problem"
    assert "holds bars of binance/spot/stream.binance.com" in found


def test_a_disk_that_is_nearly_full(path, monkeypatch):
    fill(path)
    usage = shutil.disk_usage(path)._replace(free=5 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert findings(path)[1] == ("note", f"5.00 MiB free in {path.parent}")


def test_a_file_that_cannot_be_written(path, monkeypatch):
    fill(path)
    monkeypatch.setattr("shmfeed.doctor.store.os.access", lambda *_: False)
    assert findings(path)[0] == ("problem", f"{path} cannot be written by this user")
