"""The relay in the world: hosts in trouble, whose rings equal the venue's truth.

TEST_SCALE multiplies the faults; `make soak-relay` plays 1,000.
"""

import pytest
from relay.__main__ import report, run
from relay.stage import Stage
from support import forks
from support.redis_server import missing

FAULTS = int(50 * forks.SCALE)
SECONDS = 90.0  # for a recovery on a busy machine


@pytest.mark.timeout(600 * forks.SCALE)
@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_rings_equal_the_venues_truth_after_faults(feed_name, tmp_path, seed) -> None:
    with Stage(feed_name, tmp_path) as stage:
        run(stage, FAULTS, seed, SECONDS)
        found = stage.finish(SECONDS)
        told = report(found, stage.is_apart, 0.0)
        assert not found.violations, f"{told}\n{stage.logs()}"
    print(told)
    assert found.played.total() == FAULTS
    assert found.flushes
    assert found.leaderships
    assert found.compared > 100
