"""Composition and reversibility: what must hold of every counterfactual (lecture 1.9).

With `x* = f(x; do)` the counterfactual of a row,

    composition      d(x, f_0^m(x)),           f_0 = f(.; pa := their factual values)
    reversibility    d(x, (f_back f)^m(x)),    f_back = f(.; the set ones := their factual values)

for m in {1, 10} null interventions and m in {1, 5} cycles; every answer is the next one's factual,
and its noise is abducted with fresh random numbers.
Doing nothing at all passes both, so neither means anything without skill or effectiveness.

Source: Galles and Pearl 1998; Monteiro et al. 2023 (arXiv 2303.01274), section 3.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from rung3.data.distances import distance
from rung3.data.rows import Rows
from rung3.data.seeding import Seed, chain
from rung3.data.variables import Image
from rung3.evaluation.measures.base import KEPT, MODES, Answers, Examination, Line, Measure, Section
from rung3.evaluation.measures.table import Table, cell
from rung3.evaluation.measures.table import times as spell_times
from rung3.evaluation.scores import Path

if TYPE_CHECKING:
    from rung3.scm.scm import SCM

__all__ = ["COMPOSITION", "REVERSIBILITY", "answer", "composition", "reversibility"]


def composition(
    model: SCM,
    rows: Rows,
    outcome: str,
    times: Iterable[int] = (1, 10),
    *,
    temperature: float = 1.0,
    seed: Seed = None,
) -> dict[int, Tensor]:
    """Measure how far the outcome drifts under null interventions on its parents.

    Args:
        model: The model.
        rows: A batch of rows.
        outcome: The variable that is looked at.
        times: Numbers m of null interventions after which to look.
        temperature: Factor on the noise of observation; 0 predicts from z alone.
        seed: An int, a `torch.Generator`, or `None`.

    Returns:
        By m, the distance of each row, `(n,)`; of images, in grey levels.

    Example:
        >>> from rung3 import worlds
        >>> world = worlds.lecture()
        >>> composition(world, world.sample(2, seed=0), "x2", [1])
        {1: tensor([0., 0.])}
    """
    wanted, drifts, now = set(times), {}, rows
    links = chain(seed, "composition")
    do = {parent: rows[parent] for parent in model.graph.parents(outcome)}
    for m in range(1, max(wanted, default=0) + 1):
        now = answer(model, now, do, temperature, links)
        if m in wanted:
            drifts[m] = distance(model.variables[outcome], now[outcome], rows[outcome])
    return drifts


def reversibility(
    model: SCM,
    rows: Rows,
    do: Mapping[str, Any],
    outcomes: Iterable[str],
    times: Iterable[int] = (1, 5),
    *,
    hold: Collection[str] = (),
    temperature: float = 1.0,
    seed: Seed = None,
) -> dict[int, dict[str, Tensor]]:
    """Measure how far outcomes drift when an intervention is made and unmade.

    Args:
        model: The model.
        rows: A batch of rows.
        do: The intervention, as `SCM.do` takes it.
        outcomes: The variables that are looked at.
        times: Numbers m of cycles after which to look.
        hold: Variables kept at their factual values throughout.
        temperature: Factor on the noise of observation; 0 predicts from z alone.
        seed: An int, a `torch.Generator`, or `None`.

    Returns:
        By m and outcome, the distance of each row, `(n,)`; of images, in grey levels.
    """
    wanted, names, now = set(times), list(outcomes), rows
    back, links = {name: rows[name] for name in do}, chain(seed, "reversibility")
    drifts = {}
    for m in range(1, max(wanted, default=0) + 1):
        now = answer(model, now, do, temperature, links, hold)
        now = answer(model, now, back, temperature, links, hold)
        if m in wanted:
            drifts[m] = {k: distance(model.variables[k], now[k], rows[k]) for k in names}
    return drifts


def answer(
    model: SCM,
    rows: Rows,
    do: Mapping[str, Any],
    temperature: float = 1.0,
    seed: Seed = None,
    hold: Collection[str] = (),
) -> Rows:
    """Return a counterfactual as rows that can be asked about in turn.

    Where a world knows the noise, it stays; images are cut to their range, as storing them would.
    """
    imagined = model.counterfactual(rows, do, hold=hold, temperature=temperature, seed=seed)
    known = model.world is not None and rows.world == model.world
    return Rows(
        {
            k: v.clamp(0, 1) if isinstance(model.variables[k], Image) else v
            for k, v in imagined.items()
        },
        noise=rows.noise if known else None,
        world=rows.world if known else None,
        abductions=rows.abductions,
    )


def _on_null(exam: Examination, rows: Rows) -> None:
    for name in exam.outcomes:
        for mode, temperature in exam.modes.items():
            paths = {m: ("composition", name, mode, str(m)) for m in exam.composition}
            with exam.flagged(paths.values()):
                drifts = composition(
                    exam.model,
                    rows,
                    name,
                    exam.composition,
                    temperature=temperature,
                    seed=exam.generator,
                )
                for m, drift in drifts.items():
                    exam.add(paths[m], name, drift)


def _reverse(exam: Examination, answers: Answers, mode: str) -> None:
    if mode not in exam.modes:
        return  # without guidance, answers alone are compared
    names = [name for name in answers.query.affected(exam.model) if name in exam.outcomes]
    paths = {
        (m, name): ("reversibility", answers.query.label, name, mode, str(m))
        for m in exam.reversibility
        for name in names
    }
    with exam.flagged(paths.values()):
        drifts = reversibility(
            exam.model,
            answers.rows,
            answers.do,
            names,
            exam.reversibility,
            hold=answers.query.hold,
            temperature=exam.modes[mode],
            seed=exam.generator,
        )
        for (m, name), path in paths.items():
            exam.add(path, name, drifts[m][name])


def _tables(metrics: Mapping[str, Any]) -> Iterator[Table]:
    composed, reversed_ = metrics.get("composition", {}), metrics.get("reversibility", {})
    by_modes = [
        *composed.values(),
        *(part for by_name in reversed_.values() for part in by_name.values()),
    ]
    modes = list(dict.fromkeys(mode for by_mode in by_modes for mode in by_mode))
    table = Table(
        "Composition and reversibility",
        "How far a value drifts when nothing is changed, or is changed and changed back. Doing "
        "nothing at all scores 0 here: read it beside the other tables.",
        ["", *(MODES.get(mode, mode) for mode in modes)],
    )
    for name, by_mode in composed.items():
        for m in by_mode[KEPT]:
            cells = [cell(by_mode[mode][m]) for mode in modes]
            table.rows.append((f"{name}: nothing changed, {spell_times(m)}", cells))
    for label, by_name in reversed_.items():
        for name, by_mode in by_name.items():
            for m in by_mode[KEPT]:
                cells = [cell(by_mode[mode][m]) for mode in modes]
                table.rows.append((f"{name}: {label} and back, {spell_times(m)}", cells))
    yield table


def _composition_line(path: Path) -> Line:
    _, name, mode, m = path
    return Line(f"{name}, nothing changed {spell_times(m)}", mode)


def _reversibility_line(path: Path) -> Line:
    _, label, name, mode, m = path
    return Line(f"{name}, {label} and back {spell_times(m)}", mode)


COMPOSITION = Measure(
    name="composition",
    about="drift under null interventions",
    sections=(Section("composition", better={"": "lower"}, line=_composition_line),),
    standard=True,
    essential=True,
    on_null=_on_null,
    tables=_tables,
)

REVERSIBILITY = Measure(
    name="reversibility",
    about="drift there and back",
    sections=(Section("reversibility", better={"": "lower"}, line=_reversibility_line),),
    standard=True,
    essential=True,
    on_answer=_reverse,
    tables=lambda metrics: (),  # stands in the table of composition
)
