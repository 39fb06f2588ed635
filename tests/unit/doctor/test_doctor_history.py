"""The check of the source of history."""

import importlib.util
import os
import shutil

import pytest

from shmfeed.doctor.history import check_history
from shmfeed.settings.loading import load


def finding(backfill, **more):
    (found,) = check_history(load({"backfill": backfill, **more}, {}))
    return found


@pytest.mark.parametrize(
    ("backfill", "more", "level", "words"),
    [
        ("auto", {}, "note", "protocol wealthai has no REST service"),
        ("auto", {"protocol": "binance", "market_type": "spot"}, "ok", "by REST"),
        ("off", {}, "note", "off: bars that a lost connection missed stay missing"),
        ("binance:usdm", {}, "ok", "binance:usdm"),
        ("manager", {}, "ok", "a function of a manager"),
        (["sh", "-c", "x"], {}, "ok", f"command {shutil.which('sh')}"),
        (["/no/such/program"], {}, "problem", "'/no/such/program' of backfill is not"),
        (["no-such-program"], {}, "problem", "is not found, or not executable"),
        ("/no/such/bars.csv", {}, "problem", "/no/such/bars.csv of backfill is no f"),
    ],
)
def test_each_source(backfill, more, level, words) -> None:
    found = finding(backfill, **more)
    assert (found.check, found.level) == ("history", level)
    assert words in found.found
    assert (found.remedy is None) == (level == "ok")


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_files(tmp_path, monkeypatch, ending) -> None:
    file = tmp_path / f"bars.{ending}"
    file.write_bytes(b"")
    assert finding(str(file)).found == f"file {file}"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    found = finding(str(file))
    assert found.level == ("problem" if ending == "parquet" else "ok")
    assert found.remedy == ("pip install pyarrow" if ending == "parquet" else None)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may read all
    assert finding(str(file)).found == f"{file} cannot be read"
