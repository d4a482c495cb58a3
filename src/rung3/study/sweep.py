"""A sweep: the same study for several values of a setting, each run in a folder of its own.

`mechanisms.image.beta=0.5,1,2,4` is four studies, and with `training.epochs=2,8` beside it eight.
Values are as in the study file, so that whole parts can be varied too:

    mechanisms.image={kind: VAE, latent: 16},{kind: HVAE}
    training.objective=null,{kind: counterfactual, weight: 10}
    training.seed=0,1,2                 the same rows, learned again

Under stress a study is run as it is, with each arrow of its graph wrong, and with a share of each
label wrong (see `rung3.evaluation.misspecification`).
"""

from __future__ import annotations

import itertools
import json
import re
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import yaml

from rung3.data.files import digest
from rung3.data.names import slugs
from rung3.data.variables import Image
from rung3.evaluation.misspecification import misdrawn
from rung3.graph import CausalGraph
from rung3.study.folder import RunFolder
from rung3.study.run import run_study
from rung3.study.study import Study

__all__ = ["studies", "sweep"]

MAY_DIFFER = ("mechanisms", "training", "data", "graph")
"""Parts that may differ between runs that are to be compared."""


def studies(
    path: str | Path,
    vary: Iterable[str],
    settings: Iterable[str] = (),
    *,
    stress: float | None = None,
) -> dict[str, Study]:
    """Return the studies of a sweep, by what is special about each, such as `beta=0.5`.

    Args:
        path: The study file.
        vary: Each `key=value,value,...`; with several, all combinations.
        settings: Values to set in every study, such as `training.epochs=2`.
        stress: Share of wrong labels, between 0 and 1, to put the study under stress.

    Raises:
        ValueError: If fewer than two studies come out, a value is given twice or is none that the
            study may have, or the test rows or questions would not be the same.
    """
    ways = [_ways(text) for text in vary]
    if stress is not None:
        ways.append(_wrong(path, list(settings), stress))
    labelled = {}
    for combination in itertools.product(*ways):
        label = ",".join(name for name, _ in combination)
        if label in labelled:
            raise ValueError(f"--vary: {label} is given twice")
        labelled[label] = Study.load(path, [*settings, *(setting for _, setting in combination)])
    if len(labelled) < 2:
        raise ValueError(
            "--vary: expected two values or more, such as mechanisms.image.beta=0.5,1,2; got "
            f"{', '.join(vary) or 'nothing'}"
        )
    _check_comparable(labelled)
    return labelled


def sweep(
    path: str | Path,
    vary: Iterable[str],
    folder: str | Path,
    settings: Iterable[str] = (),
    *,
    stress: float | None = None,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda text: None,
    progress: bool = False,
) -> dict[str, Path]:
    """Run a study for each value; runs that are finished are kept, one that was killed resumes.

    Args:
        path: The study file.
        vary: Each `key=value,value,...`.
        folder: Where the runs' folders are made.
        settings: Values to set in every study.
        stress: As `studies` has it.
        overwrite: Remove earlier runs that are there.
        say: Called with a line on each step.
        progress: Show the progress of training and evaluation.

    Returns:
        The runs' folders, by what is special about each.

    Raises:
        ValueError: As `studies`, or if a folder holds something else; before anything is trained.
    """
    labelled = studies(path, list(vary), settings, stress=stress)
    names = slugs(labelled, keep=r"\w .,=+%-")
    places = {label: RunFolder(Path(folder) / names[label]) for label in labelled}
    for label, place in places.items():
        place.check(labelled[label], overwrite)
    for k, (label, place) in enumerate(places.items(), 1):
        if place.finished and not overwrite:
            say(f"{k} of {len(labelled)}: {label} is finished, in {place.path}")
            continue
        say(f"{k} of {len(labelled)}: {label}")
        run_study(labelled[label], place.path, overwrite=overwrite, say=say, progress=progress)
    return {label: place.path for label, place in places.items()}


def _ways(text: str) -> list[tuple[str, str]]:
    """Return label and setting of each value of `key=value,value,...`."""
    key, equals, values = (part.strip() for part in text.partition("="))
    if not equals or not key or not values:
        raise ValueError(f"--vary {text}: expected key=value,value,...")
    source = f"[{values}]"
    try:
        node = yaml.compose(source)
    except yaml.YAMLError as error:
        raise ValueError(f"--vary {text}: not YAML: {getattr(error, 'problem', error)}") from None
    items = node.value if isinstance(node, yaml.SequenceNode) else []
    values_given = [source[item.start_mark.index : item.end_mark.index] for item in items]
    name = key.rpartition(".")[2]
    return [(f"{name}={_short(value)}", f"{key}={value}") for value in values_given]


def _wrong(path: str | Path, settings: list[str], share: float) -> list[tuple[str, str]]:
    """Return label and setting of the study as it is, and with each arrow or each label wrong.

    No arrow is turned that would make an image a cause.
    """
    study = Study.load(path, settings)
    images = [name for name, kind in study.declared().items() if isinstance(kind, Image)]
    graph, variants = CausalGraph(study.graph), [("as it is", f"name={study.name}")]
    for label, drawn in misdrawn(graph).items():
        if any(cause in images for cause, _ in set(drawn.edges) - set(graph.edges)):
            continue
        setting = f"graph={json.dumps(drawn.to_text())}"
        try:
            Study.load(path, [*settings, setting])
        except ValueError as refused:
            warnings.warn(f"stress: {label} is left out: {refused}", stacklevel=3)
            continue
        variants.append((label.replace("->", "to"), setting))
    return variants + [
        (f"{share:.0%} of {name} wrong", f"training.mislabelled={json.dumps({name: share})}")
        for name in study.declared()
        if name not in images
    ]


def _short(value: str) -> str:
    """Return a value as part of a folder's name.

    Example:
        >>> _short("{kind: VAE, latent: 16}"), _short("1e-3")
        ('kind-VAE-latent-16', '1e-3')
    """
    return re.sub(r"[^\w.+-]+", "-", value).strip("-")


def _check_comparable(labelled: dict[str, Study]) -> None:
    """Refuse what would end in runs that `compare` refuses, before hours of training."""
    (first, one), *others = labelled.items()
    for label, other in others:
        parts = one.differences(other)
        if bad := [part for part in parts if part not in MAY_DIFFER]:
            raise ValueError(
                f"--vary: {label} differs from {first} in {bad[0]}: they would not be asked the "
                f"same, and could not be compared; vary {', '.join(MAY_DIFFER)}"
            )
        if "graph" in parts and one.evaluation.interventions is None:
            raise ValueError(
                f"--vary: {label} has another graph than {first}, which decides what is asked: say "
                "it in evaluation.interventions, such as [thickness, intensity]"
            )
        if "data" in parts and len({_rows(study) for study in (one, other)}) > 1:
            raise ValueError(
                f"--vary: {label} has other test rows than {first}: they could not be compared; "
                "leave the test rows as they are"
            )


def _rows(study: Study) -> str:
    return digest(study.data.test_rows(study.declared(), study.seed))
