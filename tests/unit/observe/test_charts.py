"""The library that draws candles is the published one; packages carry the page."""

import hashlib
import tarfile
import zipfile
from pathlib import Path

import pytest
from support.compiling import checkout
from support.packing import built

from shmfeed.observe import charts
from shmfeed.observe.page.static_files import OWN_FILES

FOLDER = "shmfeed/observe/charts/"
ROOT = Path(__file__).parents[3]
FILES = [FOLDER + name for name in ("lightweight-charts.js", "LICENSE", "NOTICE")]
FILES += [f"shmfeed/observe/page/static/{name}" for name in OWN_FILES]


def digest(script: str) -> str:
    return hashlib.sha256(script.encode()).hexdigest()


def test_the_script_is_the_published_one() -> None:
    script = charts.read_script()
    assert digest(script) == charts.SHA256
    assert f"Lightweight Charts™ v{charts.VERSION}\n" in script[:200]


def test_a_changed_script_has_another_hash() -> None:
    """Control: one changed character is found."""
    script = charts.read_script()
    assert digest(script.replace("strict", "Strict", 1)) != charts.SHA256


def test_its_licence_and_notice_are_beside_it() -> None:
    licence = (ROOT / FOLDER / "LICENSE").read_text()
    assert "Apache License" in licence
    assert "Version 2.0, January 2004" in licence
    notice = charts.read_notice()
    assert charts.VERSION in notice
    assert charts.LINK in notice
    assert "Copyright (c) 2026 TradingView, Inc." in notice
    assert "Copyright (c) 2026 TradingView, Inc." in charts.ATTRIBUTION


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkout(tmp_path_factory.mktemp("clone"))


def test_a_wheel_carries_all_of_it(tree: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(built("wheel", tree, tmp_path)) as packed:
        for name in FILES:
            assert packed.read(name) == (ROOT / name).read_bytes()


def test_an_sdist_carries_all_of_it(tree: Path, tmp_path: Path) -> None:
    with tarfile.open(built("sdist", tree, tmp_path)) as packed:
        names = packed.getnames()
    for name in FILES:
        assert any(found.endswith(f"/{name}") for found in names)
