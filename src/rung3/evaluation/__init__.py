"""Evaluation: how sound a model's counterfactuals are, and how near the truth (lecture 1.9)."""

from typing import TYPE_CHECKING

from rung3.imports import lazily

if TYPE_CHECKING:
    from rung3.data.cache import Cache, user_cache
    from rung3.evaluation.assessment import evaluate
    from rung3.evaluation.baselines.ceiling import Ceiling, fit_ceiling
    from rung3.evaluation.measures.axioms import composition, reversibility
    from rung3.evaluation.protocol import Protocol
    from rung3.evaluation.report.comparison import Comparison, compare
    from rung3.evaluation.report.effect_page import EffectReport, effect_report
    from rung3.evaluation.report.report import Report
    from rung3.evaluation.report.tradeoff import tradeoff
    from rung3.evaluation.widening import widen
    from rung3.training.oracles.oracles import Oracle, Oracles, fit_oracles

__all__ = [
    "Cache",
    "Ceiling",
    "Comparison",
    "EffectReport",
    "Oracle",
    "Oracles",
    "Protocol",
    "Report",
    "compare",
    "composition",
    "effect_report",
    "evaluate",
    "fit_ceiling",
    "fit_oracles",
    "reversibility",
    "tradeoff",
    "user_cache",
    "widen",
]

if not TYPE_CHECKING:  # so that a name that is not there is still found by a type checker
    __getattr__ = lazily(__spec__)
