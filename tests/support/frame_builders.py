"""Fixture: the frames of a test built by each of the builders."""

import pytest

from wealthdata import frame
from wealthdata.frame import DIRECT_BUILDERS, FrameBuilder, PublicFrameBuilder


@pytest.fixture(params=[*DIRECT_BUILDERS, PublicFrameBuilder])
def builder(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> type[FrameBuilder]:
    """Let get_price build its frames with this builder."""
    selected: type[FrameBuilder] = request.param
    monkeypatch.setattr(frame, "BUILDER", selected)
    monkeypatch.setattr(frame, "_templates", {})
    return selected
