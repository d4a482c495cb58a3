"""Numbers as text: significant digits, without an exponent where a reader expects none."""

from __future__ import annotations

import math

import pytest

from rung3.data.number_text import number_text, numbers_alike
from rung3.data.text_widths import fitted


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (1999.0, 3, "1999"), (4167.4, 3, "4167"), (0.51834, 3, "0.518"), (9.996, 3, "10"),
        (-0.00012345, 3, "-0.000123"), (0.0, 3, "0"), (2.5e-7, 3, "2.5e-07"),
        (12345678.0, 4, "1.235e+07"), (100.0, 4, "100"), (237.64, 4, "237.6"),
        (math.inf, 4, "inf"),
    ],
)  # fmt: skip
def test_a_number_has_its_significant_digits(value, digits, text):
    assert number_text(value, digits) == text


def test_widths_keep_words_whole_while_they_can():
    natural, words, letters = [27, 20, 30], [27, 9, 9], [12, 9, 9]
    assert fitted(natural, [words, letters], 100) == natural
    assert fitted(natural, [words, letters], 50) == [27, 11, 12]
    assert fitted(natural, [words, letters], 40) == [22, 9, 9]
    assert sum(fitted(natural, [words, letters], 20)) == 20


def test_numbers_that_belong_together_need_no_finite_neighbour():
    assert numbers_alike([math.nan, 2.0, 3.14159]) == ["nan", "2.000", "3.142"]
    assert numbers_alike([math.inf, 2.0, -math.inf]) == ["inf", "2", "-inf"]
    assert numbers_alike([math.nan, math.inf]) == ["nan", "inf"]
