from __future__ import annotations

import re

import pytest

from rung3 import Image
from rung3.mechanisms.likelihoods.gaussian import DiscretisedGaussian
from rung3.mechanisms.likelihoods.registry import LIKELIHOODS, check_likelihood, likelihood_of


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_a_name_gives_its_class_for_pixels_of_its_kind(name: str) -> None:
    levels = LIKELIHOODS[name].whole_levels
    image = Image(1, 4, 4, bits=5 if levels else None)
    pixels = likelihood_of("scan", image, name, -3.0)
    assert (type(pixels), pixels.min_log_scale) == (LIKELIHOODS[name], -3.0)
    other = Image(1, 4, 4, bits=None if levels else 5)
    with pytest.raises(ValueError, match=f"^scan: its pixels are .* likelihood is {name}"):
        likelihood_of("scan", other, name)


def test_bits_are_those_of_the_image() -> None:
    pixels = likelihood_of("scan", Image(1, 4, 4, bits=5), "discretised")
    assert isinstance(pixels, DiscretisedGaussian)
    assert pixels.levels == 31


@pytest.mark.parametrize("name", ["bernoulli", "", None, 3, ["mixture"]], ids=repr)
def test_a_name_that_none_has_is_refused_with_those_there_are(name: object) -> None:
    message = f"likelihood={name!r} must be one of 'discretised', 'logistic', 'mixture', 'gaussian'"
    with pytest.raises(ValueError, match=re.escape(message)):
        check_likelihood(name)  # type: ignore[arg-type]


def test_what_a_likelihood_refuses_names_the_variable() -> None:
    with pytest.raises(ValueError, match=r"^scan: bits=16 must lie between 1 and 12"):
        likelihood_of("scan", Image(1, 4, 4, bits=16), "mixture")
