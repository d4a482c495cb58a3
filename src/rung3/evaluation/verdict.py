"""The verdict: what the numbers of a report mean, in a few sentences, each with what to try next.

    learned       enough steps, latents that are used, a loss that no longer falls
    obeys         o = 1 - (e - e_floor) / (e_nothing - e_floor) of the values that were set
    individual    skill where the truth is known; else  1 - d(x, f_0(x)) / d(x, x')
    support       the share of targets that lie among the training rows
    uncertainty   how often central intervals of draws hold the truth, where it is known

Obedience o is 1 where the answer shows what was set as well as real images show their values, and
0 where it shows as little as the untouched image. `d(x, x')` is the mean distance of two rows and
`f_0` a null intervention from the latents alone: a model that returns another individual, or the
average one, comes close to it.

`rung3.evaluation` measures; nothing here is computed from rows. Every threshold stands below.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, Literal, NamedTuple, TypeAlias

from rung3.evaluation.baselines.baselines import CEILING
from rung3.evaluation.measures.base import (
    AVERAGED,
    FACTUAL,
    KEPT,
    LATENT,
    NOTHING,
    OBSERVED,
    SCALED,
)

__all__ = [
    "LEAST_STEPS_ATLAS",
    "LEAST_STEPS_IMAGE",
    "LEAST_STEPS_NUMBER",
    "MARKS",
    "Finding",
    "Mark",
    "Verdict",
    "judge",
    "least_steps",
]

LEAST_STEPS_IMAGE = 1_000
"""Steps of training of an image, below which a model has not begun to tell individuals apart: a
VAE's weight of divergence cools for 300, and the encoder learns after that. More are needed: after
1,512 on 456 made pictures the skill was 0.41."""

LEAST_STEPS_ATLAS = 200
"""The same of families in `FINAL`, which have no hidden layers: after 100 steps on slices of brains
most of the skill was there that 500 gave."""

LEAST_STEPS_NUMBER = 100
"""Steps of training of a number or category: the learning rate has risen and fallen by then."""

FALLING = 0.25
"""Share of the loss's fall since its first quarter of epochs that belongs to the last quarter, from
which on training was cut short: a loss that falls evenly has a third there, one that settles less
than a tenth."""

RISEN = 0.1
"""Share of the loss's fall that a validation loss may have risen again since its best epoch."""

FLAT = 0.005
"""Nats by which a loss moves by chance: a mechanism that begins well has nothing to learn, and its
loss neither falls nor rises by more."""

OBEYS = 0.7
"""Obedience (share of the way from the untouched image to what real images show) of a model that
obeys: a reader sees the change in nearly every row."""

OBEYS_PARTLY = 0.4
"""Obedience of a model that obeys in part: a reader sees the change in about half of the rows."""

READABLE = 0.8
"""Share of the error of doing nothing that the floor may be, for a predictor to tell anything."""

SKILL = 0.5
"""Skill against the truth of a good model: half of what doing nothing gets wrong is right."""

SKILL_PARTLY = 0.2
"""Skill of a model that is good in part: a fifth of it is right."""

SAME = 0.5
"""1 - drift / distance between rows, of a model that returns the individual: an image comes back
at less than half the distance to a stranger's."""

SAME_PARTLY = 0.3
"""The same of a model that returns the individual in part; at less, it may be the average one."""

OUTSIDE = 0.01
"""Share of targets outside the range seen in training that is as good as none: rounding, single
rows."""

OUTSIDE_PARTLY = 0.1
"""Share of targets outside that range up to which the mark is `partly`."""

FAR = 0.1
"""Share of targets with no training row near that is small; the data's own rows have 1 %."""

FAR_PARTLY = 0.5
"""Share of targets with no training row near up to which the mark is `partly`."""

HONEST = 0.05
"""Distance of an interval's coverage from its nominal level within which one may rely on it."""

HONEST_PARTLY = 0.2
"""Distance from which on intervals mislead: one of 90 % misses three times as often as it says."""

LONGER = 2
"""Factor on the epochs of a training that was cut short."""

FINAL = frozenset({"DeformedAtlas"})
"""Families that read the individual off its image without learning to: in a brain longer training
or an HVAE did not keep more, nor a VAE in a chest."""

