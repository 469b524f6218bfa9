"""Checkpoints on disk: atomic, checksummed, pickle-free. ``<trial>/checkpoints/step-00000488/``.
Written in a temporary folder beside the others, fsynced, manifest last, renamed; no manifest, no checkpoint.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tuner.spec.disk import force, note, seal, sha256, unseal
from tuner.spec.errors import CheckpointError
from tuner.spec.records import Measurement, Spent
from tuner.train.model.slim.bits import unpack

WEIGHTS, STATE, SPEC, MANIFEST = "model.safetensors", "state.pt", "spec.json", "manifest.json"
_FORMER = "-former"
_UNSEALED = {"format", "spent", "reached", "last", "files"}
"""A manifest from before there were seals: what it says is taken as it stands."""


@dataclass(frozen=True)
class Saved:
    """A committed checkpoint: its folder, what was spent, milestones reached, the last milestone's measurement.

    ``sha256`` is the weights' own; ``files`` maps each file to its sha256.
    """

    folder: Path
    spent: Spent
    reached: int
    last: Measurement | None
    sha256: str
    files: Mapping[str, str]

    def weights(self) -> dict[str, Tensor]:
        """The model's state dict, on the CPU."""
        return read_weights(self.folder / WEIGHTS)

    def state(self) -> dict[str, Any]:
        """Optimizer, random-number and loss state; loaded without pickle's code execution."""
        loaded = torch.load(self.folder / STATE, map_location="cpu", weights_only=True)
        return dict(loaded)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The state dict in a file of weights, on the CPU; what is packed in fewer bits is in fp32 again.

    Raises:
        OSError, SafetensorError: it cannot be read.
    """
    return unpack(load_file(path))


def checkpoints(trial: Path) -> Path:
    return trial / "checkpoints"


def save(
    trial: Path,
    weights: Mapping[str, Tensor],
    state: Mapping[str, Any],
    spec: Mapping[str, Any],
    spent: Spent,
    reached: int,
    last: Measurement | None,
) -> Saved:
    """Commit a checkpoint of ``trial`` (its folder) at ``spent.steps``; a crash leaves the old state or this one.

    Raises:
        OSError: the disk is full or read-only; the temporary folder is removed.
    """
    root = checkpoints(trial)
    root.mkdir(parents=True, exist_ok=True)
    final, temporary = root / f"step-{spent.steps:08d}", root / f".tmp-{spent.steps:08d}"
    former = root / f"{temporary.name}{_FORMER}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
        with written(temporary / WEIGHTS):
            save_file(plain, temporary / WEIGHTS)
        with written(temporary / STATE), (temporary / STATE).open("wb") as stream:  # torch's own writer hides the cause
            torch.save(dict(state), stream)
        note(temporary / SPEC, json.dumps(spec, indent=1, sort_keys=True))
        files = {name: sha256(temporary / name) for name in (WEIGHTS, STATE, SPEC)}
        manifest = {
            "format": 1,
            "spent": asdict(spent),
            "reached": reached,
            "last": None if last is None else asdict(last),
            "files": files,
        }
        for name in files:
            force(temporary / name)
        note(temporary / MANIFEST, json.dumps(seal(manifest), indent=1))
        force(temporary / MANIFEST)
        force(temporary)
        if final.exists():  # the same step again: a milestone after an interruption at its step
            shutil.rmtree(former, ignore_errors=True)
            final.rename(former)  # at once: half a deletion must not look like a checkpoint
        temporary.rename(final)
        shutil.rmtree(former, ignore_errors=True)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    force(root)
    return Saved(final, spent, reached, last, files[WEIGHTS], files)


@contextlib.contextmanager
def written(path: Path) -> Iterator[None]:
    """Raise what the system refused as Python does, with the file's name.

    Safetensors has a sentence for it, with Rust's numbers; torch closes its archive, and that is what fails then.

    Raises:
        OSError: the disk is full, read-only or broken.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        refused: BaseException | None = error
        while not (refused is None or isinstance(refused, OSError)):
            refused = refused.__context__
        told = re.search(r"\(os error (\d+)\)", str(error))
        code = refused.errno if refused is not None else int(told[1]) if told is not None else None
        if code is None:
            raise
        raise OSError(code, os.strerror(code), str(path)) from error


