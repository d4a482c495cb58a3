"""causal-gen's hierarchical VAE behind the contract of a mechanism, for comparisons.

Its classes are imported, when the mechanism is bound, from a checkout that the user made; none of
its code is here. Network, loss, optimiser and moving average are those of its settings for
Morpho-MNIST, with the exogenous prior; abduction and prediction are those of its `dscm.py`:

    z ~ q(z | x, pa),   u = (x - mu(z, pa)) / sigma(z, pa),   x~ = mu(z, pa~) + sigma(z, pa~) u,

mu clamped to the range. Source: De Sousa Ribeiro et al. 2023 (arXiv 2306.15764).
"""

from __future__ import annotations

import argparse
import collections.abc
import importlib
import math
import sys
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from rung3.data.rows import Noise, Rows
from rung3.data.variables import Categorical, Image
from rung3.mechanisms import Mechanism
from rung3.mechanisms.base import Abduction, Parents

__all__ = ["CausalGen"]

HPARAMS = "morphomnist"


class CausalGen(Mechanism):
    """causal-gen's HVAE for Morpho-MNIST; noise `z0`, `z1`, ... and `eps`.

    Args:
        checkout: Folder of a checkout of causal-gen.

    Raises:
        ValueError: On `build`, if the folder is not a checkout, or image and parents are not those
            of Morpho-MNIST at 32x32.
    """

    low: Tensor
    high: Tensor

    abduction: ClassVar[Abduction] = "approximate"
    observation_noise: ClassVar[tuple[str, ...]] = ("eps",)
    assumption: str = "a decoder with Gaussian latents and pixel noise; latents by an encoder"

    def __init__(self, checkout: str) -> None:
        super().__init__()
        self.checkout = checkout

    def build(self) -> None:
        self.settings = _settings(self.checkout)
        expected = dict.fromkeys(self.settings.parents_x, ())
        given = {name: parent.shape for name, parent in self.parents.items()}
        square = Image(self.settings.input_channels, *[self.settings.input_res] * 2)
        if self.variable != square or given != expected:
            raise ValueError(
                f"{self.name}: causal-gen models {square} with the parents {list(expected)}, "
                f"and this is {self.variable} with {list(given)}"
            )
        self.network = _module(self.checkout, "vae").HVAE(self.settings)
        for module in self.network.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.zeros_(module.bias)
        real = [name for name, parent in self.parents.items() if not _classes(parent)]
        self.register_buffer("low", torch.zeros(len(real)))
        self.register_buffer("high", torch.ones(len(real)))

    def calibrate_networks(self, value: Tensor, parents: Parents) -> None:
        """Take the ranges of the continuous parents from training data."""
        columns = [parents[n] for n, parent in self._ordered() if not _classes(parent)]
        self.low.copy_(torch.stack([column.amin() for column in columns]))
        self.high.copy_(torch.stack([column.amax() for column in columns]))

    def _ordered(self) -> list[tuple[str, Any]]:
        return [(name, self.parents[name]) for name in self.settings.parents_x]

    def _context(self, parents: Parents) -> Tensor:
        """Parents as maps `(n, k, H, W)`: continuous ones from -1 to 1, categories one-hot."""
        ranges = iter(zip(self.low, self.high, strict=True))
        columns = []
        for name, parent in self._ordered():
            if classes := _classes(parent):
                columns.append(F.one_hot(parents[name].long(), classes).to(self.low.dtype))
            else:
                low, high = next(ranges)
                columns.append(2 * (parents[name].unsqueeze(1) - low) / (high - low) - 1)
        size = self.settings.input_res
        return torch.cat(columns, 1)[..., None, None].repeat(1, 1, size, size)

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        raise ValueError(f"{self.name}: causal-gen draws its noise inside its network")

    def abduct(
        self,
        value: Tensor,
        parents: Parents,
        particles: int | None = None,
        generator: Generator | None = None,
    ) -> Noise:
        """Draw z from the amortised posterior (from torch's own stream), then divide for eps."""
        if particles is not None:
            raise ValueError(f"{self.name}: one particle at a time")
        x, context = 2 * value - 1, self._context(parents)
        latents = self.network.abduct(x, parents=context)
        mean, scale = self.network.forward_latents(latents, parents=context)
        eps = (x - mean) / scale.clamp_min(1e-12)
        return {f"z{k}": z for k, z in enumerate(latents)} | {"eps": eps}

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        assert isinstance(noise, dict)
        latents = [noise[f"z{k}"] for k in range(len(noise) - 1)]
        mean, scale = self.network.forward_latents(latents, parents=self._context(parents))
        image: Tensor = ((mean + scale * noise["eps"]).clamp(-1, 1) + 1) / 2
        return image

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        """A lower bound of `log p(x | pa)`, estimated with one draw of z, shape `(n,)`, in nats."""
        x = 2 * value - 1
        h, stats = self.network.decoder(parents=self._context(parents), x=self.network.encoder(x))
        kl = torch.stack([layer["kl"].flatten(1).sum(1) for layer in stats]).sum(0)
        bound: Tensor = -math.prod(self.variable.shape) * self.network.likelihood.nll(h, x) - kl
        return bound

    def loss(self, value: Tensor, parents: Parents) -> Tensor:
        elbo: Tensor = self.network(2 * value - 1, self._context(parents))["elbo"]
        return elbo

    def training_steps(
        self, rows: Rows, batch_size: int | None = None, seed: int = 0, autocast: Any = None
    ) -> collections.abc.Generator[int, None, None]:
        """Its training loop, a step with every `next`; `close()` leaves the averaged weights.

        Args:
            rows: Training rows, on the mechanism's device.
            batch_size: Rows a step; its own setting if not given.
            seed: Of the order of rows.
            autocast: A context for the forward pass.

        Yields:
            The number of images seen so far.
        """
        settings, helpers = self.settings, _module(self.checkout, "utils")
        size = batch_size or settings.bs
        average = helpers.EMA(self.network, beta=settings.ema_rate).to(self.low.device)
        optimizer = torch.optim.AdamW(
            self.network.parameters(),
            lr=settings.lr,
            weight_decay=settings.wd,
            betas=settings.betas,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, helpers.linear_warmup(settings.lr_warmup_steps)
        )
        generator, seen = torch.Generator().manual_seed(seed), 0
        self.train()
        try:
            while True:
                order = torch.randperm(rows.n, generator=generator)[: rows.n // size * size]
                for some in order.to(self.low.device).split(size):
                    with autocast or torch.enable_grad():
                        loss = self.loss(
                            rows[self.name][some], {name: rows[name][some] for name in self.parents}
                        )
                    loss.backward()
                    norm = nn.utils.clip_grad_norm_(self.network.parameters(), settings.grad_clip)
                    if norm < settings.grad_skip and loss.isfinite():
                        optimizer.step()
                        schedule.step()
                        average.update()
                    self.network.zero_grad(set_to_none=True)
                    seen += size
                    yield seen
        finally:
            self.network.load_state_dict(average.ema_model.state_dict())
            self.eval()


def _classes(parent: Any) -> int:
    return parent.classes if isinstance(parent, Categorical) else 0


def _module(checkout: str, name: str) -> Any:
    source = f"{checkout}/src"
    if source not in sys.path:
        sys.path.insert(0, source)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ValueError(f"{checkout}: no checkout of causal-gen: {error}") from None


def _settings(checkout: str) -> Any:
    """Its own defaults, with its settings for Morpho-MNIST over them."""
    hps = _module(checkout, "hps")
    parser = hps.add_arguments(argparse.ArgumentParser())
    parser.set_defaults(**vars(hps.HPARAMS_REGISTRY[HPARAMS]))
    return parser.parse_args(["--hps", HPARAMS])
