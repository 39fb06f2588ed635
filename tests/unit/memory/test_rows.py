"""Windows of bars: one contiguous, read-only piece of each column, and `valid`."""

import copy
import pickle
from collections.abc import Callable

import numpy as np
import pytest
from support.ring_on_bytes import HOUR, Bench, bench, prices

from shmfeed.bar import FLOAT_FIELDS, INT_FIELDS, Bar
from shmfeed.errors import BadArgumentError
from shmfeed.layout import COLUMNS
from shmfeed.memory.rows import Rows


def pickled(thing: object) -> object:
    return pickle.loads(pickle.dumps(thing))


pytestmark = pytest.mark.usefixtures("each_core")

UNITS = ("ms", "us", "ns")
HISTORY, GUARD = 6, 2
CAPACITY = HISTORY + GUARD
Take = Callable[[Bench, int], Rows]
TAKES = [
    pytest.param(lambda ring, n: ring.reader.view(n), id="view"),
    pytest.param(lambda ring, n: ring.reader.snapshot(n), id="snapshot"),
]


@pytest.fixture
def ring() -> Bench:
    return bench(HISTORY, GUARD)


@pytest.mark.parametrize("take", TAKES)
class TestColumns:
    def test_each_field_is_found_by_name(self, ring: Bench, take: Take) -> None:
        ring.writer.append(HOUR, 5.0, 9.0, 1.0, 7.0, 3.0, 4.0, 3)
        rows = take(ring, 1)
        read = {field: rows[field].tolist() for field in COLUMNS}
        assert read == {
            "open_time": [HOUR],
            "close_time": [2 * HOUR],
            "open": [5.0],
            "high": [9.0],
            "low": [1.0],
            "close": [7.0],
            "volume": [3.0],
            "money": [4.0],
            "flags": [3],
        }

    def test_columns_have_their_types(self, ring: Bench, take: Take) -> None:
        ring.close(0, 1)
        rows = take(ring, 2)
        assert {rows[field].dtype for field in INT_FIELDS} == {np.dtype(np.int64)}
        assert {rows[field].dtype for field in FLOAT_FIELDS} == {np.dtype(np.float64)}

    def test_values_are_five_rows(self, ring: Bench, take: Take) -> None:
        ring.close(0, 1, 2)
        rows = take(ring, 2)
        assert rows.values.shape == (5, 2)
        assert rows.values.T.tolist() == [list(prices(1)), list(prices(2))]
        assert rows.floats.shape == (6, 2)
        assert np.isnan(rows.floats[5]).all()

    def test_times_are_int64_ms(self, ring: Bench, take: Take) -> None:
        ring.close(3, 4)
        rows = take(ring, 2)
        assert rows.open_time.tolist() == [3 * HOUR, 4 * HOUR]
        assert rows.close_time.tolist() == [4 * HOUR, 5 * HOUR]

    def test_first_and_last_are_row_numbers(self, ring: Bench, take: Take) -> None:
        ring.close(*range(20))
        rows = take(ring, 3)
        assert (rows.first, rows.last, len(rows)) == (17, 20, 3)
        assert type(rows.first) is type(rows.last) is int
        assert not rows.forming

    def test_a_numpy_count_is_accepted_and_leaves_plain_ints(
        self, ring: Bench, take: Take
    ) -> None:
        ring.close(0, 1, 2)
        rows = take(ring, np.int64(2))  # type: ignore[arg-type] # on purpose
        assert (rows.first, rows.last) == (1, 3)
        assert type(rows.first) is int

    def test_a_row_is_a_bar(self, ring: Bench, take: Take) -> None:
        ring.writer.append(HOUR, *prices(1), 4.0, 3)
        ring.writer.append(2 * HOUR, *prices(2), 5.0, 6)
        rows = take(ring, 2)
        assert rows.bar(0) == Bar(HOUR, 2 * HOUR, *prices(1), 4.0, 3)
        assert rows.bar(-1) == rows.bar(1)
        assert [type(value) for value in rows.bar(-1)] == [int] * 2 + [float] * 6 + [
            int
        ]

    def test_a_row_outside_the_window_is_an_index_error(
        self, ring: Bench, take: Take
    ) -> None:
        ring.close(0, 1)
        rows = take(ring, 2)
        for row in (2, -3):
            with pytest.raises(IndexError, match=f"row {row} of 2"):
                rows.bar(row)
        with pytest.raises(IndexError):
            rows.bar(1 << 63)
        for odd in (1.0, None, "0", [0], slice(1)):
            with pytest.raises(TypeError, match="as an integer"):
                rows.bar(odd)

    @pytest.mark.parametrize("field", ["", "Close", "time", "code", None, 3, ["close"]])
    def test_an_unknown_field_is_refused_and_the_known_are_listed(
        self, ring: Bench, take: Take, field: str
    ) -> None:
        with pytest.raises(BadArgumentError) as caught:
            take(ring, 1)[field]
        assert repr(field) in str(caught.value)
        assert all(name in str(caught.value) for name in COLUMNS)

    @pytest.mark.parametrize("unit", UNITS)
    def test_datetimes_are_close_times_of_any_usual_unit(
        self, ring: Bench, take: Take, unit: str
    ) -> None:
        ring.close(3, 4)
        rows = take(ring, 2)
        times = rows.datetimes(np.dtype(f"M8[{unit}]"))
        assert times.dtype == np.dtype(f"M8[{unit}]")
        assert times.tolist() == np.array([4, 5], "M8[h]").astype(times.dtype).tolist()
        times[0] = np.datetime64(0, unit)  # no other object holds it
        assert rows.close_time.tolist() == [4 * HOUR, 5 * HOUR]

    @pytest.mark.parametrize(
        "dtype",
        ["M8[us]", *map(np.dtype, ["M8[s]", "M8[25us]", ">M8[us]", "M8", "m8[us]"])]
        + [np.dtype(name) for name in ("int64", "O", "U2", "float32")]
        + [np.datetime64, np.int64, None, 3],
        ids=str,
    )
    def test_other_datetimes_are_refused(
        self, ring: Bench, take: Take, dtype: np.dtype[np.datetime64]
    ) -> None:
        ring.close(0)
        with pytest.raises(BadArgumentError) as caught:
            take(ring, 1).datetimes(dtype)
        assert repr(dtype) in str(caught.value)
        assert all(f"datetime64[{unit}]" in str(caught.value) for unit in UNITS)

    @pytest.mark.parametrize(
        ("closed", "missing"),
        [((), 0), ((4,), 0), ((3, 4), 0), ((1, 2, 5), 2), ((0, 3, 4, 9), 6)],
    )
    def test_missing_bars_are_counted(
        self, ring: Bench, take: Take, closed: tuple[int, ...], missing: int
    ) -> None:
        ring.close(*closed)
        assert take(ring, HISTORY).missing(HOUR) == missing

    def test_bars_off_the_grid_are_not_missing(self, ring: Bench, take: Take) -> None:
        ring.close(1, 2, 3)
        rows = take(ring, 3)
        assert rows.missing(2 * HOUR) == rows.missing(1 << 80) == 0
        assert rows.missing(np.int64(HOUR // 2)) == 2  # type: ignore[arg-type]

    @pytest.mark.parametrize("step", [0, -1, -(1 << 80), True, 1.5, "1h", None])
    def test_a_bad_step_is_refused(self, ring: Bench, take: Take, step: int) -> None:
        with pytest.raises(BadArgumentError, match=r"step is .*; it must be an int of"):
            take(ring, 1).missing(step)

    def test_an_empty_window_has_each_column(self, ring: Bench, take: Take) -> None:
        rows = take(ring, 3)
        assert len(rows) == 0
        assert rows.values.shape == (5, 0)
        assert all(len(rows[field]) == 0 for field in COLUMNS)
        assert len(rows.datetimes(np.dtype("M8[ns]"))) == 0


@pytest.mark.parametrize(
    ("first", "last", "missing"),
    [(7, 3, 0), (-(1 << 63), (1 << 63) - 1, (1 << 64) - 3), ((1 << 63) - 1, -5, 0)],
)
def test_missing_bars_of_any_times(
    ring: Bench, first: int, last: int, missing: int
) -> None:
    ring.close(0, 1, 2)
    rows = ring.reader.snapshot(3)
    rows.close_time[[0, 2]] = first, last
    assert rows.missing(1) == missing


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, pickled])
@pytest.mark.parametrize("include_now", [False, True])
def test_private_rows_can_be_copied_and_sent(ring, way, include_now) -> None:
    """They are sent to another process, which may have the other core."""
    ring.close(0, 1, 2)
    ring.writer.update_forming(3 * HOUR, *prices(3))
    rows = ring.reader.snapshot(3, include_now)
    found = way(rows)
    assert (found.first, found.last, found.forming) == (
        rows.first,
        rows.last,
        include_now,
    )
    assert len(found) == 3
    for field in COLUMNS:
        np.testing.assert_array_equal(found[field], rows[field])
        assert found[field].dtype == rows[field].dtype
    assert found.valid
    assert found.bar(-1)[:7] == rows.bar(-1)[:7]


