from __future__ import annotations

import pytest
import torch
from jaxtyping import TypeCheckError

from rung3.evaluation.measures.similarity import ssim


def test_a_shape_that_differs_from_the_signature_fails_while_the_tests_run() -> None:
    image = torch.zeros(2, 1, 16, 16)
    assert ssim(image, image).shape == (2,)
    with pytest.raises(TypeCheckError):
        ssim(image, image[0])
