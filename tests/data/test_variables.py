"""Variables: what is accepted, in which type it is held, and what each refusal says."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rung3 import Binary, Categorical, Continuous, Image, Ordinal
from rung3.data import variables
from rung3.data.variables import Variable, from_config

loose: Any = variables
"""The kinds of variable, with arguments of any type."""

SIZES = ("small", "large")

EVERY_KIND: list[Variable] = [
    Continuous(),
    Continuous(unit="px", lower=0, upper=0.1, missing=True),
    Continuous(dim=3, lower=-1),
    Binary(),
    Binary(labels=("no", "yes"), missing=True),
    Categorical(10),
    Categorical(2, labels=SIZES),
    Ordinal(3, unit="grade"),
    Image(3, 4, 5),
    Image(1, 2, 2, bits=None),
]


@pytest.mark.parametrize(
    "given",
    [
        [1.0, 2.5],
        (1.0, 2.5),
        np.array([1.0, 2.5], dtype=np.float32),
        np.array([2.5, 1.0])[::-1],
        pd.Series([1.0, 2.5], index=[7, 3]),
        torch.tensor([1.0, 2.5], dtype=torch.float64),
        [torch.tensor(1.0), torch.tensor(2.5)],
    ],
    ids=["list", "tuple", "array", "reversed array", "series", "tensor", "tensors"],
)
def test_numbers_are_accepted_in_every_container(given: Any) -> None:
    held = Continuous().validate("x", given)
    assert held.dtype == torch.get_default_dtype()
    assert held.tolist() == [1.0, 2.5]


@pytest.mark.parametrize(
    ("variable", "given", "shape", "dtype"),
    [
        (Continuous(), 3, (), torch.float32),
        (Continuous(), [3], (1,), torch.float32),
        (Continuous(), np.int16(3), (), torch.float32),
        (Continuous(), [], (0,), torch.float32),
        (Continuous(dim=2), [1, 2], (2,), torch.float32),
        (Continuous(dim=2), [[1, 2]] * 4, (4, 2), torch.float32),
        (Continuous(dim=1), [1], (1,), torch.float32),
        (Binary(), True, (), torch.int64),
        (Binary(), [True, False], (2,), torch.int64),
        (Binary(), torch.tensor([True, False]), (2,), torch.int64),
        (Categorical(3), [2.0, 0.0], (2,), torch.int64),
        (Categorical(3), np.array([2, 0], np.uint8), (2,), torch.int64),
        (Ordinal(3, missing=True), [2, 0], (2,), torch.float32),
        (Image(1, 2, 3), np.zeros((1, 2, 3)), (1, 2, 3), torch.float32),
        (Image(1, 2, 3), np.ones((4, 1, 2, 3)), (4, 1, 2, 3), torch.float32),
    ],
)
def test_values_keep_their_shape_and_are_held_in_the_type_of_their_variable(
    variable: Variable, given: Any, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    held = variable.validate("x", given)
    assert (tuple(held.shape), held.dtype) == (shape, dtype)
    assert np.array_equal(held.numpy(), np.asarray(given))


@pytest.mark.parametrize("bits", range(1, 17))
def test_every_level_is_accepted_however_it_was_computed(bits: int) -> None:
    image = Image(1, 1, 2**bits, bits=bits)
    top = 2**bits - 1
    levels = torch.arange(2**bits).view(1, 1, -1)
    for value in (levels / top, levels.double() / top, 1 - levels / top):
        held = image.validate("x", value)
        whole = (held.double() * top).round() / top
        assert torch.equal(image.nearest(held).double(), whole.float().double())


def test_sizes_may_be_numpys() -> None:
    assert loose.Image(*np.array([1, 8, 8]), bits=np.uint8(4)) == Image(1, 8, 8, bits=4)


def test_gradients_flow_through_validation() -> None:
    value = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    (3 * Continuous(lower=0).validate("x", value)).sum().backward()
    assert value.grad is not None
    assert value.grad.tolist() == [3.0, 3.0]


def test_arrays_are_copied_so_that_later_changes_do_not_reach_the_model() -> None:
    array = np.array([1.0, 2.0], dtype=np.float32)
    held = Continuous().validate("x", array)
    array[0] = 9
    assert held.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("variable", "given", "message"),
    [
        (Continuous(), "tall", "x: expected numbers, got values of type <U4: ['tall']"),
        (Continuous(), [1, None], "x: 1 values are NaN; declare the variable with missing=True"),
        (Continuous(), [1, "a", 2], "x: expected numbers, got values of type <U21: ['a']"),
        (Continuous(), [[1], [2, 3]], "x: setting an array element with a sequence"),
        (Continuous(), 1j, "x: expected numbers, got values of type complex128"),
        (Continuous(), [[1.0]], "x: expected shape () or (n,), got (1, 1)"),
        (Continuous(dim=2), [1.0, 2.0, 3.0], "x: expected shape (2,) or (n, 2), got (3,)"),
        (Continuous(dim=2), 1.0, "x: expected shape (2,) or (n, 2), got ()"),
        (Image(1, 2, 3), np.zeros((2, 3)), "x: expected shape (1, 2, 3) or (n, 1, 2, 3), got (2,"),
        (Continuous(), [1.0, np.nan, np.nan], "x: 2 values are NaN; declare the variable with mis"),
        (Continuous(missing=True), [np.nan, np.inf], "x: 1 values are infinite"),
        (Continuous(), -np.inf, "x: 1 values are infinite"),
        (Continuous(unit="px", lower=0), [3, -2.5], "x: -2.5 is outside its support [0, inf] px"),
        (Continuous(lower=-1, upper=4), [3, 5], "x: 5 is outside its support [-1, 4]"),
        (Continuous(lower=0.5), [0, 1], "x: 0 is outside its support [0.5, inf]"),
        (Continuous(upper=0, dim=2), [[0, 0], [-1, 1]], "x: 1 is outside its support [-inf, 0]"),
        (Binary(), 2, "x: 2 is not a category; expected a whole number from 0 to 1"),
        (Categorical(3), [0, 3], "x: 3 is not a category; expected a whole number from 0 to 2"),
        (Categorical(3), [0, -1], "x: -1 is not a category"),
        (Categorical(3), 1.5, "x: 1.5 is not a category"),
        (Categorical(3), "large", "x: expected numbers, got values of type <U5"),
        (Categorical(2, SIZES), ["huge", "large"], "x: unknown category ['huge']; expected ['smal"),
        (Categorical(2, SIZES), [None, "large"], "x: 1 values are NaN; declare the variable with"),
        (Image(1, 1, 2), [[[0, 255]]], "x: expected an image of floats in [0, 1], got torch.int64"),
        (Image(1, 1, 2), [[[0.0, 1.5]]], "x: 1.5 is outside its support [0, 1]"),
        (
            Image(1, 1, 2),
            [[[0.0, 0.5]]],
            "x: 1 of 2 pixels, such as 0.5, are not multiples of 1/255",
        ),
        (Image(1, 1, 2, bits=1), [[[0.06, 0.94]]], "x: 2 of 2 pixels, such as 0.06, are not mult"),
        (Image(1, 1, 2, bits=12), [[[0.0, 1 / 255]]], "x: 1 of 2 pixels, such as 0.00392157, are"),
    ],
)
def test_a_refusal_names_the_variable_what_was_given_and_what_was_expected(
    variable: Variable, given: Any, message: str
) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        variable.validate("x", given)


@pytest.mark.parametrize(
    ("variable", "given", "missing"),
    [
        (Continuous(missing=True, lower=0), [1.0, np.nan], [False, True]),
        (Continuous(missing=True, dim=2), [[1.0, np.nan], [1.0, 2.0]], [True, False]),
        (Binary(missing=True), [np.nan, 1.0], [True, False]),
        (Categorical(2, SIZES, missing=True), ["large", None], [False, True]),
        (Categorical(2, SIZES, missing=True), pd.Series(["large", np.nan]), [False, True]),
        (Image(1, 1, 2, missing=True), [[[[0.0, 1.0]]], [[[np.nan, 1.0]]]], [False, True]),
        (Categorical(3), [0, 2], [False, False]),
    ],
)
def test_missing_values_are_nan_where_the_variable_is_declared_so(
    variable: Variable, given: Any, missing: list[bool]
) -> None:
    assert variable.is_missing(variable.validate("x", given)).tolist() == missing


def test_values_beside_missing_ones_are_still_checked() -> None:
    with pytest.raises(ValueError, match="x: 7 is not a category"):
        Categorical(3, missing=True).validate("x", [np.nan, 7])
    with pytest.raises(ValueError, match="x: -1 is outside"):
        Continuous(lower=0, missing=True).validate("x", [np.nan, -1])


@pytest.mark.parametrize(
    "given",
    [
        ["large", "small"],
        np.array(["large", "small"]),
        pd.Series(["large", "small"], index=[7, 8], dtype="category"),
        pd.array(["large", "small"], dtype="string"),
        torch.tensor([1, 0]),
        [torch.tensor(1), torch.tensor(0)],
        Categorical(2, labels=SIZES).codes([1, 0]),
    ],
    ids=["list", "array", "series", "string", "tensor", "tensors", "codes"],
)
def test_categories_may_be_given_by_label_or_by_code(given: Any) -> None:
    variable = Categorical(2, labels=SIZES)
    assert variable.validate("size", given).tolist() == [1, 0]
    assert variable.validate("size", "large").item() == 1


NUMBERED = Categorical(labels=("1", "2", "3"), missing=True)


@pytest.mark.parametrize(
    ("variable", "given", "codes"),
    [
        (NUMBERED, [1, 3], [0, 2]),
        (NUMBERED, ["1", "3"], [0, 2]),
        (NUMBERED, 2, 1),
        (NUMBERED, np.array([1.0, np.nan, 3.0]), [0, np.nan, 2]),
        (NUMBERED, pd.array([3, pd.NA], dtype="Int64"), [2, np.nan]),
        (NUMBERED, pd.Series(["3", pd.NA], dtype="string"), [2, np.nan]),
        (NUMBERED, torch.tensor([1, 2]), [1, 2]),
        (NUMBERED, NUMBERED.codes([1, 2]), [1, 2]),
        (loose.Categorical(labels=(10, 20.0, 30)), [20, 10], [1, 0]),
        (Categorical(labels=("01", "02")), [2, 1], [1, 0]),
        (loose.Binary(labels=(True, False)), [True, False, True], [0, 1, 0]),
        (loose.Binary(labels=(True, False)), ["True", np.False_], [0, 1]),
        (Binary(labels=("true", "false"), missing=True), pd.array([True, None]), [0, np.nan]),
        (Binary(labels=("no", "yes"), coded=True), [1, 0], [1, 0]),
        (Binary(labels=("no", "yes"), coded=True), ["yes", 0], [1, 0]),
        (Binary(missing=True), pd.array([True, None], dtype="boolean"), [1, np.nan]),
        (Continuous(missing=True), [1, None, pd.NA, 2.5], [1, np.nan, np.nan, 2.5]),
        (Continuous(), np.array([1, 2], ">f4"), [1, 2]),
        (Continuous(), np.array([1, 2], "uint16"), [1, 2]),
    ],
    ids=str,
)
def test_a_value_that_reads_like_a_label_is_that_label(
    variable: Variable, given: Any, codes: Any
) -> None:
    held = variable.validate("x", given)
    np.testing.assert_array_equal(held.double().numpy(), np.array(codes, dtype=float))
    assert torch.equal(variable.validate("x", held).nan_to_num(-1), held.nan_to_num(-1))


@pytest.mark.parametrize(
    ("variable", "given"),
    [
        (NUMBERED, [0]),
        (NUMBERED, 4),
        (NUMBERED, [1.5]),
        (Categorical(labels=("low", "high")), [0, 1]),
        (Binary(labels=("female", "male")), True),
    ],
)
def test_codes_must_be_asked_for(variable: Variable, given: Any) -> None:
    with pytest.raises(ValueError, match=r"x: unknown category .*coded=True, or use its codes"):
        variable.validate("x", given)


def test_a_misspelt_label_is_answered_with_the_near_ones() -> None:
    with pytest.raises(ValueError, match=r"\['Pari'\].*did you mean 'Paris'\?$"):
        Categorical(labels=("London", "Paris", "Rome")).validate("site", ["Rome", "Pari"])


@given(
    lower=st.floats(-1e6, 1e6),
    width=st.floats(1e-3, 1e6),
    at=st.lists(st.floats(0, 1), min_size=1, max_size=5),
)
def test_what_was_accepted_once_is_accepted_again(
    lower: float, width: float, at: list[float]
) -> None:
    """Also where the support's end is not a number of the type that values are held in."""
    variable = Continuous(lower=lower, upper=lower + width)
    held = variable.validate("x", [min(lower + share * width, lower + width) for share in at])
    assert torch.equal(variable.validate("x", held), held)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Continuous(lower=2, upper=2), "lower=2 must be less than upper=2"),
        (lambda: Continuous(dim=0), "dim=0 must be at least 1, or None for a scalar"),
        (lambda: Categorical(1), "classes=1 must be at least 2"),
        (lambda: Ordinal(3, labels=("low", "high")), "3 classes, but 2 labels"),
        (lambda: Binary(labels=("no",)), "2 classes, but 1 labels"),
        (lambda: Binary(labels=("no", "no")), "'no' is there twice"),
        (lambda: loose.Categorical(labels=(1, 2, "1")), "'1' is there twice"),
        (lambda: loose.Categorical(labels=("a", None)), "None stands for a missing value"),
        (lambda: loose.Categorical(labels="ab"), "expected one label a category"),
        (lambda: loose.Categorical(("a", "b")), "is not a whole number; names go in labels"),
        (lambda: Image(1, 0, 5), r"must be at least 1, got \(1, 0, 5\)"),
        (lambda: loose.Image(1.0, 8, 8), r"whole numbers .* got \(1\.0, 8, 8\)"),
        (lambda: Image(1, True, 8), r"whole numbers .* got \(1, True, 8\)"),
        (lambda: loose.Image(1, 8, "8"), r"whole numbers .* got \(1, 8, '8'\)"),
        *(
            (
                lambda bits=bits: Image(1, 8, 8, bits=bits),
                rf"bits={bits!r} must be a whole number from 1",
            )
            for bits in (0, -1, 3.5, 8.0, True, "8", 17)
        ),
        (lambda: Image(1, 0, 8, 8), r"depth, height and width .* got \(1, 0, 8, 8\)"),
        (lambda: Image(1, 8), r"height and width of an image, or depth, .* got \(8,\)"),
        (lambda: Image(1, 8, 8, 8, 8), r"or depth, height and width .* got \(8, 8, 8, 8\)"),
        (lambda: Image(1, 8, 8, width=8), r"expected height and width .* got \(8, 8\)"),
        (lambda: Image(1, depth=8, width=8), r"expected height .* got \(8, None, 8\)"),
        (
            lambda: loose.Image(1, 8, 8, fit="stretch"),
            "fit='stretch': expected 'crop', 'pad', or None",
        ),
    ],
)
def test_a_variable_that_cannot_be_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_three_sizes_make_a_volume_and_names_mean_the_same() -> None:
    volume = Image(1, 4, 6, 5)
    assert (volume.shape, volume.sizes) == ((1, 4, 6, 5), (4, 6, 5))
    assert volume == Image(channels=1, width=5, height=6, depth=4)
    assert Image(1, 6, 5) == Image(1, height=6, width=5) != volume
    assert Image(1, 6, 5).config() == {"kind": "Image", "channels": 1, "height": 6, "width": 5}
    assert volume.validate("scan", torch.zeros(2, 1, 4, 6, 5)).shape == (2, 1, 4, 6, 5)
    with pytest.raises(ValueError, match=r"scan: expected shape \(1, 4, 6, 5\) or \('?n"):
        volume.validate("scan", torch.zeros(2, 4, 6, 5))


@pytest.mark.parametrize("variable", EVERY_KIND, ids=str)
def test_the_configuration_makes_the_same_variable_also_from_lists(variable: Variable) -> None:
    stored = {k: list(v) if isinstance(v, tuple) else v for k, v in variable.config().items()}
    assert from_config("x", stored) == variable


def test_the_configuration_holds_only_what_differs_from_the_defaults() -> None:
    assert Continuous(lower=0).config() == {"kind": "Continuous", "lower": 0}
    assert Binary().config() == {"kind": "Binary"}
    assert str(Image(1, 32, 32)) == "Image(channels=1, height=32, width=32)"
    assert Ordinal(3).kind == "ordinal"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"kind": "Contnuous"}, "x: unknown kind of variable 'Contnuous'; expected .*'Continuous'"),
        ({}, "x: unknown kind of variable None"),
        ({"kind": "Continuous", "uppper": 3}, "x: Continuous: .*uppper"),
        ({"kind": "Categorical"}, "x: Categorical: .*classes"),
    ],
)
def test_a_configuration_that_is_none_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_config("x", config)
