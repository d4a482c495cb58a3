# %% [markdown]
# # Does quitting smoking make people gain weight?
#
# Rows made in the image of the NHEFS study (Hernán and Robins, *What If*, part II): 1,566 smokers, some of whom quit.
# The true average effect is known here: 3.5 kg, 4.25 kg for women and 2.75 kg for men. Older people quit more often, and
# gain less.
# %%
import numpy as np
import pandas as pd

from rung3 import CausalGraph, effect
from rung3.effects.tables import refute

rng = np.random.default_rng(0)
n = 1_566
age = rng.uniform(25, 74, n)
woman = rng.random(n) < 0.5
years = (age - 17) * rng.uniform(0.6, 1, n)
quit = rng.random(n) < 1 / (1 + np.exp(-(age - 58) / 12 - 0.3 * ~woman))
gain = 2.75 * quit + 1.5 * quit * woman - 0.2 * (age - 45) + 0.02 * years + 6 * rng.normal(size=n)
smokers = pd.DataFrame(
    {
        "age": age,
        "sex": np.where(woman, "woman", "man"),
        "years": years,
        "quit": quit.astype(int),
        "gain": gain,
    }
)
smokers.head()
# %% [markdown]
# ## What the graph says
#
# What causes what is not in the rows. It is said here, and everything after rests on it.
# %%
graph = CausalGraph("age -> years; {age sex years} -> quit; {age sex years quit} -> gain")
sorted(graph.minimal_adjustment_set("quit", "gain"))
# %% [markdown]
# ## The effect
#
# Without adjustment the effect is hidden behind age. With it, three methods agree.
# %%
crude = effect(smokers, "quit", "gain", adjust=[])
print("not adjusted:", crude.effect)
for method in ("standardise", "ipw", "aipw"):
    print(f"{method}:", effect(smokers, "quit", "gain", graph=graph, method=method).effect)
# %%
found = effect(smokers, "quit", "gain", graph=graph, by="sex")
assert found.effect.low < 3.5 < found.effect.high
found
# %% [markdown]
# ## Can it be false?
#
# Exchanged treatments and outcomes must have no effect; noise that is adjusted for, and subsets, must not change it. How
# strong would something that nobody measured have to be?
# %%
refutation = refute(smokers, "quit", "gain", graph=graph, repeats=5)
print(refutation)
# %% [markdown]
# `rung3.evaluation.effect_report(...)` puts all of this on one page, with pictures of balance and overlap.
