# %% [markdown]
# # Choosing a mechanism: the same data, and two counterfactuals
#
# Rows tell how often something happens. They do not tell what would have happened to this row: that rests on the form of the mechanism.
# A recovery that depends on a treatment, in two models that no data can tell apart.
# %%
import pandas as pd
import torch

from rung3 import SCM, Categorical, fit
from rung3.mechanisms import Equation, GumbelMax, InverseCDF
from rung3.training.choice import choose

outcome = Categorical(labels=["worse", "same", "better"])
draws = torch.Generator().manual_seed(0)
treated = torch.randint(0, 2, (4000,), generator=draws).float()
chances = torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.3, 0.5]])[treated.long()]
recovery = torch.multinomial(chances, 1, generator=draws)[:, 0]
rows = {"treated": treated, "recovery": recovery}

models = {}
for name, mechanism in {"Gumbel-max": GumbelMax(), "inverse CDF": InverseCDF()}.items():
    mechanisms = {"treated": Equation("u"), "recovery": mechanism}
    model = SCM("treated -> recovery", {"recovery": outcome}, mechanisms)
    fit(model, rows, epochs=10, seed=0, progress=False)
    models[name] = model
# %% [markdown]
# Seeing and doing: both give the shares of the data.
# %%
shares = {}
for name, model in models.items():
    drawn = model.do(treated=1.0).sample(4000, seed=1)["recovery"]
    shares[name] = [float((drawn == k).float().mean()) for k in range(3)]
doing = pd.DataFrame(shares, index=outcome.labels).round(2)
assert (doing["Gumbel-max"] - doing["inverse CDF"]).abs().max() < 0.1
doing
# %% [markdown]
# Imagining: those who were not treated and stayed the same, had they been treated.
# %%
patient = {"treated": 0.0, "recovery": "same"}
imagined = {}
for name, model in models.items():
    cloud = model.counterfactual(patient, {"treated": 1.0}, particles=4000, seed=0)["recovery"]
    imagined[name] = [float((cloud == k).float().mean()) for k in range(3)]
table = pd.DataFrame(imagined, index=outcome.labels).round(2)
assert table.loc["same", "inverse CDF"] < 0.1 < table.loc["same", "Gumbel-max"]
table
# %% [markdown]
# The inverse CDF is monotone in the order of the labels: whoever stayed the same was in the middle of the untreated, and the middle of
# the treated gets better. With Gumbel-max most would have stayed as they were, because the odds of that have not fallen.
# The data are alike under both. Choose the order if there is one, and say so; `explain()` does.
# %%
for model in models.values():
    print(model.counterfactual(patient, {"treated": 1.0}, seed=0).explain())
# %% [markdown]
# For numbers, held-out rows can at least say which forms do not fit. `choose` tries families from simple to rich, and takes the
# simplest that the rows support.
# %%
noise = torch.Generator().manual_seed(1)
dose = torch.rand(600, generator=noise) * 4
relief = torch.sin(dose) + 0.2 * torch.randn(600, generator=noise)
model = SCM("dose -> relief")
choice = choose(model, {"dose": dose, "relief": relief}, seed=0)
print(choice)
