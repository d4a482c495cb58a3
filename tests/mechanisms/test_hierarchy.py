from __future__ import annotations

import pytest
import torch

from rung3 import Image
from rung3.mechanisms import Stage
from rung3.mechanisms.networks.hierarchy import BottomUp, TopDown
from rung3.mechanisms.networks.stages import Grid


@pytest.mark.parametrize(
    ("image", "resolutions"),
    [
        (Image(1, 28, 28), [14, 7, 1]),
        (Image(3, 64, 48), [12, 4, 2]),
        (Image(2, 4, 9), [1]),
        (Image(1, 8, 24), [8, 1]),
        (Image(3, 256, 256), [32, 8, 1]),
        (Image(1, 200, 256), [50, 25, 5]),
    ],
)
@pytest.mark.parametrize("learned", [False, True])
def test_networks_have_the_shapes_of_their_stages(
    image: Image, resolutions: list[int], learned: bool
) -> None:
    stages = [Stage(r, 2 + i, layers=1 + i, latents=1 + i) for i, r in enumerate(resolutions)]
    grid = Grid("scan", image, stages)
    up, down = BottomUp(grid, stages, image.channels, 3), TopDown(grid, stages, 5, 3, learned)
    context, x = torch.randn(2, 3), torch.rand(2, *image.shape)
    expected = [(2, stage.width, *size) for stage, size in zip(stages, grid.sizes, strict=True)]
    assert [feature.shape for feature in up(x, context)] == expected
    assert [latent.name for latent in down.latents] == [
        f"u{i + 1}" for i in range(sum(stage.layers for stage in stages))
    ]
    indices = [latent.index for latent in down.latents]
    assert indices == sorted(indices, reverse=True)  # from coarse to fine
    for latent in down.latents:
        assert down.shape(latent) == (1 + latent.index, *grid.sizes[latent.index])
    out = down(context, lambda latent, _: torch.randn(2, *down.shape(latent)))
    assert out.shape == (2, 5, image.height, image.width)


def test_the_pass_up_ends_at_the_coarsest_stage_that_has_latents() -> None:
    stages = [Stage(8, 2), Stage(4, 3, latents=1), Stage(2, 4), Stage(1, 5)]
    grid = Grid("scan", Image(1, 8, 8), stages)
    features = BottomUp(grid, stages, 1, 3)(torch.rand(2, 1, 8, 8), torch.randn(2, 3))
    assert [feature.shape[1] for feature in features] == [2, 3]
    assert [latent.name for latent in TopDown(grid, stages, 2, 3, True).latents] == ["u1"]
