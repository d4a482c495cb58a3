"""Models of numbers, and of every kind of variable, that the tests of the verbs share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rung3 import SCM, Binary, Categorical, Continuous, Image, Ordinal
from rung3.data.rows import Noise
from rung3.mechanisms import VAE, Equation


def chain() -> SCM:
    """`a := u`, `b := exp(a/2) u`, `c := a b + 2 u`, and d beside them."""
    return SCM(
        a=Equation("u"),
        b=Equation("exp(a/2) * u"),
        c=Equation("a*b + 2*u"),
        d=Equation("3*u"),
    )


def every_kind() -> SCM:
    """An untrained model of every kind of variable and mechanism, away from where it starts."""
    model = SCM(
        graph="site -> dose -> stage; {site dose} -> sick; {dose stage} -> scan; dose -> place",
        variables={
            "site": Categorical(4),
            "dose": Continuous(unit="mg", lower=0),
            "stage": Ordinal(3),
            "sick": Binary(),
            "place": Continuous(dim=2),
            "scan": Image(1, 8, 9),
        },
        mechanisms={"scan": VAE(latent=3, width=4, depth=1)},
    )
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval()


def row() -> dict[str, Any]:
    return {"a": 0.5, "b": -1.0, "c": 2.0, "d": 1.0}


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return list(one) == list(other) and all(torch.equal(one[k], other[k]) for k in one)


def wrong(value: object) -> Any:
    """What neither a mechanism nor a variable is, for `a`."""
    return {"a": value}


def parts(noise: Noise) -> list[Tensor]:
    return [noise] if isinstance(noise, Tensor) else list(noise.values())


ROWS = {"a": [0.0, 1.0, 2.0], "b": [1.0, 1.0, 0.0], "c": [3.0, -1.0, 0.0], "d": [0.0, 0.0, 1.0]}
