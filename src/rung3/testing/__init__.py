"""The contract of a mechanism, as tests for ours and for yours."""

from rung3.testing.case import Subject, prepare
from rung3.testing.contract import CHECKS, MechanismError, MechanismReport, check_mechanism

__all__ = [
    "CHECKS",
    "MechanismError",
    "MechanismReport",
    "Subject",
    "check_mechanism",
    "prepare",
]
