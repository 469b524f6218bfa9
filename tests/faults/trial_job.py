"""One real trial without a driver: what its worker leaves on disk."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tuner.spec.records import Measurement, Preparing, Started, Verdict
from tuner.spec.trial import TrialSpec
from tuner.train import checkpoint
from tuner.train.fit import Place, fit

MILESTONES = 3


class Deaf:
    """A link that hears everything and never objects."""

    def preparing(self, work: Preparing) -> None: ...

    def started(self, started: Started) -> None: ...

    def report(self, measurement: Measurement) -> Verdict:
        return Verdict.CONTINUE

    def interrupted(self) -> bool:
        return False


def trial(folder: str, text: str) -> None:
    """Train a tiny trial in ``folder``, or go on with it; its outcome is in ``outcome.json``."""
    os.chdir(folder)
    data: dict[str, Any] = {"source": "text", "path": text, "tokenizer": {"kind": "char"}, "context": 16}
    spec = TrialSpec.model_validate(
        {
            "data": data | {"val_tokens": 512},
            "model": {"depth": 1, "width": 16, "dropout": 0.2},
            "batch": 8,
            "budget": "2304 tokens",
            "precision": "fp32",
            "compile": False,
        }
    )
    ended = fit(spec, MILESTONES, Place(Path("trial"), Path("corpora"), threads=1), Deaf())
    Path("outcome.json").write_text(json.dumps([ended.state, ended.checkpoint, ended.sha256]))


def left(folder: Path) -> tuple[Any, ...]:
    """The outcome, and of every checkpoint that is there what its manifest says, each of them whole."""
    found = checkpoint.sound(folder / "trial")
    on_disk = sorted(path.name for path in checkpoint.checkpoints(folder / "trial").iterdir())
    assert on_disk == sorted(saved.folder.name for saved in found)
    states = [(saved.folder.name, saved.sha256, saved.reached) for saved in found]
    return json.loads((folder / "outcome.json").read_text()), states
