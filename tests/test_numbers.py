"""The lists of numbers that users write, wherever they write them."""

import pytest
from pulid_pack.pulid_core.errors import PulidError
from pulid_pack.pulid_core.injection.options import parse_factors
from pulid_pack.pulid_core.numbers import parse_numbers
from pulid_pack.pulid_core.sheet.tuning import tuning_grid


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("1, 0.5; 2", (1, 0.5, 2)),
        ("-1e-3", (-0.001,)),
        ("\n1,\n2,\n", (1, 2)),
        ("", ()),
        (" , ;", ()),
    ],
)
def test_numbers(text, numbers):
    assert parse_numbers(text) == numbers


@pytest.mark.parametrize(
    "text", ["one", "1 2", "1, nan", "inf", "-infinity; 1", "1e999", "1,,0x2", "1:2"]
)
def test_what_is_no_list_of_numbers(text):
    with pytest.raises(ValueError, match=r"could not convert|not finite"):
        parse_numbers(text)
    for parse in (lambda: parse_factors(text, "double_blocks"), lambda: tuning_grid(text, "0")):
        with pytest.raises(PulidError, match="separated by commas"):
            parse()


def test_semicolons_do_everywhere():
    assert parse_factors("1; 0.5", "double_blocks") == (1, 0.5)
    assert len(tuning_grid("1; 0.5", "0; 0.1; 0.2")[0]) == 6
