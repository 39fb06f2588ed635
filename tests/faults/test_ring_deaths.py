"""The writer of the C protocol dies at its n-th store, for each n: rows stay whole.

The same with everything around it, in Python: `test_kill_every_store`.
"""

import pytest
from support.compiling import MUTANTS, NEEDS_COMPILER, compiled, counted, numbers, ran

pytestmark = NEEDS_COMPILER


def test_a_death_at_each_store_is_survived(tmp_path) -> None:
    seen = numbers(ran(compiled("killed", tmp_path, "-O2")))
    assert seen["deaths"] > 500
    assert seen["wrong"] == 0


@pytest.mark.parametrize("mutant", ["A1 publishes", "U2 in place"])
def test_a_wrong_order_does_not_survive(tmp_path, mutant) -> None:
    done = ran(compiled("killed", tmp_path, "-O2", change=MUTANTS[mutant]))
    assert done.returncode == 1
    assert counted(done.stdout)["wrong"] > 0
