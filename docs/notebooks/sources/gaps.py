# %% [markdown]
# # Missing data: rows with gaps
#
# A trial in which an outcome is missing more often for treated patients who are badly off. The true effect is 1.
# %%
import numpy as np
import torch

from rung3 import SCM, Continuous, effect, fit
from rung3.mechanisms import AdditiveNoise
from rung3.training import fit_incomplete

rng = np.random.default_rng(4)
n = 2_000
frailty = rng.normal(size=n)
drug = (rng.random(n) < 1 / (1 + np.exp(-frailty / 2))).astype(int)
outcome = drug * (1 + frailty) + frailty + rng.normal(size=n)
lost = rng.random(n) < 1 / (1 + np.exp(-(frailty + drug - 1)))
trial = {"frailty": frailty, "drug": drug, "outcome": np.where(lost, np.nan, outcome)}
print(f"{lost.mean():.0%} of the outcomes are missing")
# %% [markdown]
# ## Leaving rows out
#
# By default, rows with gaps are left out, and counted. The rows that remain are of less frail people, for whom the effect
# is smaller.
# %%
left_out = effect(trial, "drug", "outcome", adjust=["frailty"])
print(left_out)
# %% [markdown]
# ## Weighting
#
# Whether an outcome is missing depends on frailty and drug, which all rows have. Complete rows then stand for those that
# are like them.
# %%
weighted = effect(trial, "drug", "outcome", adjust=["frailty"], missing="weight")
assert weighted.effect.low < 1 < weighted.effect.high < left_out.effect.high + 1
print(weighted)
# %% [markdown]
# ## A missing cause
#
# With `y = x + u`, and x missing more often where y is large, a model of the rows that are complete learns too flat a line.
# `fit_incomplete` completes the rows and refits, in turn.
# %%
x = rng.normal(size=800)
y = x + rng.normal(size=800)
rows = {
    "x": torch.tensor(np.where(rng.random(800) < 1 / (1 + np.exp(-2 * y)), np.nan, x)).float(),
    "y": torch.tensor(y).float(),
}


def slope(model):
    row = {"x": 0.0, "y": 0.0}
    return round(model.counterfactual(row, do={"x": 1.0})["y"].item(), 2)


def line():
    lines = {"x": AdditiveNoise(degree=1), "y": AdditiveNoise(degree=1)}
    return SCM("x -> y", {"x": Continuous(missing=True), "y": Continuous()}, lines)


complete = line()
fit(complete, rows, epochs=1, lr=1e-4, progress=False)
whole = fit_incomplete(line(), rows, rounds=8)
print(f"slope of complete rows {slope(complete)}, of all rows {slope(whole)}, truth 1")
