"""The axioms hold of every causal model, and of no other table of answers."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from rung3 import SCM, Binary, Categorical, Ordinal, worlds
from rung3.evaluation.exact_axioms import Answerer, check_axioms, units
from rung3.mechanisms import GumbelMax, InverseCDF

PAIR = {"x": Binary(), "y": Binary()}


def model(seed: int = 0) -> SCM:
    """A random model `a -> b -> c; a -> c` of two, three and two values."""
    generator = torch.Generator().manual_seed(seed)

    def table(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator).double().softmax(-1)

    return SCM(
        "a -> b -> c; a -> c",
        variables={"a": Binary(), "b": Categorical(3), "c": Ordinal(2)},
        mechanisms={
            "a": InverseCDF(table=table(2)),
            "b": GumbelMax(table=table(2, 3)),
            "c": InverseCDF(table=table(2, 3, 2)),
        },
    )


def answers_of(model: SCM) -> Answerer:
    noise = units(model)
    return lambda do: (model.do(do) if do else model).predict(noise)


# Models ----


@pytest.mark.parametrize("seed", [0, 1])
def test_they_hold_in_models(seed: int) -> None:
    axioms = check_axioms(model(seed))
    assert axioms.hold
    assert min(verdict.cases for verdict in vars(axioms).values()) > 1000


def test_units_are_all_ways_to_respond() -> None:
    # Of p(b = 1 | a) = 0.3 and 0.6, monotone noise makes (0, 0), (0, 1), (1, 1), and not (1, 0).
    tables = {"a": [0.5, 0.5], "b": [[0.7, 0.3], [0.4, 0.6]]}
    scm = SCM(
        "a -> b",
        variables=dict.fromkeys(tables, Binary()),
        mechanisms={name: InverseCDF(table=table) for name, table in tables.items()},
    )
    noise = units(scm)
    answers = [scm.predict(noise)["a"]]
    answers += [scm.do(a=value).predict(noise)["b"] for value in (0, 1)]
    responses = sorted(tuple(row) for row in torch.stack(answers, 1).tolist())
    assert responses == [(a, b, c) for a in (0, 1) for b, c in ((0, 0), (0, 1), (1, 1))]


def test_a_table_obeys_them_if_and_only_if_a_model_gives_it() -> None:
    """Soundness and completeness, of all tables of two binary variables that are effective."""
    pairs = list(product((0, 1), repeat=2))
    obeying, modelled = set(), set()
    for f, g, seen in product(pairs, repeat=3):  # x under do(y), y under do(x), both under do()

        def ask(do: Mapping[str, int], f: Any = f, g: Any = g, seen: Any = seen) -> Any:
            x = do.get("x", f[do["y"]] if "y" in do else seen[0])
            y = do.get("y", g[do["x"]] if "x" in do else seen[1])
            return {"x": torch.tensor([x]), "y": torch.tensor([y])}

        if check_axioms(ask, PAIR).hold:
            obeying.add((f, g, seen))
        if [(x, y) for x, y in pairs if f[y] == x and g[x] == y] == [seen]:
            modelled.add((f, g, seen))
    assert obeying == modelled
    assert len(obeying) == 12  # of 64; 2 cyclic pairs have no solution, and 2 have two


# What is no model breaks them, each in its own way ----


def test_doing_nothing_is_only_not_effective() -> None:
    factual = units(model())
    same = model().predict(factual)
    axioms = check_axioms(lambda do: same, model().variables)
    assert axioms.composition.holds
    assert axioms.reversibility.holds
    assert "is not 0 under do(" in axioms.effectiveness.counterexample


def test_a_side_effect_of_asking_breaks_composition() -> None:
    def placebo(do: Mapping[str, int]) -> Mapping[str, Tensor]:
        x = do.get("x", 0)
        return {"x": torch.tensor([x]), "y": torch.tensor([do.get("y", int("x" in do))])}

    axioms = check_axioms(placebo, PAIR)
    assert axioms.effectiveness.holds
    assert axioms.composition.counterexample == (
        "unit 0: x = 0 under do(), but y differs between that and do(x=0)"
    )


def test_fresh_noise_for_every_question_breaks_composition() -> None:
    original, generator = model(), torch.Generator().manual_seed(0)
    axioms = check_axioms(
        lambda do: original.do(do).sample(200, seed=generator), original.variables
    )
    assert axioms.effectiveness.holds
    assert not axioms.composition.holds


def test_a_feedback_loop_with_two_solutions_breaks_reversibility_alone() -> None:
    def undecided(do: Mapping[str, int]) -> Mapping[str, Tensor]:
        x = do.get("x", do.get("y", 0))  # x := y and y := x
        return {"x": torch.tensor([x]), "y": torch.tensor([do.get("y", x)])}

    axioms = check_axioms(undecided, PAIR)
    assert axioms.effectiveness.holds
    assert axioms.composition.holds
    assert not axioms.reversibility.holds
    assert not axioms.hold


def test_reversibility_is_asked_with_others_held() -> None:
    """The loop is closed only while a third variable holds it closed."""

    def switched(do: Mapping[str, int]) -> Mapping[str, Tensor]:
        z = do.get("z", 0)
        x = do.get("x", do.get("y", 0) if z else 0)
        return {k: torch.tensor([v]) for k, v in {"x": x, "y": do.get("y", x), "z": z}.items()}

    axioms = check_axioms(switched, PAIR | {"z": Binary()})
    assert axioms.composition.holds
    assert "do(z=1)" in axioms.reversibility.counterexample


def test_a_surgery_that_spares_descendants_is_not_effective() -> None:
    """The fault of others: under do(a, c) together, c is computed from a after all."""
    original = model()
    right = answers_of(original)

    def spared(do: Mapping[str, int]) -> Mapping[str, Tensor]:
        return right({k: v for k, v in do.items() if not (k == "c" and "a" in do)})

    axioms = check_axioms(spared, original.variables)
    assert "c is not 0 under do(a=0, c=0)" in axioms.effectiveness.counterexample
    assert not axioms.hold


# Bad input ----


def test_what_cannot_be_checked_is_refused() -> None:
    def lacks(do: Mapping[str, int]) -> Mapping[str, Tensor]:
        return {"x": torch.tensor([0])}

    def uneven(do: Mapping[str, int]) -> Mapping[str, Tensor]:
        return dict.fromkeys(PAIR, torch.zeros(1 + len(do)))

    with pytest.raises(ValueError, match="x1: is Continuous"):
        check_axioms(worlds.lecture())
    with pytest.raises(ValueError, match="expected what the function answers for"):
        check_axioms(lacks)
    with pytest.raises(ValueError, match="a model has its own"):
        check_axioms(model(), PAIR)
    with pytest.raises(ValueError, match=r"under do\(\) there is no answer for \['y'\]"):
        check_axioms(lacks, PAIR)
    with pytest.raises(ValueError, match=r"under do\(y=0\) the answers have the shape \(2,\)"):
        check_axioms(uneven, PAIR)
    chain = "; ".join(f"v{i} -> v{i + 1}" for i in range(14))
    many = SCM(chain, variables={f"v{i}": Binary() for i in range(15)})
    with pytest.raises(ValueError, match=r"units.*too many to check"):
        check_axioms(many)


def test_categories_whose_names_are_digits_are_asked_by_their_codes() -> None:
    original = model()
    variables = {"b": Categorical(labels=("1", "2", "0")), "c": Ordinal(labels=("2", "1"))}
    named = SCM(
        original.graph,
        original.variables | variables,
        {name: mechanism.clone() for name, mechanism in original.mechanisms.items()},
    )
    assert str(check_axioms(named)) == str(check_axioms(original))
