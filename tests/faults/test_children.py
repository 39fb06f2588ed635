"""Children of a process that reads, writes and manages: made in every way there is.

They read and own nothing; their end changes, unlinks and logs nothing.
"""

from pathlib import Path

import pytest

from shmfeed.segment.mapping import place
from shmfeed.segment.removal import remove_unheld
from shmfeed.simulator import Venue

pytestmark = pytest.mark.timeout(120)

PROGRAM = Path(__file__).with_name("children_program.py")
# As `python PROGRAM` runs: warnings are shown, those of the resource tracker too.
RUN = """
import runpy, sys
sys.warnoptions.clear()
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def venue():
    with Venue(speed=None) as made:
        yield made


def run(child, feed_name, venue, mutant):
    own, managed = feed_name, f"{feed_name}-m"
    process = child(RUN, PROGRAM, own, managed, venue.url, mutant)
    output, errors = process.communicate(timeout=110)
    return process.returncode, output, errors


def test_children_read_and_own_nothing(child, feed_name, venue):
    code, output, errors = run(child, feed_name, venue, "")
    print(output)
    assert errors == ""  # no warning of the resource tracker either
    assert code == 0
    assert output.startswith("done")


def test_children_that_own_objects_are_found(child, feed_name, venue):
    """The control: the same children where a fork disowns nothing."""
    code, _, errors = run(child, feed_name, venue, "owns on")
    assert code != 0
    assert "a child has written its parent's feed" in errors
    for name in (feed_name, f"{feed_name}-m"):
        remove_unheld(place(name))
