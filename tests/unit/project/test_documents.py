"""Links, paths and tables of the pages agree with the repository."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import shmfeed
import shmfeed.aio
import shmfeed.simulator
import shmfeed.testing
import wealthdata
from shmfeed import bar
from shmfeed.codecs import get_codec
from shmfeed.feeder.reload import FIXED
from shmfeed.layout import COUNTERS
from shmfeed.relay_status import RelayStatus
from shmfeed.settings.model import Settings
from shmfeed.settings.schema import MARKETS, PROTOCOLS, SETTINGS
from shmfeed.status import ConnectionStatus, FeedStatus, StreamStatus

ROOT = Path(__file__).parents[3]
CHINESE = sorted(ROOT.glob("docs/zh/*.md"))
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md")), *CHINESE]
PUBLIC = (shmfeed, shmfeed.aio, shmfeed.simulator, shmfeed.testing, wealthdata)
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
PATH = re.compile(
    r"`((?:shmfeed|wealthdata|tests|benchmarks|examples|fuzz|docs)/[\w./*-]+)`"
)


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return FENCE.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as a code host makes them."""
    heads = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    bare = (re.sub(r"[^\w -]", "", head.lower()) for head in heads)
    return {head.strip().replace(" ", "-") for head in bare}


def dead_links(page: Path) -> Iterator[str]:
    """Yield the links of a page that lead to no file or to no heading."""
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


