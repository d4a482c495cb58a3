# %% [markdown]
# # Your own data: from a CSV file to answers
#
# A table as it comes: numbers, words, gaps, dates, an identifier, free text. Three steps lead to answers, on the command line `rung3 init`,
# `rung3 check` and `rung3 run`, here the same in Python. The rows are made, so that the truth is known: smoking adds 8 mmHg.
# %%
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

folder = Path(tempfile.mkdtemp())
draw = np.random.default_rng(0)
n = 600
age = draw.normal(55, 12, n).clip(20, 90).round(1)
smokes = draw.random(n) < 1 / (1 + np.exp((55 - age) / 10))
pressure = 120 + 0.5 * (age - 55) + 8 * smokes + draw.normal(0, 6, n)
table = pd.DataFrame(
    {
        "patient": [f"P{k:04d}" for k in range(n)],
        "visit": pd.Timestamp("2025-01-01") + pd.to_timedelta(draw.integers(0, 365, n), unit="D"),
        "age": np.where(draw.random(n) < 0.03, np.nan, age),
        "smokes": np.where(smokes, "yes", "no"),
        "pressure_mmHg": pressure.round(1),
        "severity": np.array(["none", "mild", "severe"])[np.digitize(pressure, [120, 130])],
        "comment": [f"seen on day {k}" for k in range(n)],
    }
)
table.to_csv(folder / "patients.csv", index=False)
table.head(3)
# %% [markdown]
# ## 1. Look
#
# What each column seems to be, and why. The graph is yours: it says what causes what.
# %%
from rung3.study.drafting import propose

graph = "age -> smokes; {age smokes} -> pressure_mmHg -> severity"
proposal = propose(folder / "patients.csv", out=folder / "patients.yaml", graph=graph)
proposal.save(folder / "patients.yaml")
pd.DataFrame(proposal.table(), columns=["column", "kind", "unit", "gaps", "what it holds", "why"])
# %% [markdown]
# The study that it has written says the same, with a comment on every guess, to be corrected where it is wrong.
# %%
print("\n".join((folder / "patients.yaml").read_text().splitlines()[16:28]))
# %% [markdown]
# ## 2. Check
#
# Mistakes are found before anything is trained, with their place and what to do: here a label that is misspelt.
# %%
from rung3.study import Study
from rung3.study.check import check

try:
    check(Study.load(folder / "patients.yaml", ["evaluation.interventions={smokes: noo}"]))
except ValueError as error:
    print(str(error).replace(f"{folder}/", ""))
# %% [markdown]
# ## 3. Run
#
# It trains, evaluates, and ends with a verdict. (A third of the epochs that were proposed are enough for a notebook.)
# %%
import warnings

from rung3.study import RunFolder, run_study

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the gaps: they come by chance here
    study = Study.load(folder / "patients.yaml", ["training.epochs=70", "training.patience=70"])
    report = run_study(study, folder / "run", say=lambda text: None)
for finding in report.verdict.findings:
    print(f"{finding.mark:8} {finding.text}")
# %% [markdown]
# ## Ask
#
# What would each smoker's pressure have been without smoking? One answer a row, for all test rows at once.
# %%
run = RunFolder(folder / "run")
model, (rows, _) = run.model(), run.test()
smokers = rows[(rows["smokes"] == 1) & ~rows["age"].isnan()]
answer = model.counterfactual(smokers, {"smokes": "no"}, seed=0)
change = answer["pressure_mmHg"] - smokers["pressure_mmHg"]
assert abs(float(change.mean()) + 8) < 2.5
print(f"mean change {float(change.mean()):.1f} mmHg; the truth is -8")
# %% [markdown]
# The answer says what it rests on. The same for all rows, as files: `rung3 counterfactual runs/patients --rows all --do smokes=no --out answers`.
# %%
print(answer.explain())
# %% [markdown]
# A folder of pictures goes the same way: `rung3 init photos/ labels.csv --graph "{colour size} -> photo"`. Training then takes minutes, and the
# verdict says also whether the pictures show what was set.
