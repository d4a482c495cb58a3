"""The adversarial mechanism: its contract, what each part is trained by, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from rung3 import SCM, Categorical, Continuous, Image, evaluate, fit, load
from rung3.mechanisms import GAN
from rung3.study.kinds import mechanism_of
from rung3.testing.contract import check_mechanism
from rung3.training.oracles.oracles import fit_oracles

PARENTS = {"a": Continuous(), "d": Categorical(3)}
IMAGE = Image(1, 8, 10)


def bars(n: int = 64) -> dict[str, Tensor]:
    """Rows of images, bright from the left up to a column that d says."""
    generator = torch.Generator().manual_seed(0)
    d = torch.arange(n) % 3
    bright = (torch.arange(10) < 3 * d[:, None] + 2).float()[:, None, None].expand(n, 1, 8, 10)
    noise = torch.rand((n, 1, 8, 10), generator=generator)
    return {"d": d, "x": ((0.7 * bright + 0.3 * noise) * 255).round() / 255}


def model(seed: int = 0, **options: Any) -> SCM:
    torch.manual_seed(seed)
    mechanism = GAN(**{"latent": 3, "width": 4} | options)
    return SCM("d -> x", {"d": Categorical(3), "x": IMAGE}, {"x": mechanism})


@pytest.fixture(autouse=True)
def own_random_numbers() -> Any:
    with torch.random.fork_rng(devices=[]):
        yield


@pytest.mark.parametrize(
    ("image", "parents"),
    [(IMAGE, PARENTS), (Image(3, 9, 20, bits=None), {}), (Image(1, 8, 8, 8), PARENTS)],
)
def test_it_keeps_the_contract_of_a_mechanism(image: Image, parents: dict[str, Any]) -> None:
    report = check_mechanism(GAN(latent=3, width=4), image, parents)
    assert {"gradients", "round trip", "particles", "saving", "seed"} <= {*report.passed}


def test_without_what_the_encoder_misses_an_image_changes_though_no_parent_does() -> None:
    scm, rows = model(), bars(6)
    kept = scm.counterfactual(rows, do={"d": rows["d"]})["x"]
    left_out = scm.counterfactual(rows, do={"d": rows["d"]}, temperature=0)["x"]
    torch.testing.assert_close(kept, rows["x"])
    assert (left_out - rows["x"]).abs().mean() > 0.05


def test_critic_and_generator_pull_in_opposite_directions() -> None:
    """Each has a gradient of its own loss alone: the critic's is that with codes held fixed."""
    real = Image(1, 8, 10, bits=None)  # no noise within levels
    mechanism = GAN(latent=3, width=4).bind("x", real, {"d": Categorical(3)})
    generator = torch.Generator().manual_seed(0)
    for parameter in mechanism.parameters():  # at the start the context is not looked at
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    rows = bars(8)
    x, parents = rows["x"], {"d": rows["d"]}
    z = torch.randn(8, 3, generator=generator)
    mechanism.adversarial_loss(x, z, parents).backward()
    observed = (x, mechanism.encode(x, parents))
    generated = (mechanism.generate(z, parents), z)
    scores = [mechanism.critic(*pair, parents) for pair in (observed, generated)]
    wanted = torch.nn.functional.softplus(scores[0] - scores[1]).mean()
    for name in ("encoder", "generator"):
        weights = [*getattr(mechanism, name).parameters()]
        slopes = torch.autograd.grad(wanted, weights, retain_graph=True)
        for weight, slope in zip(weights, slopes, strict=True):
            torch.testing.assert_close(weight.grad, slope)
    last = mechanism.critic.network.head[-1].bias
    assert last.grad is not None
    torch.testing.assert_close(last.grad, torch.zeros(1))  # it moves both scores alike


def test_the_last_steps_train_the_encoder_alone() -> None:
    mechanism = GAN(latent=3, width=4, tuning=0.5).bind("x", IMAGE, {"d": Categorical(3)})
    rows = bars(8)
    mechanism.after_step(0, 0.75)
    mechanism.loss(rows["x"], {"d": rows["d"]}).backward()
    trained = {name.split(".")[0] for name, p in mechanism.named_parameters() if p.grad is not None}
    assert trained == {"encoder"}


QUICK: dict[str, Any] = {
    "only": ["x"], "batch_size": 16, "lr": 3e-3, "ema": 0.9, "schedule": "constant", "warmup": 0,
    "validation_share": 0, "progress": False,
}  # fmt: skip


def test_training_makes_images_that_obey_the_parent() -> None:
    scm, rows = model(), bars()
    fit(scm, rows, epochs=20, **QUICK)
    mechanism = scm.mechanisms["x"]
    noise = mechanism.sample_noise(9, {}, torch.Generator().manual_seed(0))
    x = mechanism.mean(noise, {"d": torch.arange(9) % 3})
    brightness = x.flatten(1).mean(1).reshape(3, 3).mean(0)
    assert brightness[0] + 0.1 < brightness[1] < brightness[2] - 0.1


def test_training_goes_on_from_a_checkpoint_and_is_saved(tmp_path: Any) -> None:
    rows, query = bars(), {"d": 2}
    whole, parts = model(tuning=0.0), model(tuning=0.0)
    fit(whole, rows, epochs=2, **QUICK)
    for epochs in (1, 2):
        fit(parts, rows, epochs=epochs, checkpoints=tmp_path / "checkpoints", **QUICK)
    expected = whole.counterfactual(rows, do=query)["x"]
    assert torch.equal(parts.counterfactual(rows, do=query)["x"], expected)
    parts.save(tmp_path / "model")
    assert torch.equal(load(tmp_path / "model").counterfactual(rows, do=query)["x"], expected)


def test_the_report_has_its_axioms_and_no_density() -> None:
    scm, rows = model(), bars(20)
    oracles = fit_oracles(scm, rows, epochs=1, progress=False)
    report = evaluate(
        scm, rows, interventions=["d"], oracles=oracles, seed=0, progress=False, bootstrap=10
    )
    assert report.metrics["log_prob"].get("x", {}) == {}
    assert "x" in str(report)


def test_a_density_is_refused() -> None:
    with pytest.raises(ValueError, match="x: a GAN has no density; VAE, HVAE and Diffusion have"):
        model().log_prob(bars(2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latent": 0}, "latent=0 must be at least 1"),
        ({"latent": 1.5}, "latent=1.5 must be a whole number of at least 1"),
        ({"depth": True}, "depth=True must be a whole number of at least 1"),
        ({"penalty": "1"}, "penalty='1' must be at least 0 and finite"),
        ({"width": 0}, "width=0 must be at least 1"),
        ({"penalty": -1.0}, "penalty=-1.0 must be at least 0 and finite"),
        ({"penalty": float("nan")}, "penalty=nan must be at least 0 and finite"),
        ({"tuning": 1.0}, "tuning=1.0 must be at least 0 and less than 1"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GAN(**options)


def test_a_study_may_name_it() -> None:
    assert mechanism_of({"kind": "GAN", "latent": 8}).describe() == "GAN(latent=8)"


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match="x: GAN models images, and x is Categorical"):
        GAN().bind("x", Categorical(3), {})
    mechanism = GAN(latent=3, width=4).bind("x", IMAGE, {})
    with pytest.raises(ValueError, match="x: expected noise z and residual"):
        mechanism.predict({"z": torch.zeros(1, 3)}, {})