def table(page: str, head: str) -> dict[str, str]:
    """Return the first two columns of a section's table, without backticks."""
    section = (ROOT / page).read_text().split(f"## {head}\n")[1].split("\n## ")[0]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("| `")]
    return {row[1].strip(" `"): row[2].strip(" `") for row in rows}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    assert not list(dead_links(page))


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A b\n[a](#a-b) [b](#c) [c](none.md) [d](page.md#a-b)\n")
    assert list(dead_links(page)) == ["#c", "none.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_in_the_text_exist(page: Path) -> None:
    named = set(PATH.findall(prose(page)))
    assert not [name for name in named if not list(ROOT.glob(name.rstrip("/")))]


def code_of(page: Path) -> list[str]:
    """Return the blocks of a page, without comments."""
    blocks = FENCE.findall(page.read_text())
    return [re.sub(r"  # .*", "", block) for block in blocks]


@pytest.mark.parametrize("page", CHINESE, ids=lambda page: page.name)
def test_a_chinese_page_has_the_sections_and_blocks_of_the_english_one(
    page: Path,
) -> None:
    english = ROOT / "docs" / page.name
    sections, blocks = {}, {}
    for each in (page, english):
        sections[each] = len(re.findall(r"^#+ |^\*\*", prose(each), re.MULTILINE))
        blocks[each] = code_of(each)
    assert sections[page] == sections[english]
    assert blocks[page] == blocks[english]


@pytest.mark.parametrize("page", CHINESE, ids=lambda page: page.name)
def test_a_page_links_to_itself_in_the_other_language(page: Path) -> None:
    english = ROOT / "docs" / page.name
    assert f"\n\n[English](../{page.name})\n\n" in page.read_text()
    assert f"\n\n[中文](zh/{page.name})\n\n" in english.read_text()
    for index in ("docs/index.md", "README.md"):
        assert f"zh/{page.name})" in (ROOT / index).read_text(), index


@pytest.mark.parametrize("page", CHINESE, ids=lambda page: page.name)
def test_a_chinese_page_leads_to_chinese_pages(page: Path) -> None:
    linked = re.findall(r"\]\(\.\./([\w-]+\.md)", prose(page))
    assert {name for name in linked if (page.parent / name).exists()} == {page.name}


def test_both_pictures_are_the_same() -> None:
    picture = (ROOT / "README.md").read_text().split("## The picture\n\n```\n")[1]
    architecture = (ROOT / "ARCHITECTURE.md").read_text()
    assert picture.split("```")[0].rstrip() in architecture


def test_each_page_is_in_the_index() -> None:
    linked = set(re.findall(r"\]\(([\w./-]+)\)", (ROOT / "docs/index.md").read_text()))
    pages = {path.name for path in ROOT.glob("docs/*.md")} - {"index.md"}
    assert pages | {f"../{path.name}" for path in ROOT.glob("*.md")} <= linked


def test_each_setting_has_its_row_and_default() -> None:
    rows = table("docs/settings.md", "All settings")
    assert list(rows) == list(SETTINGS)
    for name, told in rows.items():
        value = getattr(Settings(), name)
        if value in ((), ""):
            assert told == ""
        elif isinstance(value, float):
            assert float(told) == value, name
        elif value is None or value is False:
            assert told == {None: "none", False: "false"}[value], name
        else:
            assert told == str(value), name


def test_each_setting_that_needs_a_restart_is_listed() -> None:
    page = (ROOT / "docs/feeders.md").read_text()
    (row,) = re.findall(r"^\| (.*) \| named, and left .*restart", page, re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", row)) == sorted(FIXED)


def test_each_protocol_has_its_row_and_its_codec() -> None:
    assert sorted(table("docs/settings.md", "Venues")) == sorted(PROTOCOLS)
    for protocol in PROTOCOLS:
        market = MARKETS.get(protocol, ("",))[0]
        assert get_codec(protocol, market).name == protocol


def test_each_flag_has_its_row_and_value() -> None:
    flags = {name: str(value) for value, name in bar.FLAG_NAMES.items()}
    assert table("docs/reading.md", "Flags of a row") == flags


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site, in which a warning is an error; return its directory."""
    pytest.importorskip("sphinx")
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going"]
    done = subprocess.run(
        [*command, "--quiet", "-c", ROOT / "docs", ROOT, target],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (target / "index.html").is_file()
    return target


def anchors_of_the_reference(site: Path) -> set[str]:
    """Return the anchors of the built page: the full name of each documented object."""
    page = (site / "docs/reference.html").read_text()
    return set(re.findall(r'<dt class="[^"]*sig[^"]*" id="([\w.]+)"', page))


def test_each_public_name_is_in_the_reference(site: Path) -> None:
    public = {f"{one.__name__}.{name}" for one in PUBLIC for name in one.__all__}
    assert sorted(public - anchors_of_the_reference(site)) == []


def test_the_reference_shows_no_name_that_is_not_public(site: Path) -> None:
    shown = anchors_of_the_reference(site)
    public = {f"{one.__name__}.{name}" for one in PUBLIC for name in one.__all__}
    parts = {name for name in shown if name.rpartition(".")[0] in public}
    assert sorted(shown - public - parts) == []


@pytest.mark.parametrize(
    "status", [FeedStatus, StreamStatus, ConnectionStatus, RelayStatus]
)
def test_each_key_of_a_status_is_in_the_reference(site: Path, status: type) -> None:
    keys = {f"shmfeed.{status.__name__}.{key}" for key in status.__annotations__}
    assert sorted(keys - anchors_of_the_reference(site)) == []


def test_each_page_tells_what_is_public_alike() -> None:
    modules = ", ".join(f"`{one.__name__}`" for one in PUBLIC[:-1])
    told = f"Public is what `__all__` of {modules} and `{PUBLIC[-1].__name__}` holds;"
    for name in ("README.md", "ARCHITECTURE.md", "docs/reference.md"):
        assert told in " ".join((ROOT / name).read_text().split()), name


def test_each_key_of_a_status_is_explained() -> None:
    page = (ROOT / "docs/managers.md").read_text()
    rows = re.findall(
        r"^\| (`.*?) \| (.*) \|$", page.split("## Status")[1], re.MULTILINE
    )
    named = {name for first, _ in rows for name in re.findall(r"`(\w+)`", first)}
    assert named == {*FeedStatus.__annotations__} - {*COUNTERS}
    (streams,) = [told for first, told in rows if first == "`streams`"]
    assert streams.split("`")[1].split() == [*StreamStatus.__annotations__]


def test_each_key_of_attrs_is_explained() -> None:
    row = {"open_time": 0, "open": 1, "high": 2, "low": 1, "close": 2, "volume": 5}
    listed = [{"symbol": "A", "timeframe": "1h", "bars": [row]}]
    context = wealthdata.Context(listed, run_params={"type": "backtest"})
    wealthdata.set_context(context)
    try:
        attrs = wealthdata.get_price(["A"], count=1).attrs["shmfeed"]
    finally:
        wealthdata.clear_context()
    told = table("docs/strategies.md", "What a frame says about itself")
    assert [*told] == [*attrs]
