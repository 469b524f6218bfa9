"""A trained model taken from whatever folder holds it: loaded for use, or kept as what new trials begin with.
Folders are ours, checkpoints of trials, or GPT-2's of Hugging Face; who names which is not known here.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

from filelock import FileLock

from tuner.spec.disk import force, note, sha256
from tuner.spec.errors import CheckpointError, TunerError
from tuner.spec.records import Ancestor
from tuner.train.checkpoint import MANIFEST, SPEC, WEIGHTS
from tuner.train.text.tokenizer import saved_as
from tuner.train.use.gpt2 import is_gpt2, read_gpt2
from tuner.train.use.trained import Trained, load_checkpoint, load_model


def load_any(folder: Path, corpora: Path) -> Trained:
    """The model in a plain model folder, in a checkpoint whose corpus is in ``corpora``, or in a GPT-2's folder.

    Raises:
        CheckpointError: it is none of these, or damaged.
        DataError: its tokenizer is gone or damaged.
    """
    if is_gpt2(folder):
        with tempfile.TemporaryDirectory(prefix="tuner-gpt2-") as place:
            read_gpt2(folder, Path(place))
            return load_model(Path(place))
    plain = any(folder.glob("tokenizer*.json"))
    return load_model(folder) if plain else load_checkpoint(folder, corpora)


def write_plain(folder: Path, corpora: Path, into: Path) -> None:
    """Write what ``load_any`` loads as a plain model folder.

    Raises:
        CheckpointError, DataError: as ``load_any``.
    """
    if is_gpt2(folder):
        read_gpt2(folder, into)
        return
    trained = load_any(folder, corpora)
    into.mkdir(parents=True, exist_ok=True)
    for name in (WEIGHTS, SPEC):
        shutil.copyfile(folder / name, into / name)
    trained.tokenizer.save(into)


def keep(folder: Path, corpora: Path, root: Path) -> Ancestor:
    """Copy the model in ``folder`` to where its weights' sha256 says, below ``root``, whole or not at all.

    Raises:
        CheckpointError, DataError: as ``load_any``.
        OSError: the disk refuses.
    """
    if folder.parent == root:
        return _described(folder, load_model(folder))
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / "keep.lock"):
        for left in root.glob(".*.keeping"):  # its process died
            shutil.rmtree(left, ignore_errors=True)
        temporary = root / f".{os.getpid()}.keeping"
        try:
            write_plain(folder, corpora, temporary)
            files = {path.name: sha256(path) for path in sorted(temporary.iterdir())}
            note(temporary / MANIFEST, json.dumps({"format": 1, "files": files}, indent=1))
            trained = load_model(temporary)
            for path in (*temporary.iterdir(), temporary):
                force(path)
            final = root / files[WEIGHTS][:16]
            if _sound(final):  # it may be read at this moment
                _require_same(final, temporary, folder)
            else:
                shutil.rmtree(final, ignore_errors=True)
                temporary.rename(final)
                force(root)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return _described(final, trained)


def _require_same(kept: Path, fresh: Path, folder: Path) -> None:
    """Equal weights may come with a corrected tokenizer, or another description of what they are.

    Raises:
        CheckpointError: they do.
    """
    names = sorted({path.name for place in (kept, fresh) for path in place.glob("tokenizer*.json")})
    if differ := [name for name in names if not _equal(kept / name, fresh / name)]:
        what = f"another {differ[0]}"
    elif load_model(kept).spec.model != load_model(fresh).spec.model:
        what = "another description of the model"
    else:
        return
    raise CheckpointError(
        f"{folder}: its weights are kept in {kept}, for studies that began with them, with {what}; move that folder "
        "away to begin with this one."
    )


def _equal(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.read_bytes() == other.read_bytes()


def _sound(folder: Path) -> bool:
    try:
        load_model(folder)
    except TunerError:
        return False
    return True


def _described(folder: Path, trained: Trained) -> Ancestor:
    model = trained.spec.model.model_dump()
    context, classes = trained.spec.data.context, trained.classes
    return Ancestor(str(folder), sha256(folder / WEIGHTS), model, context, saved_as(folder), classes)
