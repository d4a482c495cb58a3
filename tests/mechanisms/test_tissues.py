"""Kinds of tissue, fitted to images that lie on top of each other."""

from __future__ import annotations

import pytest
import torch

from rung3.mechanisms.networks.tissues import lesion_of, mixed


def test_it_tells_kinds_apart_that_look_alike_in_one_sequence() -> None:
    generator = torch.Generator().manual_seed(0)
    looks = (2 * torch.randint(2, (80,), generator=generator) - 1).float()[:, None]
    kind = torch.arange(30) // 10  # ten places of each
    level = torch.tensor([[0.2, 0.6, 0.6], [0.2, 0.8, 0.4]])
    clean = level[(looks[:, 0] > 0).long()][:, kind]
    images = (clean + 0.03 * torch.randn(clean.shape, generator=generator))[:, None]
    mixture = mixed(images, looks, kinds=3)
    first, second = (mixture.level[:, 0] @ torch.tensor([1.0, k]) for k in (-1.0, 1.0))
    torch.testing.assert_close(
        first.sort().values, torch.tensor([0.2, 0.6, 0.6]), atol=0.02, rtol=0
    )
    torch.testing.assert_close(
        second.sort().values, torch.tensor([0.2, 0.4, 0.8]), atol=0.02, rtol=0
    )
    torch.testing.assert_close(mixture.deviation, torch.full((3, 1), 0.03), atol=0.006, rtol=0)
    torch.testing.assert_close(mixture.share.sum(0), torch.ones(30))
    assert (mixture.share.amax(0) > 0.95).all()


def test_looks_that_never_change_and_places_of_one_level_are_no_trouble() -> None:
    mixture = mixed(torch.full((5, 2, 9), 0.4), torch.ones(5, 1), kinds=3)
    assert all(part.isfinite().all() for part in mixture)


@pytest.mark.slow
def test_a_lesion_is_found_in_volumes_of_more_voxels_than_a_quantile_of_torch_takes() -> None:
    size = 2**24 + 8
    well, ill = torch.full((1, 1, size), 0.2), torch.full((1, 1, size), 0.2)
    ill[..., : size // 8] = 0.8
    lesion = lesion_of(well, ill)
    assert lesion.level.item() == pytest.approx(0.8)
    assert lesion.share.sum() == pytest.approx(size // 8)
