"""The folder of a run: what it holds, whether it may be written to, and how it is opened again.

study.yaml        the study as it was run: paths absolute, settings made, sealed by its first line
data.json         digests of the rows' columns, where they were read from files, how many rows of
                  these were left out, by reason, and digests of what was prepared of them on disk
checkpoints/      of training; from here a run that was killed resumes
history.json      losses by mechanism and epoch
model/            the fitted model; written when training is done
card.md           the card of the model
report.html       the report, and metrics.json its numbers, with scores.safetensors (every row's
                  scores), examples.safetensors (the rows that it shows) and pictures
files.json        digests of the report's files; written last, it says that the run is finished
lock              while a process works on the run: which
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from fnmatch import fnmatch
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rung3.data.files import DRAFTS, LIST, digest, finished, listed, write, write_json
from rung3.data.readers.scans import ScanOptions, write_scan
from rung3.data.rows import Rows
from rung3.data.variables import Image
from rung3.scm.scm import SCM, load
from rung3.scm.store import obstacle, written
from rung3.scm.zoo import find_model
from rung3.study.locks import lock
from rung3.study.row_source import Splits, check_row
from rung3.study.study import Study
from rung3.training.oracles.oracles import Oracles
from rung3.training.processes import is_first

if TYPE_CHECKING:
    from rung3.evaluation.verdict import Verdict

__all__ = ["RunFolder"]

LOCK = "lock"

SEAL = b"# sha256: "

PREPARED = "prepared"
"""Name of the digests of rows that were prepared on disk, among the notes of the data."""

UNLISTED = (
    "metrics.json", "report.html", "scores.safetensors", "examples.safetensors",
    "strip-*.png", "sweep-*.png", "graph*.png", "losses.png",
)  # fmt: skip
"""Files of the report in a run of version 0.1.0, which has no list of them."""


class RunFolder:
    """A folder that a study is run in.

    Args:
        path: The folder, which need not be there yet; or a model of the zoo, such as
            `rung3/digits`, or an address with a digest: see `rung3.scm.zoo`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = find_model(path)
        self.held = self.path != Path(path)  # by rung3, or fetched: it stays as it is
        self.study_path = self.path / "study.yaml"
        self.checkpoints = self.path / "checkpoints"
        self.model_path = self.path / "model"
        self.data_path = self.path / "data.json"
        self.history_path = self.path / "history.json"
        self.oracles_path = self.path / "oracles.safetensors"
        self.predictors_path = self.path / "predictors.safetensors"
        self.report_path = self.path / "report.html"
        self.metrics_path = self.path / "metrics.json"
        self._read: tuple[bytes, Study] | None = None  # the study's file, and what it says

    def predictors_of(self, member: int) -> Path:
        """Return the file of a member of the committee of predictors, counted from 0."""
        path = self.predictors_path
        return path.with_stem(f"{path.stem}-{member + 1}") if member else path

    @property
    def answers_path(self) -> Path:
        """Where answers are written by default: here, or beside you if it is held."""
        return Path.cwd() if self.held else self.path

    @property
    def finished(self) -> bool:
        """Whether the report is written, and stands as it was written."""
        if self._unlisted:
            return self.metrics_path.is_file() and self.report_path.is_file()
        return finished(self.path)

    @property
    def _unlisted(self) -> bool:
        """Whether version 0.1.0 wrote the run: its study has no seal, its files have no list."""
        if not self.study_path.is_file() or (self.path / LIST).is_file():
            return False
        return not self.study_path.read_bytes().startswith(SEAL)

    @property
    def fitted(self) -> bool:
        """Whether this is the folder of a run whose model is fitted."""
        needed = (self.study_path, self.history_path, self.model_path / "model.yaml")
        return all(path.is_file() for path in needed)

    def lock(self) -> AbstractContextManager[None]:
        """Keep other processes from writing to the run; its folder is made if it is not there.

        Raises:
            ValueError: If one writes to it now, naming process and host.
        """
        if not is_first():  # the first of them holds it
            return nullcontext()
        self.path.mkdir(parents=True, exist_ok=True)
        return lock(self.path / LOCK, f"the run in {self.path}")

    def claim(self, study: Study, overwrite: bool = False) -> bool:
        """Make the folder the study's, or refuse.

        Args:
            study: The study that is to run here; where none is finished, its evaluation may have
                been changed since.
            overwrite: Remove what an earlier run wrote, and nothing else.

        Returns:
            Whether an earlier run of the same study is continued.

        Raises:
            ValueError: If the folder holds a finished run, a run of another study, or other things.
        """
        self.check_claim(study, overwrite)
        if self.study_path.is_file() and not overwrite:
            self._remove(self._left())
            if (then := self.study()) != study:  # in what is asked: nothing is fitted again
                if then.evaluation.oracles != study.evaluation.oracles:
                    self.oracles_path.unlink(missing_ok=True)
                self._keep(study)
            return True
        self._remove([*self._written(), *self._left()])
        self._keep(study)
        return False

    def _keep(self, study: Study) -> None:
        text = study.to_yaml().encode()
        write(self.study_path, SEAL + sha256(text).hexdigest().encode() + b"\n" + text)

    def check_claim(self, study: Study, overwrite: bool = False) -> None:
        """Refuse what `claim` refuses, and leave the folder as it is."""
        self.check(study, overwrite)
        if not overwrite and self.study_path.is_file():
            self._check_unfinished()

    def check_model_path(self) -> None:
        """Refuse if something else lies where the model is saved: training would be wasted."""
        if other := obstacle(self.model_path):
            raise ValueError(
                f"{self.model_path} is there and is not a model's folder: {other}; move that away, "
                "or choose another folder with --out"
            )

    def check(self, study: Study, overwrite: bool = False) -> None:
        """Refuse if the folder holds a run of another study, or other things."""
        if not self.study_path.is_file():
            if self.path.exists() and (not self.path.is_dir() or any(self._strange())):
                raise ValueError(
                    f"{self.path} is there and is not the folder of a run; choose another with "
                    "--out"
                )
        elif not overwrite and (parts := self._differences(study)):
            if parts == ["evaluation"]:
                raise ValueError(
                    f"{self.path} holds this run, finished, and differs in evaluation; ask its "
                    f"model otherwise with `rung3 evaluate {self.path} --set evaluation...`, "
                    "choose another folder with --out, or remove that run with --overwrite"
                )
            raise ValueError(
                f"{self.path} holds a run of a study that differs in {', '.join(parts)}; choose "
                "another folder with --out, or remove that run with --overwrite"
            )

    def _differences(self, study: Study) -> list[str]:
        """Name what differs from this run: what is asked may change until the report is written."""
        parts = self.study().differences(study)
        return parts if self.finished or parts != ["evaluation"] else []

    def _check_unfinished(self) -> None:
        if self.finished:
            raise ValueError(
                f"{self.path} holds this run, finished: see {self.report_path}; run it again with "
                "--overwrite, or elsewhere with --out"
            )

    def _strange(self) -> Iterator[Path]:
        """Yield what is in the folder beside what a run that was killed at its start leaves."""
        for path in self.path.iterdir():
            if path.name != LOCK and not fnmatch(path.name, DRAFTS):
                yield path

    def _left(self) -> list[Path]:
        """Return drafts that a kill left."""
        places = (self.path, self.model_path, *self.checkpoints.glob("*"))
        return [draft for place in places for draft in place.glob(DRAFTS)]

    def _written(self) -> list[Path]:
        """Return the files that the run wrote, last first; not the study, which makes it a run."""
        if not self.study_path.is_file():
            return []
        checkpoints = [self.checkpoints]
        with suppress(ValueError):  # a study that is damaged names no other folder
            checkpoints += filter(None, [self.study().training.checkpoints])
        report = [self.path / name for name in (*listed(self.path), LIST)]
        if self._unlisted:
            report += [path for pattern in UNLISTED for path in self.path.glob(pattern)]
        model = written(self.model_path)
        others = self.path.glob(f"{self.predictors_path.stem}-[0-9]*.safetensors")
        predictors = [self.predictors_path, *others]
        rest = [self.history_path, self.oracles_path, *predictors, self.data_path]
        saved = [path for folder in checkpoints for path in folder.glob("[0-9]*/last.ckpt")]
        return [*report, *model, *rest, *saved]

    def _remove(self, files: Iterable[Path]) -> None:
        """Remove files, and folders of theirs that are empty then."""
        for file in files:
            file.unlink(missing_ok=True)
        for folder in (self.model_path, *self.checkpoints.glob("*"), self.checkpoints):
            with suppress(OSError):  # it is not there, or others keep things in it
                folder.rmdir()

    def copy_fitted(
        self, folder: str | Path, settings: Iterable[str], overwrite: bool = False
    ) -> Study:
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
        model, study, other = self.model(), self.study(), RunFolder(folder)
        changed = Study.load(self.study_path, settings)
        if other.path.resolve() == self.path.resolve():
            raise ValueError(f"{folder} is the run itself; name another folder with --out")
        if beyond := [name for name in study.differences(changed) if name != "evaluation"]:
            raise ValueError(
                f"{', '.join(beyond)}: a fitted model can be asked otherwise (evaluation...); "
                "`rung3 run` fits another"
            )
        other.check(changed, overwrite)
        alike = study.evaluation.oracles == changed.evaluation.oracles
        with other.lock():
            other.claim(changed, overwrite)
            names = ["data_path", "history_path", *(["oracles_path"] if alike else [])]
            for name in names:
                if (file := getattr(self, name)).is_file():
                    write(getattr(other, name), file.read_bytes())
            model.save(other.model_path)
        return changed

    def study(self) -> Study:
        """Read the study that was run here.

        Raises:
            ValueError: If this is not the folder of a run.
        """
        if not self.study_path.is_file():
            raise ValueError(
                f"{self.path} is not the folder of a run: it has no study.yaml; "
                "`rung3 run STUDY` makes one"
            )
        content = self.study_path.read_bytes()
        if self._read is None or self._read[0] != content:
            self._read = content, Study.load(self.study_path, sealed=self._sealed(content))
        return self._read[1]

    def _sealed(self, content: bytes) -> bool:
        """Return whether a study's file bears the seal of this command, and refuse a wrong one."""
        first, _, rest = content.partition(b"\n")
        if not first.startswith(b"#"):
            return False
        if first != SEAL + sha256(rest).hexdigest().encode():
            raise ValueError(
                f"{self.study_path} is damaged, or was changed: restore it from a copy, or run "
                "the study again with --overwrite; if you changed it, remove its first line"
            )
        return True

    def model(self) -> SCM:
        """Load the fitted model, with the run's predictors to read missing causes off images.

        Raises:
            ValueError: If training has not ended, or the model's files are altered.
        """
        study = self.study()
        if not self.model_path.is_dir():
            raise ValueError(
                f"{self.path} has no fitted model yet: training has not ended; "
                f"`rung3 run` of the study {study.name!r} resumes where it was stopped"
            )
        model = load(self.model_path)
        if self.oracles_path.is_file():
            with suppress(ValueError):  # damaged ones are left out: the model is whole
                model.readers = Oracles.load(self.oracles_path)
        return model

    def test(self, at: int | None = None) -> tuple[Rows, SCM | None]:
        """Return the test rows, or one of them, and the world that they come from if it is known.

        Of rows that a world draws only that one is rendered, and of those prepared on disk only
        that one is read; files are read whole, as it takes all rows to see that they are those of
        the run.

        Args:
            at: The number of a row, from 0; all if not given.

        Raises:
            ValueError: If there is no such row, or the data have changed since the run began.
        """
        study = self.study()
        source, declared = study.data, study.declared()
        if at is not None and not source.is_read:
            return source.test_rows(declared, study.seed, at), source.truth()
        rows = source.test_rows(declared, study.seed)
        if not self._prepared_as_then(study):
            self.check_rows("test", rows)
        if at is None:
            return rows, source.truth()
        check_row(at, rows.n)
        return rows[at], source.truth()

    def _prepared_as_then(self, study: Study) -> bool:
        """Return whether the rows lie prepared on disk as they did when the run began."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            noted = json.loads(self.data_path.read_bytes())[PREPARED]
            return bool(noted) and noted == study.data.stamp(study.declared())
        return False

    def verdict(self) -> Verdict | None:
        """Return what the run's report says of the model; `None` if none can be read."""
        from rung3.evaluation.verdict import Verdict, judge

        with suppress(OSError, ValueError, LookupError, TypeError):
            metrics = json.loads(self.metrics_path.read_text("utf-8"))
            stored = metrics.get("verdict")
            return judge(metrics) if stored is None else Verdict.of_config(stored)
        return None

    def test_scan(self, at: int) -> tuple[str, Path, ScanOptions]:
        """Return the image variable of a test row, its scan, and what is taken of that.

        Raises:
            ValueError: If the study has no image or several, or the row is not read from a scan.
        """
        study = self.study()
        images = [k for k, v in study.declared().items() if isinstance(v, Image)]
        if len(images) != 1:
            raise ValueError(f"expected one image variable to write, and there are {images}")
        return images[0], *study.data.test_scan(images[0], study.seed, at)

    def write_scan(
        self, path: str | Path, at: int, factual: Rows, imagined: Rows, note: str
    ) -> Path:
        """Write the counterfactual of a test row as a scan like the one that it was read from.

        Args:
            path: Where to write: a file named as the row's own is, or a folder for a DICOM series.
            at: The number of the row, from 0.
            factual: The row.
            imagined: What it would have been; of several particles the mean is written.
            note: What was asked, for the scan's header.

        Returns:
            The path.

        Raises:
            ValueError: If the study has no image or several, or the row is not read from a scan.
        """
        name, source, options = self.test_scan(at)
        image = self.study().declared()[name]
        assert isinstance(image, Image)
        after = imagined[name] if imagined.particles is None else imagined[name].mean(0)
        return write_scan(path, source, factual[name], after, image, options, note)

    def history(self) -> dict[str, Any]:
        """Read losses by mechanism and epoch; none, with a warning, if the file is damaged."""
        try:
            return dict(json.loads(self.history_path.read_bytes()))
        except (OSError, ValueError, TypeError) as error:
            warnings.warn(f"{self.history_path}: no losses are shown: {error}", stacklevel=2)
            return {}

    def remember(self, splits: Splits) -> None:
        """Note digests of the rows, or refuse rows that are not those that were noted.

        Raises:
            ValueError: Naming the first column that has changed since the run began.
        """
        rows = {name: getattr(splits, name) for name in ("train", "validation", "test")}
        if not self.data_path.is_file():
            noted: dict[str, Any] = {name: _digests(part) for name, part in rows.items()}
            if splits.left_out:
                noted["rows left out"] = dict(splits.left_out)
            if splits.prepared:
                noted[PREPARED] = splits.prepared
            write_json(self.data_path, noted)
        for name, part in rows.items():
            self.check_rows(name, part)

    def check_rows(self, name: str, rows: Rows) -> None:
        """Refuse rows that are not those of the run: `train`, `validation` or `test`.

        Raises:
            ValueError: Naming the first column that has changed since the run began.
        """
        if not self.data_path.is_file():
            return  # rows that a world draws, or a run of version 0.1.0
        noted: dict[str, str] = {}
        with suppress(OSError, ValueError, KeyError, TypeError):
            noted = dict(json.loads(self.data_path.read_bytes())[name])
        current = _digests(rows)
        if current.keys() - noted.keys():
            warnings.warn(
                f"{self.data_path} is damaged: it cannot be checked that the {name} rows are those "
                "of the run",
                stacklevel=2,
            )
        for column, now in current.items():
            if noted.get(column, now) != now:
                raise ValueError(
                    f"{column}: the data of {self.path} have changed since it was begun: this "
                    f"column of the {name} rows is another; restore the data, or run the study "
                    "again with --overwrite or another --out"
                )


def _digests(rows: Rows) -> dict[str, str]:
    return {name: digest({name: value}) for name, value in rows.items()}
