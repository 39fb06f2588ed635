"""The page's own files: scripts that parse, colours that can be read."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from shmfeed.observe.page import static_files
from shmfeed.observe.page.model import PageModel
from shmfeed.observe.page.render import render_page

FOLDER = Path(static_files.__file__).parent / "static"
SCRIPTS = sorted(FOLDER.glob("*.js"))
TEXTS = ("text", "faint", "focus", "live", "quiet", "warn", "bad")
GROUNDS = ("ground", "raised")
LEAST_CONTRAST = 4.5  # of text, by the web's guidelines for accessibility


def test_each_file_of_the_folder_is_served_and_used() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(static_files.OWN_FILES)
    addresses = static_files.addresses(static_files.load_files())
    text = render_page(PageModel(), addresses)
    assert [address for address in addresses.values() if address not in text] == []


@pytest.mark.skipif(shutil.which("node") is None, reason="no node here")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_each_script_parses(script: Path) -> None:
    done = subprocess.run(
        ["node", "--check", script], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_no_script_makes_markup_of_text(script: Path) -> None:
    """Names come from venues: they are set as text, never as HTML or code."""
    text = script.read_text()
    assert text.startswith('"use strict";\n')
    for unsafe in ("innerHTML", "outerHTML", "insertAdjacent", "eval(", "Function("):
        assert unsafe not in text
    assert "http:" not in text
    assert "https:" not in text


def schemes() -> dict[str, dict[str, str]]:
    css = (FOLDER / "page.css").read_text()
    light, dark = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    found = re.compile(r"--([\w-]+): (#[0-9a-f]{6});")
    return {"light": dict(found.findall(light)), "dark": dict(found.findall(dark))}


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours, from 1 to 21, as the guidelines define it."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = [
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
            for part in parts
        ]
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("text", TEXTS)
def test_text_can_be_read(scheme: str, text: str) -> None:
    colours = schemes()[scheme]
    for ground in (*GROUNDS, "new") if text != "faint" else GROUNDS:
        assert contrast(colours[text], colours[ground]) >= LEAST_CONTRAST, ground


def test_a_faint_text_is_found() -> None:
    """Control."""
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") < LEAST_CONTRAST
