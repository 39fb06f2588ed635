"""Autobahn's client cases: framing, fragments, UTF-8, closes, by its own verdicts.

`make autobahn` installs the suite, which needs Python 2.7, and runs all 301 cases.
"""

import pytest
from autobahn import agent, suite

from shmfeed.wire import connection, frames

SLOW = ["6.4.*", "9.*"]  # two seconds each, and messages of megabytes
CASES = 243
NEEDS_SUITE = pytest.mark.skipif(
    not suite.is_installed(), reason="needs Autobahn's suite: make autobahn"
)


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    monkeypatch.setattr(connection, "FrameReader", frames.FrameReader)
    monkeypatch.setattr(frames, "MAX_FRAGMENTS", frames.MAX_FRAGMENTS)


@NEEDS_SUITE
def test_no_case_fails(tmp_path):
    with suite.fuzzing_server(tmp_path, SLOW) as url:
        verdicts = list(suite.run(url))
    print(len(verdicts), "cases")
    assert len(verdicts) == CASES
    bad = [one for one in verdicts if one.behavior not in ("OK", "INFORMATIONAL")]
    assert bad == []


@NEEDS_SUITE
def test_control_a_client_that_answers_every_close_alike_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(frames, "is_text", lambda payload: True)
    monkeypatch.setattr(agent, "is_text", lambda payload: True)
    others = [f"{section}.*" for section in (1, 2, 3, 4, 5, 6, 9, 10)]
    with suite.fuzzing_server(tmp_path, others) as url:
        failed = [one.case for one in suite.run(url) if one.behavior == "FAILED"]
    assert failed == ["7.5.1"]
