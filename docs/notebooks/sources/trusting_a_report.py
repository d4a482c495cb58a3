# %% [markdown]
# # Trusting a report: four models that each have one perfect score
#
# A report has many numbers, because for each of them there is a bad model that is perfect by it. Four answers that need no training,
# judged by the same measures.
# %%
import pandas as pd

from rung3 import evaluate, worlds
from rung3.evaluation import Oracles, Report
from rung3.evaluation.baselines.baselines import as_model, baselines, identity
from rung3.scm.zoo import find_model

world = worlds.digits()
train, test = world.sample(2000, seed=0), world.sample(40, seed=1)
answers = {"doing nothing": identity} | baselines(world, "image", train)
options = dict(interventions=["intensity"], oracles=Oracles({}), baselines={}, bootstrap=0)
options["measures"] = {"intensity": world.measures["intensity"]}
# %% [markdown]
# *Composition*: how far the image moves if nothing is changed. *Effectiveness*: how far the intensity that the image shows is from the
# one that was set. *Skill*: how near the answer is to the true counterfactual, beside doing nothing.
# %%
lines = {}
for name in ("doing nothing", "shuffled abduction", "retrieval", "rescaling"):
    metrics = evaluate(
        as_model(world, "image", answers[name]), test, world, progress=False, **options
    ).metrics
    lines[name] = {
        "composition": metrics["composition"]["image"]["kept"]["1"]["mean"],
        "effectiveness, off by": metrics["measured"]["image"]["do(intensity)"]["intensity"]["kept"]["mean"],
        "skill": metrics["truth"]["do(intensity)"]["image"]["kept"]["skill"]["mean"],
    }
table = pd.DataFrame(lines).T.round(1)
assert table.loc["doing nothing", "composition"] == 0
assert table.loc["shuffled abduction", "effectiveness, off by"] < 1
assert table["skill"].idxmax() == "rescaling"
table
# %% [markdown]
# Doing nothing has perfect composition. Another row's handwriting, drawn with the intensity that was asked for, is as effective as the
# truth. Only skill ranks them, and it needs a world whose truth is known. Without one, read effectiveness and composition together,
# each beside its floor.
#
# The report of a fitted model begins with a verdict: four questions, and what to try next.
# %%
report = Report.load(find_model("rung3/digits"))
for finding in report.verdict.findings:
    print(f"{finding.mark:8} {finding.text}")
# %% [markdown]
# It obeys in part: asked for another digit, the image shows it 60 % of the way. The numbers behind the sentence, with intervals of 95 %
# over rows:
# %%
read = report.metrics["effectiveness"]["image"]["do(digit)"]["digit"]
rows = {"real images (floor)": report.metrics["effectiveness"]["image"]["factual"]["digit"]["observed"]}
rows |= {"the answer": read["kept"], "the untouched image": read["doing nothing"]}
pd.DataFrame(rows).T[["mean", "low", "high"]].astype(float).round(2)
