# %% [markdown]
# # A first image: what would it have looked like?
#
# A digit is drawn by a world in which thickness causes intensity, and digit, thickness and intensity cause the image. A small model
# that comes with rung3 has learned that world from rows, and is asked about one of them. Nothing is trained here.
# %%
import matplotlib.pyplot as plt
import torch

from rung3 import load
from rung3.study import RunFolder

model = load("rung3/digits")
rows, world = RunFolder("rung3/digits").test()
six = rows[4]
print(model)
# %% [markdown]
# The three verbs. *Abduction* finds the noise that makes this six this six; *action* sets the thickness, which cuts the arrows into it;
# *prediction* follows the arrows with the same noise.
# %%
noise = model.abduct(six, seed=0)
thicker = model.do(thickness=4.0)
with torch.no_grad():
    imagined = thicker.predict(noise)
print({name: round(float(imagined[name]), 1) for name in ("thickness", "intensity", "digit")})
# %% [markdown]
# The intensity has followed: a thicker stroke is brighter. In this world the truth is known, because the noise of every row is.
# %%
truth = world.counterfactual(six, do={"thickness": 4.0})


def show(**images):
    figure, panels = plt.subplots(1, len(images), figsize=(2 * len(images), 2.2))
    for axes, (title, image) in zip(panels, images.items(), strict=True):
        axes.imshow(image[0], cmap="gray", vmin=0, vmax=1)
        axes.set_title(title)
        axes.set_axis_off()


show(factual=six["image"], imagined=imagined["image"], truth=truth["image"])
error = float((imagined["image"] - truth["image"]).abs().mean())
nothing = float((six["image"] - truth["image"]).abs().mean())
assert error < nothing / 4
print(f"off by {255 * error:.1f} grey levels; doing nothing would be off by {255 * nothing:.1f}")
# %% [markdown]
# What if the intensity had been kept? Then the image shows the direct effect of the thickness alone.
# %%
with torch.no_grad():
    held = model.counterfactual(six, do={"thickness": 4.0}, hold=["intensity"], seed=0)
    seven = model.counterfactual(six, do={"digit": 7}, seed=0)
show(factual=six["image"], held=held["image"], seven=seven["image"])
# %% [markdown]
# Every answer says what it rests on, and whether it left the data.
# %%
print(held.explain())
print(model.counterfactual(six, do={"thickness": 30.0}, seed=0).explain())
