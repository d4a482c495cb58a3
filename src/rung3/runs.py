"""The folder of a run: what it holds, whether it may be written to, and how it is opened again.

study.yaml        the study as it was run: paths absolute, settings made
checkpoints/      of training; from here a run that was killed goes on
model/            the fitted model; written when training is done
history.json      losses by mechanism and epoch
report.html       the report, and metrics.json its numbers; written last, with scores.safetensors
                  (every row's scores) and examples.safetensors (the rows that it shows)
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rung3.rows import Rows
    from rung3.scm import SCM
    from rung3.study import Study

__all__ = ["RunFolder"]

HOLDS = (
    "metrics.json",
    "report.html",
    "scores.safetensors",
    "examples.safetensors",
    "strip-*.png",
    "sweep-*.png",
    "graph*.png",
    "losses.png",
    "oracles.safetensors",
    "predictors.safetensors",
    "history.json",
    "model",
    "checkpoints",
    "study.yaml",
)
"""What a run writes, as patterns, last first."""


class RunFolder:
    """A folder that a study is run in.

    Args:
        path: The folder; it need not be there yet.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.study_path = self.path / "study.yaml"
        self.checkpoints = self.path / "checkpoints"
        self.model_path = self.path / "model"
        self.history_path = self.path / "history.json"
        self.oracles_path = self.path / "oracles.safetensors"
        self.predictors_path = self.path / "predictors.safetensors"
        self.report_path = self.path / "report.html"
        self.metrics_path = self.path / "metrics.json"

    @property
    def finished(self) -> bool:
        """Whether the report is written."""
        return self.metrics_path.is_file() and self.report_path.is_file()

    @property
    def fitted(self) -> bool:
        """Whether this is the folder of a run whose model is fitted."""
        return self.study_path.is_file() and self.model_path.is_dir()

    def claim(self, study: Study, overwrite: bool = False) -> bool:
        """Make the folder the study's, or refuse.

        Args:
            study: The study that is to run here; where none is finished, its evaluation may have
                been changed since.
            overwrite: Remove what an earlier run left.

        Returns:
            Whether an earlier run of the same study is continued.

        Raises:
            ValueError: If the folder holds a finished run, a run of another study, or other things.
        """
        self.check_claim(study, overwrite)
        if self.study_path.is_file():
            if not overwrite:
                if (then := self.study()) != study:  # in what is asked: nothing is fitted anew
                    if then.evaluation.oracles != study.evaluation.oracles:
                        self.oracles_path.unlink(missing_ok=True)
                    study.save(self.study_path)
                return True
            self._clear()
        self.path.mkdir(parents=True, exist_ok=True)
        study.save(self.study_path)
        return False

    def check_claim(self, study: Study, overwrite: bool = False) -> None:
        """Refuse what `claim` refuses, and leave the folder as it is."""
        self.check(study, overwrite)
        if not overwrite and self.study_path.is_file():
            self._check_unfinished()

    def check(self, study: Study, overwrite: bool = False) -> None:
        """Refuse if the folder holds a run of another study, or other things."""
        if not self.study_path.is_file():
            if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
                raise ValueError(
                    f"{self.path} is there and is not the folder of a run; choose another with "
                    "--out"
                )
        elif not overwrite and (found := self._differences(study)):
            if found == ["evaluation"]:
                raise ValueError(
                    f"{self.path} holds this run, finished, and differs in evaluation; ask its "
                    f"model otherwise with `rung3 evaluate {self.path} --set evaluation...`, "
                    "choose another folder with --out, or remove that run with --overwrite"
                )
            raise ValueError(
                f"{self.path} holds a run of a study that differs in {', '.join(found)}; choose "
                "another folder with --out, or remove that run with --overwrite"
            )

    def _differences(self, study: Study) -> list[str]:
        """In what the run here differs: what is asked may change until the report is written."""
        found = self.study().differences(study)
        return found if self.finished or found != ["evaluation"] else []

    def _check_unfinished(self) -> None:
        if self.finished:
            raise ValueError(
                f"{self.path} holds this run, finished: see {self.report_path}; run it again with "
                "--overwrite, or elsewhere with --out"
            )

    def _clear(self) -> None:
        """Remove what a run writes, and nothing else; the study last, so that it stays a run's."""
        for path in [path for pattern in HOLDS for path in self.path.glob(pattern)]:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def again(self, folder: str | Path, settings: Iterable[str], overwrite: bool = False) -> Study:
        """Copy what was fitted here to another folder, where it is to be evaluated otherwise.

        Args:
            folder: The other folder; to run the study there is to evaluate.
            settings: Changes of the study's evaluation, such as `evaluation.n=1000`.
            overwrite: Remove what an earlier run left there.

        Returns:
            The study with these changes.

        Raises:
            ValueError: If training has not ended here, anything but the evaluation is changed, or
                the folder may not be used.
        """
        from rung3.study import Study

        model, own, other = self.model(), self.study(), RunFolder(folder)
        changed = Study.load(self.study_path, settings)
        if beyond := [name for name in own.differences(changed) if name != "evaluation"]:
            raise ValueError(
                f"{', '.join(beyond)}: a fitted model can be asked otherwise (evaluation...); "
                "`rung3 run` fits another"
            )
        other.claim(changed, overwrite)
        shutil.copy(self.history_path, other.history_path)
        alike = own.evaluation.oracles == changed.evaluation.oracles
        if alike and self.oracles_path.is_file():
            shutil.copy(self.oracles_path, other.oracles_path)
        model.save(other.model_path)
        return changed

    def study(self) -> Study:
        """The study that was run here.

        Raises:
            ValueError: If this is not the folder of a run.
        """
        from rung3.study import Study

        if not self.study_path.is_file():
            raise ValueError(
                f"{self.path} is not the folder of a run: it has no study.yaml; "
                "`rung3 run STUDY` makes one"
            )
        return Study.load(self.study_path)

    def model(self) -> SCM:
        """The fitted model.

        Raises:
            ValueError: If training has not ended, or the model's files are altered.
        """
        from rung3.store import load

        study = self.study()
        if not self.model_path.is_dir():
            raise ValueError(
                f"{self.path} has no fitted model yet: training has not ended; "
                f"`rung3 run` of the study {study.name!r} goes on where it was stopped"
            )
        return load(self.model_path)

    def test(self) -> tuple[Rows, SCM | None]:
        """The study's test rows, and the world that they come from where it is known."""
        study = self.study()
        return study.data.test_rows(study.declared(), study.seed), study.data.truth()
