"""A place in between for machines that share no folder: a trial's checkpoints, and the texts, in any fsspec location.
Whole files are copied here; whether a checkpoint is sound, and what a text means, is known in train/.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec

from tuner.run.folder import CHECKPOINTS
from tuner.spec.disk import sha256
from tuner.spec.errors import TunerError
from tuner.spec.trial import TrialSpec

MANIFEST, ERROR, TEXTS = "manifest.json", "error.txt", "texts.json"


class Depot:
    """``url`` names the location (``s3://bucket/tuner``, ``gs://...``, ``file:///mnt/tuner``), ``study`` whose it is.

    A checkpoint's manifest is copied last and deleted first: what was copied in part is none, in either place.

    Raises:
        TunerError: fsspec does not know such a location, or lacks the package for it.
    """

    def __init__(self, url: str, study: str) -> None:
        try:
            self._files, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise TunerError(f"study.depot {url!r}: {error}; expected a location such as s3://bucket/tuner.") from None
        self._root = f"{root.rstrip('/')}/{study}"

    def push(self, trial: Path) -> None:
        """Make the depot's checkpoints of a trial those in its folder."""
        here = {step.name: step for step in (trial / CHECKPOINTS).glob("step-*")}
        there = self._steps(trial.name)
        for name, step in here.items():
            manifest = _manifest(step)
            if manifest is None or there.get(name) == manifest:
                continue
            place = f"{self._place(trial.name)}/{name}"
            self._forget(place)
            for path in sorted(step.iterdir(), key=lambda path: path.name == MANIFEST):
                self._put(path, f"{place}/{path.name}")
        for name in there.keys() - here.keys():
            self._forget(f"{self._place(trial.name)}/{name}")
        if (trial / ERROR).exists():
            self._put(trial / ERROR, f"{self._place(trial.name)}/{ERROR}")

    def pull(self, trial: Path) -> None:
        """Add the depot's checkpoints of a trial to those in its folder."""
        root = trial / CHECKPOINTS
        for name, manifest in self._steps(trial.name).items():
            final, temporary = root / name, root / f".tmp-{name}"
            if _manifest(final) == manifest:
                continue
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            for path in self._names(f"{self._place(trial.name)}/{name}"):
                self._files.get_file(path, str(temporary / Path(path).name))
            shutil.rmtree(final, ignore_errors=True)
            temporary.rename(final)
        if self._files.exists(f"{self._place(trial.name)}/{ERROR}"):
            trial.mkdir(parents=True, exist_ok=True)
            self._files.get_file(f"{self._place(trial.name)}/{ERROR}", str(trial / ERROR))

    def fetch(self, trial: Path) -> None:
        """Make the checkpoints in a trial's folder those in the depot, which forgets it: the trial has ended."""
        self.pull(trial)
        there = self._steps(trial.name)
        for step in (trial / CHECKPOINTS).glob("step-*"):
            if step.name not in there:
                shutil.rmtree(step)
        for name in there:
            self._forget(f"{self._place(trial.name)}/{name}")
        if self._files.exists(self._place(trial.name)):
            self._files.rm(self._place(trial.name), recursive=True)

    def lend(self, trial: TrialSpec) -> None:
        """Have the text of a trial, its tokenizer and the weights it begins with, where they are named by a path below
        this folder.
        """
        known = self._lent()
        fresh = {str(path): sha256(path) for path in _below(trial)}
        for name, digest in fresh.items():
            if not self._files.exists(f"{self._root}/texts/{digest}"):
                self._put(Path(name), f"{self._root}/texts/{digest}")
        if fresh.items() - known.items():
            self._files.pipe_file(f"{self._root}/{TEXTS}", json.dumps(known | fresh).encode())

    def borrow(self) -> None:
        """Put the texts below this folder, under the names they were lent by."""
        for name, digest in self._lent().items():
            path = Path(name)
            if not path.exists() or sha256(path) != digest:
                path.parent.mkdir(parents=True, exist_ok=True)
                draft = path.with_name(f".{path.name}.{digest[:8]}")
                self._files.get_file(f"{self._root}/texts/{digest}", str(draft))
                draft.replace(path)

    def _lent(self) -> dict[str, str]:
        if not self._files.exists(f"{self._root}/{TEXTS}"):
            return {}
        return {str(name): str(digest) for name, digest in json.loads(self._read(f"{self._root}/{TEXTS}")).items()}

    def _place(self, trial: str) -> str:
        return f"{self._root}/{trial}/{CHECKPOINTS}"

    def _steps(self, trial: str) -> dict[str, str]:
        """A trial's checkpoints in the depot: name -> manifest."""
        manifests = self._files.glob(f"{self._place(trial)}/step-*/{MANIFEST}")
        return {Path(path).parent.name: self._read(path) for path in manifests}

    def _forget(self, place: str) -> None:
        if self._files.exists(f"{place}/{MANIFEST}"):
            self._files.rm_file(f"{place}/{MANIFEST}")
        if self._files.exists(place):
            self._files.rm(place, recursive=True)

    def _put(self, file: Path, place: str) -> None:
        self._files.makedirs(place.rpartition("/")[0], exist_ok=True)
        self._files.put_file(str(file), place)

    def _names(self, place: str) -> list[str]:
        return [str(path) for path in self._files.ls(place, detail=False)]

    def _read(self, path: str) -> str:
        found: Any = self._files.cat_file(path)
        return bytes(found).decode()


def _manifest(step: Path) -> str | None:
    try:
        return (step / MANIFEST).read_text()
    except OSError:
        return None


def _below(trial: TrialSpec) -> Iterator[Path]:
    """The files that a trial names by a path that does not begin at the root."""
    weights = None if trial.init.folder is None else f"{trial.init.folder}/*"
    mixed = [one.path for one in trial.data.mix.values()]
    for named in (trial.data.path, trial.data.tokenizer.path, weights, *mixed):
        if named is not None and not Path(named).is_absolute():
            yield from (path for path in sorted(Path().glob(named)) if path.is_file())
