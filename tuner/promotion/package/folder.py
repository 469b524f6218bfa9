"""The package: a checkpoint, its tokenizer, its spec and its card in one folder, and that folder as an MLflow model.
It copies, writes and checks files; registering them is registry.py's business.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

import tuner
from tuner.spec.disk import sha256
from tuner.spec.errors import CheckpointError, PromotionError
from tuner.spec.parts.sampling import Sampling
from tuner.tracking.store import quiet

MODEL = "model"
"""The artifact within an MLflow package: a plain folder that ``tuner generate DIR`` reads as well."""

WEIGHTS, SPEC, PROMOTION, CARD, SAMPLES, MANIFEST = (
    "model.safetensors", "spec.json", "promotion.json", "README.md", "samples.txt", "manifest.json",
)  # fmt: skip

REQUIREMENTS = ["torch>=2.6", "safetensors>=0.5", "tokenizers>=0.21", "numpy>=2.0", "pydantic>=2.10", "pandas"]
"""What loading a package needs beside MLflow; the model's own code travels with it."""

_CODE = ("__init__.py", "spec", "train")


@contextmanager
def _writing(place: Path) -> Iterator[None]:
    """Say in a sentence that a package could not be written: a full disk, most often."""
    try:
        yield
    except OSError as error:
        words = " ".join(str(error.strerror or error).split())[:200]
        raise PromotionError(f"{place.parent}: the package could not be written ({words}).") from error


def gather(checkpoint: Path, tokenizer: Path, into: Path) -> None:
    """Make the plain model folder ``into``: weights and spec of a checkpoint, the tokenizer saved in another folder."""
    with _writing(into):
        into.mkdir(parents=True)
        for name in (WEIGHTS, SPEC):
            shutil.copyfile(checkpoint / name, into / name)
        for path in tokenizer.glob("tokenizer*.json"):
            shutil.copyfile(path, into / path.name)


def describe(folder: Path, card: str, samples: Iterable[str], promotion: Mapping[str, Any]) -> None:
    """Add what is to be read beside the model, and last the checksums of every file."""
    with _writing(folder):
        (folder / CARD).write_text(card, encoding="utf-8")
        (folder / SAMPLES).write_text("\n\n----\n\n".join(samples), encoding="utf-8")
        (folder / PROMOTION).write_text(json.dumps(promotion, indent=1, sort_keys=True), encoding="utf-8")
        (folder / MANIFEST).unlink(missing_ok=True)
        files = {path.name: sha256(path) for path in sorted(folder.iterdir())}
        (folder / MANIFEST).write_text(json.dumps({"format": 1, "files": files}, indent=1), encoding="utf-8")


def verify(folder: Path, weights: str | None = None) -> None:
    """Hold every file of a plain model folder against its checksum, and the weights against ``weights`` (sha256).

    Raises:
        CheckpointError: a file is missing or differs.
    """
    try:
        files = dict(json.loads((folder / MANIFEST).read_bytes())["files"])
        for name, expected in files.items():
            if sha256(folder / name) != expected:
                raise CheckpointError(f"{folder / name}: damaged; its sha256 is not the manifest's.")
        if weights not in (None, files[WEIGHTS]):
            raise CheckpointError(
                f"{folder / WEIGHTS}: other weights; sha256 {files[WEIGHTS][:12]}, {str(weights)[:12]} was promoted."
            )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder}: no packaged model, or a damaged one ({error}).") from error


def as_mlflow(folder: Path, into: Path) -> None:
    """Write the MLflow package ``into`` around a plain model folder: a pyfunc from code, nothing pickled."""
    quiet()
    with _writing(into), warnings.catch_warnings(), tempfile.TemporaryDirectory(prefix="tuner-code-") as code:
        warnings.simplefilter("ignore")  # MLflow's advice on type hints and examples, and its own deprecations
        import mlflow
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

        types = {"max_tokens": "long", "temperature": "double", "top_k": "long", "top_p": "double", "seed": "long"}
        defaults = Sampling().model_dump()
        mlflow.pyfunc.save_model(
            str(into),
            python_model=str(Path(__file__).with_name("served.py")),
            artifacts={MODEL: str(folder)},
            code_paths=[str(_code(Path(code)))],
            pip_requirements=REQUIREMENTS,
            signature=ModelSignature(
                inputs=Schema([ColSpec("string", name, required=False) for name in ("prompt", "text")]),
                params=ParamSchema([ParamSpec(name, kind, defaults[name]) for name, kind in types.items()]),
            ),
        )
        _without_paths(into / "MLmodel")


def _without_paths(description: Path) -> None:
    """Take the folders of this machine out of MLflow's description: a package travels."""
    told = yaml.safe_load(description.read_text(encoding="utf-8"))
    flavor = told["flavors"]["python_function"]
    flavor["model_code_path"] = Path(flavor["model_code_path"]).name
    for artifact in flavor["artifacts"].values():
        artifact["uri"] = artifact["path"]
    description.write_text(yaml.safe_dump(told, sort_keys=False), encoding="utf-8")


def _code(folder: Path) -> Path:
    """The part of this platform that a model runs on, so that a package outlives changes of the rest."""
    source, target = Path(tuner.__file__).parent, folder / "tuner"
    target.mkdir()
    for name in _CODE:
        path = source / name
        if path.is_dir():
            shutil.copytree(path, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(path, target / name)
    return target