def sound(trial: Path, damaged: Callable[[str], None] = lambda sentence: None) -> list[Saved]:
    """The checkpoints whose every file matches its checksum, newest first.

    Leftovers of a crash in mid-save are removed. ``damaged`` hears a sentence for each checkpoint passed over.
    """
    root = checkpoints(trial)
    for former in root.glob(f".tmp-*{_FORMER}"):  # died before the one that replaces it had its name
        final = root / former.name.removesuffix(_FORMER).replace(".tmp-", "step-")
        if not final.exists():
            former.rename(final)
    for leftover in root.glob(".tmp-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    found = []
    for folder in sorted(root.glob("step-*"), reverse=True):
        try:
            found.append(verify(folder))
        except CheckpointError as error:
            damaged(str(error))
    return found


def verify(folder: Path) -> Saved:
    """Read a checkpoint's manifest and hold every file against its checksum.

    Raises:
        CheckpointError: with a sentence naming the file that is missing or differs.
    """
    try:
        manifest = unseal(json.loads((folder / MANIFEST).read_text()), _UNSEALED)
        spent, last, files = Spent(**manifest["spent"]), manifest["last"], dict(manifest["files"])
        measurement = None if last is None else _measurement(last)
        reached = int(manifest["reached"])
        weights_sha256 = str(files[WEIGHTS])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder}: no checkpoint, its manifest is missing or damaged ({error}).") from error
    verify_files(folder, files)
    return Saved(folder, spent, reached, measurement, weights_sha256, files)


def verify_files(folder: Path, files: Mapping[str, str]) -> None:
    """Hold files by name against their sha256.

    Raises:
        CheckpointError: with a sentence naming the file that is missing or differs.
    """
    for name, expected in files.items():
        try:
            got = sha256(folder / name)
        except (OSError, ValueError) as error:  # a name may hold a null byte
            reason = getattr(error, "strerror", None) or error
            raise CheckpointError(f"{folder / name}: cannot be read ({reason}).") from error
        if got != expected:
            raise CheckpointError(
                f"{folder / name}: damaged; its sha256 is {got[:12]}, the manifest says {str(expected)[:12]}."
            )


def retain(trial: Path, keep: Collection[Path]) -> None:
    """Delete the trial's checkpoints but those in ``keep``."""
    for folder in checkpoints(trial).glob("step-*"):
        if folder not in keep:
            (folder / MANIFEST).unlink(missing_ok=True)  # first: half a deletion must not look like a checkpoint
            shutil.rmtree(folder, ignore_errors=True)


def load(saved: Saved) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and state of a verified checkpoint.

    Raises:
        CheckpointError: the files match their checksums but do not load.
    """
    try:
        return saved.weights(), saved.state()
    except Exception as error:  # a file may hold anything and be what its checksum says: what is raised depends on it
        raise CheckpointError(f"{saved.folder}: does not load ({error}).") from error


def record(saved: Saved) -> dict[str, Any]:
    """What ``save`` was given as ``spec``.

    Raises:
        CheckpointError: the file matches its checksum but is none.
    """
    try:
        found = json.loads((saved.folder / SPEC).read_text())
        return {"trial": found["trial"], "facts": dict(found["facts"])}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise CheckpointError(f"{saved.folder / SPEC}: expected a trial's spec and facts ({error}).") from error


def _measurement(data: dict[str, Any]) -> Measurement:
    """As asdict wrote it; manifests from before there were samples or confusion have none."""
    told = {"samples": tuple(data.get("samples", ())), "confusion": tuple(map(tuple, data.get("confusion", ())))}
    return Measurement(**{**data, "spent": Spent(**data["spent"]), **told})