Mark: TypeAlias = Literal["yes", "partly", "no", "unknown"]

MARKS: Mapping[str, str] = {"yes": "✓", "partly": "~", "no": "✗", "unknown": "?"}
"""Signs of the marks."""

PHRASES: Mapping[str, Mapping[str, str]] = {
    "learned": {
        "yes": "learned", "partly": "learned in part", "no": "has not learned",
        "unknown": "may have learned",
    },
    "obeys": {
        "yes": "obeys", "partly": "obeys in part", "no": "does not obey",
        "unknown": "obedience unknown",
    },
}  # fmt: skip
"""What a headline says of the first two questions."""

RUN = "RUN"
"""Stands in a command for the folder of the run."""


@dataclass(frozen=True)
class Finding:
    """The answer to one question about a model.

    Attributes:
        question: `learned`, `obeys`, `individual`, `support` or `uncertainty`.
        mark: `yes`, `partly`, `no` or `unknown`.
        text: One sentence.
        command: What to try next, as a command in which `RUN` stands for the run; empty if nothing.
        call: The same in Python.
    """

    question: str
    mark: Mark
    text: str
    command: str = ""
    call: str = ""

    def next(self, run: str | None) -> str:
        """Return what to try next: for the run in that folder, or in Python without one."""
        return self.call if run is None else self.command.replace(RUN, run)


@dataclass(frozen=True)
class Verdict:
    """What a report says of a model.

    Attributes:
        findings: The answers, in the order in which they matter.

    Example:
        >>> verdict = Verdict((Finding("learned", "yes", "It learned."),
        ...     Finding("obeys", "no", "It does not.")))
        >>> verdict.headline
        'learned, does not obey'
    """

    findings: tuple[Finding, ...]

    @property
    def headline(self) -> str:
        """The first two answers in a few words, such as `learned and obeys`."""
        parts = [PHRASES[f.question][f.mark] for f in self.findings if f.question in PHRASES]
        positive = all(f.mark == "yes" for f in self.findings if f.question in PHRASES)
        return (" and " if positive else ", ").join(parts)

    def mark(self, question: str) -> Mark | None:
        """Return the mark of a question; `None` if it was not asked."""
        return next((f.mark for f in self.findings if f.question == question), None)

    def config(self) -> list[dict[str, Any]]:
        """Return it as JSON can hold it."""
        return [asdict(finding) for finding in self.findings]

    @classmethod
    def of_config(cls, config: Iterable[Mapping[str, Any]]) -> Verdict:
        """Return the verdict that `config` described."""
        return cls(tuple(Finding(**finding) for finding in config))


def judge(metrics: Mapping[str, Any]) -> Verdict:
    """Judge a model by the numbers of its report.

    Args:
        metrics: `Report.metrics`; of a report of an older version, much is not known.
    """
    images = any(outcome["image"] for outcome in metrics.get("between rows", {}).values())
    findings = [_learned(metrics)]
    if images or metrics.get("effectiveness"):
        findings.append(_obeys(metrics))
    findings += [_individual(metrics), _support(metrics), *_uncertainty(metrics)]
    return Verdict(tuple(findings))


# Did it learn? -----------------------------------------------------------------------------------


def _learned(metrics: Mapping[str, Any]) -> Finding:
    records = metrics.get("training")
    if records is None:
        return _older("learned", "Whether it learned is not in this report of an older version.")
    if not records:
        return Finding("learned", "yes", "There was nothing to learn: every mechanism is given.")
    records = {name: record for name, record in records.items() if not record.get("solved")}
    if not records:
        return Finding("learned", "yes", "It learned: every mechanism was solved, without steps.")
    for check in (_too_short, _collapsed, _cut_short, _overfitted):
        for name, record in sorted(records.items(), key=lambda pair: not pair[1]["image"]):
            if finding := check(name, record, metrics):
                return finding
    name, record = max(records.items(), key=lambda pair: (pair[1]["image"], pair[1]["steps"]))
    used = _layers(metrics, name)
    latents = f", {used.used} of {used.all} layers of latents are in use" if used.all else ""
    return Finding(
        "learned",
        "yes",
        f"It learned: {name} took {record['steps']:,} steps{latents}{_revived(record)}, and its "
        "loss has settled.",
    )


