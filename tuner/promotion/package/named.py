"""The model that a name means, as a folder: the folder itself, a trial's checkpoint, or a registered model's package.
Finding only; what such a folder holds is read in train/.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tuner.promotion.candidate import choose
from tuner.promotion.registry import Registry
from tuner.search.history import read_study
from tuner.search.store.storage import open_storage
from tuner.spec.errors import CheckpointError

_SCHEME = "models:/"
_TOLD = ("spec.json", "config.json")  # what says of a folder that there is a model in it


@contextmanager
def located(store: str, registry: Registry, name: str) -> Generator[Path]:
    """The folder of the model called ``name``: a folder, STUDY/TRIAL, or a registered model (``base``,
    ``base@challenger``, ``base:3``, or as MLflow writes them: ``models:/base@champion``, ``models:/base/3``). A
    registered model is there only as long as the context.

    Raises:
        TunerError: there is no such thing.
    """
    folder = Path(name).expanduser() if name.startswith("~/") else Path(name)
    if any((folder / told).is_file() for told in _TOLD):
        yield folder
    elif not name.startswith(_SCHEME) and (match := re.fullmatch(r"(.+)/(\d+)", name)):
        yield _checkpoint(store, match[1], int(match[2]))
    else:
        said = re.sub(r"/(\d+)$", r":\1", name.removeprefix(_SCHEME))
        model, version = registry.find(said)
        with tempfile.TemporaryDirectory(prefix="tuner-model-") as place:
            yield registry.fetch(model, version, Path(place))


def _checkpoint(store: str, study: str, number: int) -> Path:
    trial = choose(read_study(open_storage(store), study), number)
    folder = trial.facts.get("checkpoint")
    if not isinstance(folder, str) or not Path(folder).is_dir():
        raise CheckpointError(
            f"trial {number} of '{study}' has no checkpoint on this disk; study.keep says how many of the best keep "
            "theirs, and paths are from the folder that the study ran in."
        )
    return Path(folder)