class TestSlice:
    def test_every_window_is_one_contiguous_piece(self, ring: Bench) -> None:
        for number in range(3 * CAPACITY):
            ring.close(number)
            for n in range(1, HISTORY + 1):
                rows = ring.reader.view(n)
                numbers = range(max(0, number + 1 - n), number + 1)
                assert rows["close"].tolist() == [prices(i)[3] for i in numbers]
                assert rows.open_time.tolist() == [i * HOUR for i in numbers]
                assert rows["close"].flags.c_contiguous
                assert rows["close"].ctypes.data % 8 == 0
                assert [row.flags.c_contiguous for row in rows.values] == [True] * 5

    def test_a_slice_shares_the_ring_and_its_fields_share_memory(
        self, ring: Bench
    ) -> None:
        ring.close(0, 1)
        rows = ring.reader.view(2)
        assert np.shares_memory(rows["close"], rows.values)
        assert np.shares_memory(rows["close"], ring.reader.view(1)["close"])
        assert np.shares_memory(rows["flags"], np.frombuffer(ring.words.raw, np.int64))

    @pytest.mark.parametrize("field", [*COLUMNS, "values", "floats"])
    def test_a_slice_cannot_be_written(self, ring: Bench, field: str) -> None:
        ring.close(0)
        rows = ring.reader.view(1)
        array = rows[field] if field in COLUMNS else getattr(rows, field)
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 1
        with pytest.raises(ValueError, match="read-only"):
            array += 1

    def test_an_older_slice_keeps_its_rows(self, ring: Bench) -> None:
        ring.close(*range(HISTORY))
        rows = ring.reader.view(HISTORY)
        before = rows.values.copy()
        ring.close(*range(HISTORY, HISTORY + GUARD))
        assert rows.valid
        assert (rows.values == before).all()
        assert (rows.first, rows.last) == (0, HISTORY)

    def test_a_lapped_slice_is_reported(self, ring: Bench) -> None:
        ring.close(*range(HISTORY))
        rows = ring.reader.view(HISTORY)
        younger = ring.reader.view(HISTORY - 1)
        ring.close(*range(HISTORY, CAPACITY + 1))
        assert not rows.valid
        assert rows["close"][0] != prices(0)[3]  # it is lapped indeed
        assert younger.valid
        ring.close(CAPACITY + 1)
        assert not younger.valid

    def test_a_full_slice_is_valid_for_guard_more_bars(self) -> None:
        for guard in range(1, 9):
            ring = bench(HISTORY, guard)
            ring.close(*range(50))
            rows = ring.reader.view(HISTORY)
            ring.close(*range(50, 50 + guard))
            assert rows.valid
            ring.close(50 + guard)
            assert not rows.valid

    def test_a_copy_is_private(self, ring: Bench) -> None:
        ring.close(0, 1)
        rows = ring.reader.view(2)
        copy = rows.copy()
        assert rows.valid
        assert not np.shares_memory(copy.block, rows["close"])
        ring.close(*range(2, 2 + CAPACITY))
        assert copy.valid
        assert copy.values.T.tolist() == [list(prices(0)), list(prices(1))]
        copy["close"][0] = 1.0
        assert copy.bar(0).close == 1.0

    def test_a_slice_outlives_its_reader(self) -> None:
        ring = bench(HISTORY)
        ring.close(0)
        close = ring.reader.view(1)["close"]
        del ring
        assert close.tolist() == [prices(0)[3]]
