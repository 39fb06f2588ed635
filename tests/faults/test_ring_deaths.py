"""The C protocol's writer dies at its n-th store, for every n: what it leaves is whole.

The same with everything around it, in Python: `test_kill_every_store`.
"""

import pytest
from support.compiling import NEEDS_COMPILER, compiled, counted, numbers, ran

pytestmark = NEEDS_COMPILER


def test_a_death_at_each_store_is_survived(tmp_path) -> None:
    seen = numbers(ran(compiled("killed", tmp_path, "-O2")))
    assert seen["deaths"] > 500
    assert seen["wrong"] == 0


@pytest.mark.parametrize(
    "change",
    [
        (
            "ring_store(slot->header + SHM_S_INTENT, row + 1);",
            "ring_store(slot->header + SHM_S_PUBLISHED, row + 1);",
        ),
        (
            "\n    ring_word *cell = ring_cell(pair, counter);",
            "\n    ring_word *cell = ring_cell(pair, counter - 1);",
        ),
    ],
    ids=["published first", "written in place"],
)
def test_a_wrong_order_does_not_survive(tmp_path, change) -> None:
    done = ran(compiled("killed", tmp_path, "-O2", change=change))
    assert done.returncode == 1
    assert counted(done)["wrong"] > 0
