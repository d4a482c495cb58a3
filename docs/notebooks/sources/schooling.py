# %% [markdown]
# # What is a year of schooling worth?
#
# Ability makes people stay at school, and earn more; nobody measured it. A college nearby makes people stay longer and, it
# is assumed, has no other way to their wages: an instrument (Card 1995). In these made-up rows a year adds .12 to the
# logarithm of the wage.
# %%
import numpy as np

from rung3 import effect

rng = np.random.default_rng(1)
n = 3_000
ability, noise, luck = rng.normal(size=(3, n))
near = rng.integers(0, 2, n)
school = 12 + near + 2 * ability + noise
wage = 0.12 * school + 0.5 * ability + luck / 2
workers = {"near": near, "school": school, "wage": wage}
# %% [markdown]
# A regression takes ability for schooling, and is wrong with a narrow interval.
# %%
naive = effect(workers, "school", "wage", adjust=[])
print(naive.answer)
# %% [markdown]
# The graph has a hidden common cause, `school <-> wage`. No set of variables can be adjusted for, and without the college
# there is no answer:
# %%
try:
    effect(workers, "school", "wage", graph="school -> wage; school <-> wage")
except ValueError as error:
    print(error)
# %%
found = effect(workers, "school", "wage", graph="near -> school -> wage; school <-> wage")
assert found.effect.low < 0.12 < found.effect.high
found
# %% [markdown]
# The interval is Anderson and Rubin's, which holds however weak the instrument is. With fewer rows it is weak, and the
# interval says so:
# %%
few = {name: column[:60] for name, column in workers.items()}
weak = effect(few, "school", "wage", graph="near -> school -> wage; school <-> wage")
print(weak)
