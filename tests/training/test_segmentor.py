"""Segmentors: predictors that measure a region, and train mechanisms for its volume."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch import Generator, Tensor, nn

from rung3 import SCM, Binary, Continuous, Image, Mask, Rows, fit
from rung3.data.rows import Noise
from rung3.evaluation import Oracles
from rung3.mechanisms.base import Abduction, Mechanism, Parents
from rung3.training.counterfactual import CounterfactualObjective
from rung3.training.counterfactual.preparation import columns, fit_predictors
from rung3.training.counterfactual.segmentor import Segmentor, fit_segmentor

SIZE = 8
COLUMNS = torch.arange(SIZE).view(1, 1, 1, SIZE)
GRAPH = "volume -> image; light -> image; image -> mask"
VARIABLES = {
    "volume": Continuous(unit="ml"),
    "light": Continuous(),
    "image": Image(1, SIZE, SIZE),
    "mask": Mask(2, SIZE, SIZE, labels=("ground", "bar")),
}


def bar(volume: Tensor) -> Tensor:
    """A bar that is as long as its volume, from the left: the share of each pixel in it."""
    return (volume.view(-1, 1, 1, 1) - COLUMNS).clamp(0, 1).expand(-1, 1, SIZE, SIZE)


class Bar(Mechanism):
    """A bar of length `4 + theta (volume - 4)`, and the rest: at theta = 0 it does not listen."""

    abduction: ClassVar[Abduction] = "exact"
    assumption: str = "none"

    def build(self) -> None:
        self.theta = nn.Parameter(torch.tensor(0.3))

    def _drawn(self, parents: Parents) -> Tensor:
        return 0.6 * bar(4 + self.theta * (parents["volume"] - 4))

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        return 0.1 * torch.randn(n, *self.variable.shape, generator=generator)

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        assert isinstance(noise, Tensor)
        return (self._drawn(parents) + noise).clamp(0, 1)

    def abduct(
        self,
        value: Tensor,
        parents: Parents,
        particles: int | None = None,
        generator: Generator | None = None,
    ) -> Noise:
        return value - self._drawn(parents)

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        return 0 * self._drawn(parents).flatten(1).sum(1)  # the likelihood asks for nothing


def model() -> SCM:
    scm = SCM(GRAPH, VARIABLES, {"image": Bar()})
    scm.fitted = {name: {} for name in ("volume", "light")}
    return scm


@pytest.fixture(scope="module")
def rows() -> Rows:
    generator = torch.Generator().manual_seed(0)
    volume = 1 + 6 * torch.rand(200, generator=generator)
    light = 0.3 * torch.rand(200, generator=generator)
    inside = bar(volume)
    image = 0.1 + 0.6 * inside + light.view(-1, 1, 1, 1)
    image = (image + 0.03 * torch.randn(image.shape, generator=generator)).clamp(0, 1)
    mask = (inside > 0.5).float()
    return Rows(
        {
            "volume": volume,
            "light": light,
            "image": image.mul(255).round() / 255,
            "mask": mask,
        }
    )


@pytest.fixture(scope="module")
def segmentor(rows: Rows) -> Segmentor:
    given = ("mask", "bar")
    return fit_segmentor(model(), "image", "volume", given, rows[:64], rows[100:], 0, False)


@pytest.fixture(scope="module")
def oracles(rows: Rows) -> Oracles:
    return fit_predictors(model(), rows[:100], seed=0, progress=False)


def test_a_segmentor_measures_the_region_and_not_the_light(
    rows: Rows, segmentor: Segmentor
) -> None:
    assert float(segmentor.explained) > 0.95  # whole pixels explain 0.97
    images = rows["image"][100:]
    torch.testing.assert_close(segmentor.read(images), rows["volume"][100:], atol=0.8, rtol=0)
    brighter = segmentor.read((images + 0.05).clamp(0, 1)) - segmentor.read(images)
    assert float(brighter.abs().mean()) < 0.3  # of a range of 6


def test_its_gradient_reaches_the_pixels_where_the_region_ends(segmentor: Segmentor) -> None:
    image = (0.2 + 0.6 * bar(torch.tensor([3.5]))).requires_grad_()
    segmentor.share(image).sum().backward()
    pull = image.grad.abs().sum((0, 1, 2))  # type: ignore[union-attr]
    assert float(pull[2:6].sum()) > 0.6 * float(pull.sum())


def test_training_by_a_segmentor_makes_the_region_as_large_as_was_asked(
    rows: Rows, oracles: Oracles
) -> None:
    scm = model()
    objective = CounterfactualObjective(
        weight=1.0,
        after=0,
        ramp=0,
        share=1.0,
        intervene=["volume"],
        segment={"volume": ["mask", "bar"]},
        predictors=oracles,
    )
    options: dict[str, Any] = {"epochs": 20, "batch_size": 32, "lr": 0.1, "progress": False}
    assert {"mask", "volume"} <= set(columns(objective, scm, ["image"]))
    fit(scm, rows[:64], objective=objective, seed=0, **options)
    mechanism = scm.mechanisms["image"]
    assert isinstance(mechanism, Bar)
    assert float(mechanism.theta) == pytest.approx(1, abs=0.1)
    record = scm.fitted["image"]
    assert record["objective"]["segment"] == {"volume": ["mask", "bar"]}
    # It takes the place of the volume's oracle, and may not judge the model either.
    digests = {name: oracle.digest() for (_, name), oracle in oracles.items()}
    assert len(record["predictors"]) == 2
    assert digests["light"] in record["predictors"]
    assert digests["volume"] not in record["predictors"]


def test_a_segmentor_is_the_same_for_a_seed(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rung3.training.counterfactual.segmentor.EPOCHS", 2)
    given = ("mask", "bar")
    digests = [
        fit_segmentor(model(), "image", "volume", given, rows[:8], rows[190:], k, False).digest()
        for k in (1, 1, 2)
    ]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("segment", "message"),
    [
        ({"volum": ["mask", "bar"]}, r"segment: volum is not a parent of image, which has \['vol"),
        ({"volume": ["masks", "bar"]}, r"masks is not a mask that image causes; .* \['mask'\]"),
        ({"volume": ["light", "bar"]}, r"light is not a mask that image causes"),
        ({"volume": ["mask", "bars"]}, r"'bars': no kind of this mask; .*'ground', 'bar'"),
        ({"volume": ["mask"]}, r"segment=.* must be a mask and its kinds by parent"),
        (["volume"], r"segment=.* must be a mask and its kinds by parent"),
    ],
)
def test_a_region_that_is_none_is_named(segment: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        columns(CounterfactualObjective(weight=1.0, segment=segment), model(), ["image"])


def test_a_category_has_no_region() -> None:
    kinds = {name: VARIABLES[name] for name in ("image", "mask")}
    scm = SCM("sick -> image -> mask", {**kinds, "sick": Binary()})
    objective = CounterfactualObjective(weight=1.0, segment={"sick": ["mask", "bar"]})
    with pytest.raises(ValueError, match=r"segment: sick is Binary.*; expected a number"):
        columns(objective, scm, ["image"])
