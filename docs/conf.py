"""Sphinx configuration: `make docs` builds the pages and the reference into build/docs.

The source directory is the repository's root, so that a link between two pages works
on a code host and on the built site alike.
"""

import os
from pathlib import Path

from sphinx.application import Sphinx

# Pure Python is the definition: its docstrings have sections, its signatures types.
os.environ["SHMFEED_PURE"] = "1"

import shmfeed

project = "shmfeed"
version = release = shmfeed.__version__
copyright = "the shmfeed developers"  # noqa: A001 # Sphinx reads this name

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/index"
include_patterns = [
    "*.md",
    "docs/*.md",
    "docs/zh/*.md",
    "benchmarks/results/README.md",
]
exclude_patterns = [".*", "build", "shmfeed", "shmfeed.egg-info", "tests", "wealthdata"]

myst_heading_anchors = 3
default_role = "code"  # docstrings write `name`, as Markdown does

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
# As notes: napoleon would read the text before a colon in "Returns:" as a type.
napoleon_custom_sections = [
    ("Returns", "notes_style"),
    ("Settings", "params_style"),
    ("Thread safety", "notes_style"),
]
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = f"shmfeed {version}"
html_copy_source = False


def _redirect_from_root(app: Sphinx, error: Exception | None) -> None:
    """Write index.html at the site's root, which leads to the first page."""
    if error is None and app.builder.name == "html":
        page = '<meta http-equiv="refresh" content="0; url=docs/index.html">\n'
        Path(app.outdir, "index.html").write_text(page)


def _undo_type(
    _app: Sphinx,
    what: str,
    _name: str,
    _obj: object,
    _options: object,
    lines: list[str],
) -> None:
    """Put a property's text back together.

    napoleon takes the text before a colon in the first line for the property's type.
    """
    found = [line for line in lines if line.startswith(":type: ")]
    if what == "property" and found:
        lines.remove(found[0])
        lines[0] = f"{found[0].removeprefix(':type: ')}: {lines[0]}"


def setup(app: Sphinx) -> None:
    """Connect the hooks; Sphinx calls this."""
    app.connect("build-finished", _redirect_from_root)
    app.connect("autodoc-process-docstring", _undo_type, priority=600)
