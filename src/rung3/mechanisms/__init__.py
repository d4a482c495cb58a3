"""Mechanisms `x := f(pa, u)`, one family a file; `rung3.mechanisms.base` is their contract."""

from typing import TYPE_CHECKING

from rung3.imports import lazily

if TYPE_CHECKING:
    from rung3.mechanisms.adapters import Conditional, ZukoFlow
    from rung3.mechanisms.additive.mechanism import AdditiveNoise
    from rung3.mechanisms.at_bounds import AtBounds
    from rung3.mechanisms.base import Mechanism
    from rung3.mechanisms.contaminated import Contaminated
    from rung3.mechanisms.counts import Counts
    from rung3.mechanisms.defaults import default_mechanism
    from rung3.mechanisms.deformed_atlas import DeformedAtlas
    from rung3.mechanisms.diffusion import Diffusion
    from rung3.mechanisms.discrete import GumbelMax, InverseCDF
    from rung3.mechanisms.equation import Equation
    from rung3.mechanisms.flow import Flow
    from rung3.mechanisms.flow_matching import FlowMatching
    from rung3.mechanisms.gan import GAN
    from rung3.mechanisms.hvae import HVAE
    from rung3.mechanisms.image_to_image import ImageToImage
    from rung3.mechanisms.lifetime import Lifetime
    from rung3.mechanisms.networks.stages import Stage
    from rung3.mechanisms.networks.unet import UNetOptions
    from rung3.mechanisms.segmentation import Segmentation
    from rung3.mechanisms.vae import VAE

__all__ = [
    "AdditiveNoise",
    "AtBounds",
    "Conditional",
    "Contaminated",
    "Counts",
    "DeformedAtlas",
    "Diffusion",
    "Equation",
    "Flow",
    "FlowMatching",
    "GAN",
    "GumbelMax",
    "HVAE",
    "ImageToImage",
    "InverseCDF",
    "Lifetime",
    "Mechanism",
    "Segmentation",
    "Stage",
    "UNetOptions",
    "VAE",
    "ZukoFlow",
    "default_mechanism",
]

if not TYPE_CHECKING:  # so that a name that is not there is still found by a type checker
    __getattr__ = lazily(__spec__)