def _revived(record: Mapping[str, Any]) -> str:
    """Say when latents had collapsed in training, if they had."""
    step = record.get("revived")
    return f" (they had collapsed, and were revived at step {step:,})" if step else ""


def least_steps(image: bool, kind: str | None) -> int:
    """Return the steps of training below which little is learned.

    Args:
        image: Whether images are learned.
        kind: The mechanism's family, if it is known.
    """
    if not image:
        return LEAST_STEPS_NUMBER
    return LEAST_STEPS_ATLAS if kind in FINAL else LEAST_STEPS_IMAGE


def _too_short(name: str, record: Mapping[str, Any], metrics: Mapping[str, Any]) -> Finding | None:
    least = least_steps(record["image"], record.get("kind"))
    if record["steps"] >= least:
        return None
    epochs = -(-record["epochs"] * 2 * least // max(1, record["steps"]))
    mark: Mark = "no" if record["image"] else "partly"
    lead = "It has not learned" if record["image"] else "It learned in part"
    text = f"{lead}: {name} took {record['steps']:,} steps, of {least:,} that it needs at least."
    return _train(name, mark, text, epochs)


def _collapsed(name: str, record: Mapping[str, Any], metrics: Mapping[str, Any]) -> Finding | None:
    used = _layers(metrics, name)
    if not used.all or used.used:
        return None
    text = f"It has not learned what sets one {name} apart: none of its latents is in use"
    text += f"{_revived(record)}."
    return _train(name, "no", text, LONGER * record["epochs"])


def _cut_short(name: str, record: Mapping[str, Any], metrics: Mapping[str, Any]) -> Finding | None:
    losses = record["losses"]
    if len(losses) < 4:
        return None
    first, last = losses[len(losses) // 4], losses[-len(losses) // 4 - 1]
    fall = first - losses[-1]
    if fall <= FLAT or (last - losses[-1]) / fall < FALLING:
        return None
    text = (
        f"It learned in part: the loss of {name} was still falling when training ended after "
        f"{record['epochs']} epochs."
    )
    return _train(name, "partly", text, LONGER * record["epochs"])


def _overfitted(name: str, record: Mapping[str, Any], metrics: Mapping[str, Any]) -> Finding | None:
    losses = record["losses"]
    best = min(losses, default=0.0)
    if len(losses) < 4 or losses[-1] - best <= max(FLAT, RISEN * (losses[0] - best)):
        return None
    epoch = losses.index(best) + 1
    text = (
        f"It learned in part: the loss of {name} on rows held out was least after epoch {epoch} of "
        f"{len(losses)}, and rose again."
    )
    key = f"training.mechanisms.{name}.patience"
    patience = max(3, len(losses) // 10)
    return Finding(
        "learned", "partly", text, _run(f"{key}={patience}"), f"fit(model, train, {patience=})"
    )


class _Used(NamedTuple):
    used: int
    all: int


def _layers(metrics: Mapping[str, Any], name: str) -> _Used:
    """Return how many layers of latents a mechanism uses, and how many it has."""
    layers = metrics.get("divergence", {}).get(name, {}).values()
    return _Used(sum(not layer["unused"] for layer in layers), len(layers))


def _train(name: str, mark: Mark, text: str, epochs: int) -> Finding:
    """Return a finding whose cure is a longer training."""
    key = "training.epochs" if "." in name else f"training.mechanisms.{name}.epochs"
    return Finding(
        "learned", mark, text, _run(f"{key}={epochs}"), f"fit(model, train, epochs={epochs})"
    )


# Does it obey? -----------------------------------------------------------------------------------


class _Obedience(NamedTuple):
    """How far an answer shows what was set: 1 as real images do, 0 as the untouched image does."""

    value: float
    name: str
    image: str
    label: str


def _obeys(metrics: Mapping[str, Any]) -> Finding:
    if not metrics.get("effectiveness"):
        text = "Whether it obeys is not known: no predictor reads values off its images."
        call = "evaluate(model, test, train=train)"
        return Finding("obeys", "unknown", text, f"rung3 evaluate {RUN}", call)
    if metrics.get("set") is None:
        return _older("obeys", "Whether it obeys is not in this report of an older version.")
    unread: list[str] = []
    scores = sorted(_obediences(metrics, unread))
    if not scores:
        text = (
            f"Whether it obeys is not known: the predictors hardly read {_listed(unread)} off real "
            "images."
        )
        if not unread:
            text = "Whether it obeys is not known: nothing was set that an image shows directly."
        command = f"rung3 evaluate {RUN} --set evaluation.oracles.epochs=100"
        call = "evaluate(model, test, oracles=fit_oracles(model, train, epochs=100))"
        return Finding("obeys", "unknown", text, command, call)
    worst = scores[0]
    if worst.value >= OBEYS:
        names = _listed(dict.fromkeys(score.name for score in scores))
        text = f"It obeys: its {worst.image} shows {names} as set, {_way(worst.value)} at least."
        if unread:
            text = text[:-1] + f"; {_listed(unread)} no predictor can read."
        return Finding("obeys", "yes", text)
    mark: Mark = "partly" if worst.value >= OBEYS_PARTLY else "no"
    lead = "It obeys in part" if mark == "partly" else "It does not obey"
    text = (
        f"{lead}: under {worst.label} the {worst.image} shows {worst.name} {_way(worst.value)} "
        "towards what was set."
    )
    return Finding(
        "obeys",
        mark,
        text,
        _run("training.objective=counterfactual"),
        f'fit(model, train, only=["{worst.image}"], objective="counterfactual")',
    )


def _obediences(metrics: Mapping[str, Any], unread: list[str]) -> Iterator[_Obedience]:
    """Yield the obedience of each variable that was set; note those that cannot be read."""
    for image, by_label in metrics["effectiveness"].items():
        for label, by_name in by_label.items():
            for name in (name for name in by_name if name in metrics["set"].get(label, ())):
                floor = _error(by_label[FACTUAL][name].get(OBSERVED))
                nothing = _error(by_name[name].get(NOTHING))
                error = _error(by_name[name].get(KEPT))
                if floor is None or nothing is None or error is None:
                    continue
                if floor > READABLE * nothing:
                    unread += [name] if name not in unread else []
                    continue
                value = min(1.0, 1 - (error - floor) / (nothing - floor))
                yield _Obedience(value, name, image, label)


def _error(number: Mapping[str, Any] | None) -> float | None:
    if number is None or number["mean"] is None:
        return None
    mean = float(number["mean"])
    return 1 - mean if number.get("unit") == "accuracy" else mean


def _way(share: float) -> str:
    return "none of the way" if share <= 0 else f"{share:.0%} of the way"


# Is it the same individual? ----------------------------------------------------------------------


def _individual(metrics: Mapping[str, Any]) -> Finding:
    shown = list(metrics.get("between rows", {}))
    skills = {
        (label, name): by_answerer[KEPT]["skill"]["mean"]
        for label, by_name in metrics.get("truth", {}).items()
        if "no truth" not in by_name
        for name, by_answerer in by_name.items()
        if name in shown and by_answerer[KEPT].get("skill", {}).get("mean") is not None
    }
    return _by_skill(metrics, skills) if skills else _by_composition(metrics)


def _by_skill(metrics: Mapping[str, Any], skills: Mapping[tuple[str, str], float]) -> Finding:
    mean = fmean(skills.values())
    (label, name), least = min(skills.items(), key=lambda pair: pair[1])
    mark: Mark = "yes" if mean >= SKILL else "partly" if mean >= SKILL_PARTLY else "no"
    lead = {
        "yes": "It is the same individual",
        "partly": "It is the same individual in part",
        "no": "It is not the same individual",
    }[mark]
    text = f"{lead}: skill against the true counterfactual is {mean:.2f}"
    text += f", least {least:.2f} under {label}." if len(skills) > 1 else "."
    better = _better_baseline(metrics, skills, mean)
    if better:
        mark = "partly" if mark == "yes" else mark
        text = f"{text[:-1]}; without any model, {better[0]} has {better[1]:.2f}."
    if mark == "yes":
        return Finding("individual", mark, text)
    text = f"{text[:-1]}{_hint(metrics, name)}."
    return Finding("individual", mark, text, *_richer(metrics, name))


def _better_baseline(
    metrics: Mapping[str, Any], skills: Mapping[tuple[str, str], float], mean: float
) -> tuple[str, float] | None:
    """Return the best baseline that is better than the model; the ceiling was shown the truth."""
    by_answerer: dict[str, list[float]] = {}
    for label, name in skills:
        for answerer, numbers in metrics["truth"][label][name].items():
            value = numbers.get("skill", {}).get("mean")
            model = answerer in (KEPT, LATENT, AVERAGED, NOTHING) or answerer.startswith(SCALED)
            if value is not None and not model and answerer != CEILING:
                by_answerer.setdefault(answerer, []).append(value)
    means = {answerer: fmean(v) for answerer, v in by_answerer.items() if len(v) == len(skills)}
    best = max(means.items(), key=lambda pair: pair[1], default=("", mean))
    return best if best[1] > mean else None


def _by_composition(metrics: Mapping[str, Any]) -> Finding:
    apart = metrics.get("between rows")
    if apart is None:
        return _older(
            "individual", "Whether rows stay themselves is not in this report of an older version."
        )
    shares = {}
    for name, by_mode in metrics.get("composition", {}).items():
        drifts = by_mode.get(LATENT, by_mode.get(KEPT, {}))
        drift = next((number["mean"] for number in drifts.values()), None)
        if drift is not None and name in apart and apart[name]["apart"] > 0:
            shares[name] = 1 - drift / apart[name]["apart"]
    if not shares:
        return Finding("individual", "unknown", "Whether rows stay themselves was not measured.")
    name, share = min(shares.items(), key=lambda pair: pair[1])
    mark: Mark = "yes" if share >= SAME else "partly" if share >= SAME_PARTLY else "no"
    text = (
        f"with nothing changed, {name} comes back off by {max(0.0, 1 - share):.0%} of the distance "
        "between two rows"
    )
    lead = {
        "yes": "It is the same individual",
        "partly": "It is the same individual in part",
        "no": "It is not the same individual",
    }[mark]
    end = "" if metrics.get("truth") else "; the true counterfactual is not known"
    if mark == "yes":
        return Finding("individual", mark, f"{lead}: {text}{end}.")
    text = f"{lead}: {text}{end}{_hint(metrics, name)}."
    return Finding("individual", mark, text, *_richer(metrics, name))


def _richer(metrics: Mapping[str, Any], name: str) -> tuple[str, str]:
    """Return how a mechanism may keep more of the individual: never a family that keeps less."""
    record: Mapping[str, Any] = metrics.get("training", {}).get(name, {})
    kind = record.get("kind") or ("VAE" if _layers(metrics, name).all == 1 else None)
    if kind in FINAL:
        return "", ""
    if kind == "VAE":
        call = f'SCM(..., mechanisms={{"{name}": HVAE()}})'
        return _run(f"mechanisms.{name}={{kind: HVAE}}"), call
    if record and not record["image"] and kind != "Flow":
        return _run(f"mechanisms.{name}={{kind: Flow}}"), "choose(model, train)"
    epochs = LONGER * record["epochs"] if record else 100
    return _run(f"training.mechanisms.{name}.epochs={epochs}"), f"fit(model, train, {epochs=})"


def _hint(metrics: Mapping[str, Any], name: str) -> str:
    """Name the family that keeps more of images whose parents move what they show."""
    if metrics.get("training", {}).get(name, {}).get("kind") not in {"VAE", "HVAE"}:
        return ""
    return f"; if parents move what {name} shows, such as anatomy, a DeformedAtlas keeps more of it"


# Are the targets inside the support? -------------------------------------------------------------


def _support(metrics: Mapping[str, Any]) -> Finding:
    by_label = metrics.get("positivity")
    places = [(label, place) for label, parts in (by_label or {}).items() for place in parts]
    if by_label is None or not places:
        text = "Whether targets lie inside the data is not known: no training rows were given."
        call = "evaluate(model, test, train=train)"
        return Finding("support", "unknown", text, f"rung3 evaluate {RUN}", call)
    label, worst = max(places, key=lambda pair: (pair[1]["outside"], pair[1]["far"]))
    if worst["outside"] > OUTSIDE:
        mark: Mark = "partly" if worst["outside"] <= OUTSIDE_PARTLY else "no"
        text = (
            f"{worst['outside']:.0%} of the targets of {label} lie outside the training data "
            f"({worst['variable']}: {worst['seen']}), where a model only guesses."
        )
        return Finding("support", mark, text, *_nearer(worst))
    label, worst = max(places, key=lambda pair: pair[1]["far"])
    if worst["far"] > FAR:
        mark = "partly" if worst["far"] <= FAR_PARTLY else "no"
        text = (
            f"{worst['far']:.0%} of the targets of {label} have no training row near, though "
            f"{worst['variable']} alone is in its range: such combinations are rare."
        )
        return Finding("support", mark, text, *_nearer(worst))
    text = "The targets lie inside the training data"
    if worst["far"] > OUTSIDE:
        text += f"; at most {worst['far']:.0%} of an intervention's have no training row near"
    return Finding("support", "yes", f"{text}.")


def _nearer(place: Mapping[str, Any]) -> tuple[str, str]:
    """Return how to ask for targets that are nearer to the data: half way to the median."""
    name, median = place["variable"], place["median"]
    if median is None:
        settings = "evaluation.protocol.targets=marginal"
        call = 'evaluate(model, test, train=train, protocol=Protocol(targets="marginal"))'
        return f"rung3 evaluate {RUN} --set {settings}", call
    half = f"({name} + {median:.4g})/2"
    return (
        f"rung3 evaluate {RUN} --set 'evaluation.interventions={{{name}: {half}}}'",
        f'evaluate(model, test, train=train, interventions={{"{name}": lambda {name}: {half}}})',
    )


# Do the draws hold the truth? --------------------------------------------------------------------


class _Covered(NamedTuple):
    """How often central intervals of draws hold the truth, and how often they should."""

    level: float
    share: float
    label: str
    name: str

    @property
    def apart(self) -> float:
        return abs(self.share - self.level)


def _uncertainty(metrics: Mapping[str, Any]) -> Iterator[Finding]:
    """Judge the coverage that is farthest from its level; nothing where nothing is uncertain."""
    coverages = [*_coverages(metrics)]
    if not coverages:
        return
    worst = max(coverages, key=lambda covered: covered.apart)
    if worst.apart <= HONEST:
        lines = [
            f"{level:.0%} intervals hold it in {min(shares):.0%} to {max(shares):.0%}"
            for level, shares in _by_level(coverages).items()
        ]
        text = f"Its draws hold the truth as often as they should: {' and '.join(lines)}."
        yield Finding("uncertainty", "yes", text)
        return
    mark: Mark = "partly" if worst.apart <= HONEST_PARTLY else "no"
    close = worst.share < worst.level
    lead = "Its draws lie too close together" if close else "Its draws are vague"
    text = (
        f"{lead}: under {worst.label} their {worst.level:.0%} intervals hold the true {worst.name} "
        f"in {worst.share:.0%} of its numbers."
    )
    latents = worst.name in metrics.get("divergence", {})
    call = "widen(model, validation, world)" if close and latents else ""
    yield Finding("uncertainty", mark, text, "", call)


def _coverages(metrics: Mapping[str, Any]) -> Iterator[_Covered]:
    for label, by_name in metrics.get("calibration", {}).items():
        for name in metrics.get("between rows", {}).keys() & by_name.keys():
            for kind, number in by_name[name].items():
                if kind.startswith("coverage ") and number["mean"] is not None:
                    level = float(kind.removeprefix("coverage ").rstrip("%")) / 100
                    yield _Covered(level, number["mean"], label, name)


def _by_level(coverages: Iterable[_Covered]) -> dict[float, list[float]]:
    by_level: dict[float, list[float]] = {}
    for covered in coverages:
        by_level.setdefault(covered.level, []).append(covered.share)
    return dict(sorted(by_level.items()))


def _older(question: str, text: str) -> Finding:
    return Finding(question, "unknown", text, f"rung3 evaluate {RUN}", "evaluate(...)")


def _run(setting: str) -> str:
    """Return the command that runs the study again with one more setting, beside the run."""
    quoted = f"'{setting}'" if set(setting) & set("{} ") else setting
    return f"rung3 run {RUN}/study.yaml --out {RUN}-next --set {quoted}"


def _listed(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
