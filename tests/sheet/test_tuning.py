"""The tuning grid: every combination once, row by row, and clear refusals."""

import pytest
from pulid_pack.pulid_core.errors import PulidError
from pulid_pack.pulid_core.sheet.tuning import Combination, tuning_grid


def test_rows_are_weights_and_columns_are_starts():
    grid, columns = tuning_grid("0.7, 1", "0,0.1, 0.25")
    assert columns == 3
    assert grid == [
        Combination(weight, start) for weight in (0.7, 1.0) for start in (0.0, 0.1, 0.25)
    ]
    assert grid[1].caption == "weight 0.7, start 0.1"


def test_both_ends_of_the_ranges_are_allowed():
    grid, columns = tuning_grid("-1, 5", "0, 1")
    assert [combination.caption for combination in grid] == [
        "weight -1, start 0",
        "weight -1, start 1",
        "weight 5, start 0",
        "weight 5, start 1",
    ]
    assert columns == 2


@pytest.mark.parametrize(
    ("weights", "starts", "texts"),
    [
        ("", "0", ["weights should be numbers from -1 to 5", "''", "Write for example"]),
        ("1, high", "0", ["weights should be numbers from -1 to 5", "'1, high'"]),
        ("5.1", "0", ["weights should be numbers from -1 to 5", "'5.1'"]),
        ("nan", "0", ["weights should be numbers"]),
        ("1", "-0.1", ["starts should be numbers from 0 to 1", "'-0.1'"]),
        ("1", "0, 1.5", ["starts should be numbers from 0 to 1"]),
        (",".join(["1"] * 13), "0, 0, 0, 0, 0", ["at most 64", "13 weights and 5 starts make 65"]),
    ],
)
def test_refusals_say_what_to_write(weights, starts, texts):
    with pytest.raises(PulidError) as refusal:
        tuning_grid(weights, starts)
    for text in texts:
        assert text in str(refusal.value)


def test_64_combinations_are_allowed():
    assert len(tuning_grid(",".join(["1"] * 8), ",".join(["0"] * 8))[0]) == 64
