# %% [markdown]
# # Simpson's paradox: which treatment is better?
#
# Charig et al. (1986) compared two treatments of kidney stones. The numbers are those that were published.
# %%
from rung3 import CausalGraph, data, effect
from rung3.data.readers.kidney_stones import VARIABLES
from rung3.effects.tables import find_reversals

stones = data.kidney_stones()
frame = stones.to_frame(VARIABLES)
recovered = frame.assign(recovery=frame["recovery"] == "yes")
recovered.pivot_table(index="size", columns="treatment", values="recovery").round(2)
# %% [markdown]
# B looks better in all patients, A in those with small stones and in those with large ones.
# %%
crude = effect(stones, "treatment", "recovery", do="A", versus="B", adjust=[], variables=VARIABLES)
print(crude)
for reversal in find_reversals(stones, outcome="recovery", variables=VARIABLES):
    print(reversal)
# %% [markdown]
# Which of the two is the effect? The rows cannot say: the graph does. Doctors gave A to the worse cases, so the size of the
# stone causes the treatment, and must be adjusted for.
# %%
graph = CausalGraph("size -> treatment; {size treatment} -> recovery")
options = {"do": "A", "versus": "B", "variables": VARIABLES}
found = effect(stones, "treatment", "recovery", graph=graph, **options)
assert found.effect.effect > 0 > crude.effect.effect
found
# %% [markdown]
# Were the size an effect of the treatment, adjusting for it would be wrong, and is refused:
# %%
other = CausalGraph("treatment -> size; {size treatment} -> recovery")
try:
    effect(stones, "treatment", "recovery", adjust=["size"], graph=other, **options)
except ValueError as error:
    print(error)
