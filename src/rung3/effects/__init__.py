"""Effects: differences of potential outcomes, under one and the same exogenous noise.

    Y(x~) - Y(x),     both of the noise u ~ P(U | row),  or  u ~ P(U) for a population

`mediate` splits the effect on each row by way, through variables or through the outcome's own
latents; `path_specific` follows single paths; `average`, `natural` and `controlled` speak of
populations, and `mediate_over` of the rows of a table that does not fit into memory;
`heterogeneity` says for whom they are larger; `uncertainty` and `coverage` how sure a
counterfactual is, and whether that is right; `grid` draws rows, interventions and effect maps as
one picture.

`explain` says what a predictor's output is due to, `audit` why it treats groups differently, and
`recourse` what would change an outcome; `with_predictor` makes a predictor a variable of a model.

`rung3.effects.tables` estimates effects from a table, without a model; `rung3.effects.bounds` says
what data leave open; `rung3.effects.attribution` which mechanism made a row unusual, or changed.
"""

from rung3.effects.attribution.explaining import explain
from rung3.effects.attribution.explanation import Explanation
from rung3.effects.averages import average, controlled
from rung3.effects.estimate import Estimate
from rung3.effects.groups import Heterogeneity, heterogeneity
from rung3.effects.image_grid import Grid, grid
from rung3.effects.interval_coverage import Coverage, coverage
from rung3.effects.learning import hold_learning, refits
from rung3.effects.mediation import Averages, Mediation, mediate, natural
from rung3.effects.over_rows import mediate_over
from rung3.effects.paths import path_specific
from rung3.effects.predictors import Action, Audit, audit, recourse, with_predictor
from rung3.effects.spread import Uncertainty, uncertainty

__all__ = [
    "Action",
    "Audit",
    "Averages",
    "Coverage",
    "Estimate",
    "Explanation",
    "Grid",
    "Heterogeneity",
    "Mediation",
    "Uncertainty",
    "path_specific",
    "audit",
    "average",
    "controlled",
    "coverage",
    "explain",
    "grid",
    "heterogeneity",
    "hold_learning",
    "mediate",
    "mediate_over",
    "natural",
    "recourse",
    "refits",
    "uncertainty",
    "with_predictor",
]
