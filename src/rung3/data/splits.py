"""Rows set aside for validation: they come from the training rows, never from the test set.

Where rows have subjects, such as the person whose scan it is, a subject is never in two parts: a
model that has seen a person's other scan is not tested by this one.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import torch
from torch import Tensor

from rung3.data.rows import Rows
from rung3.data.seeding import Seed, base_seed

__all__ = ["check_apart", "check_owners", "divide", "split"]


def split(
    rows: Rows,
    validation: float = 0.1,
    seed: Seed = 0,
    *,
    subjects: Sequence[object] | None = None,
) -> tuple[Rows, Rows]:
    """Divide training rows at random into training and validation rows.

    Args:
        rows: The training rows.
        validation: Share set aside, between 0 and 1.
        seed: Which rows; the same seed gives the same ones.
        subjects: Whom each row is of: all rows of a subject go to one part, and the share is met
            as nearly as whole subjects can.

    Returns:
        Training rows and validation rows, with their noise where it is known.

    Raises:
        ValueError: If a part would be empty.

    Example:
        >>> train, validation = split(Rows({"x": torch.arange(50.0)}), validation=0.2)
        >>> train.n, validation.n
        (40, 10)
        >>> rows = Rows({"x": torch.arange(6.0)})
        >>> [part["x"].tolist() for part in split(rows, 0.3, subjects="aabbcc")]
        [[0.0, 1.0, 2.0, 3.0], [4.0, 5.0]]
    """
    rest, held = divide(range(rows.n) if subjects is None else subjects, validation, seed)
    return rows.select(rest), rows.select(held)


def divide(subjects: Sequence[object], share: float, seed: Seed = 0) -> tuple[Tensor, Tensor]:
    """Divide rows by their subjects: the numbers of those that are kept, and of those set aside.

    Args:
        subjects: Whom each row is of.
        share: Share set aside.
        seed: Which rows.

    Raises:
        ValueError: If a part would be empty.
    """
    n = len(subjects)
    wanted = round(share * n) if 0 < share < 1 else 0
    of, people = _numbered(subjects)
    order = torch.randperm(people, generator=torch.Generator().manual_seed(base_seed(seed)))
    reached = torch.bincount(of, minlength=people)[order].cumsum(0)
    count = int((reached - wanted).abs().argmin()) + 1 if wanted else 0
    if not 0 < count < people:
        unit = "rows" if people == n else f"rows of {people} subjects"
        raise ValueError(
            f"validation={share} of {n} {unit} leaves a part empty; expected a share "
            "between 0 and 1 that sets at least one row aside, and leaves one"
        )
    aside = torch.zeros(people, dtype=torch.bool)
    aside[order[:count]] = True
    return (~aside[of]).nonzero()[:, 0], aside[of].nonzero()[:, 0]


def _numbered(subjects: Sequence[object]) -> tuple[Tensor, int]:
    """Return the number of each row's subject, in the order in which they come, and how many."""
    if isinstance(subjects, range):  # all differ; of a million rows that is told at once
        return torch.arange(len(subjects)), len(subjects)
    number = {subject: k for k, subject in enumerate(dict.fromkeys(subjects))}
    return torch.tensor([number[subject] for subject in subjects], dtype=torch.long), len(number)


def check_apart(parts: Mapping[str, Sequence[object]]) -> None:
    """Refuse parts of the rows in two of which a subject is.

    Args:
        parts: The subjects of each part's rows.

    Raises:
        ValueError: Naming a subject, its parts, and how many such subjects there are.
    """
    seen: dict[object, str] = {}
    torn: dict[object, str] = {}
    for part, subjects in parts.items():
        for subject in dict.fromkeys(subjects):
            if seen.setdefault(subject, part) != part:
                torn[subject] = part
    if torn:
        subject, part = next(iter(torn.items()))
        raise ValueError(
            f"subject {subject!r} is in the {seen[subject]} rows and in the {part} rows "
            f"({len(torn)} subjects are in both); split by subject"
        )


def check_owners(
    files: Sequence[Hashable], subjects: Sequence[object], rows: Sequence[object]
) -> None:
    """Refuse a file that rows of two subjects name: a split by subject would not part them.

    Args:
        files: What each row names; `None` for nothing.
        subjects: Whom each row is of.
        rows: What each row is called.

    Raises:
        ValueError: Naming the file, two of its subjects and their rows.

    Example:
        >>> check_owners(["a.nii", "b.nii", "a.nii"], ["Ann", "Ben", "Ann"], range(3))
    """
    first: dict[Hashable, int] = {}
    for k, (file, subject) in enumerate(zip(files, subjects, strict=True)):
        before = first.setdefault(file, k)
        if file is not None and subjects[before] != subject:
            raise ValueError(
                f"{file} is of subject {subjects[before]!r} in row {rows[before]} and of subject "
                f"{subject!r} in row {rows[k]}; expected one subject a file"
            )
