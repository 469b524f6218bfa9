"""A sound candidate to be spoilt one fact at a time; and a real store, registry and packages to promote with."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tuner.promotion.candidate import Candidate
from tuner.promotion.ceremony import Ceremony, Proposal
from tuner.promotion.gates import Answer, Case, Champion, judge
from tuner.promotion.ledger import Ledger
from tuner.promotion.package.folder import as_mlflow, describe
from tuner.promotion.registry import Registry
from tuner.spec.parts.promotion import PromotionSettings
from tuner.spec.records import Evidence
from tuner.spec.trial import TrialSpec
from tuner.tracking.store import connect
from tuner.train.use.examine import prove

SHA = "ab" * 32

CANDIDATE = Candidate(
    model="base",
    study="base",
    trial=3,
    state="complete",
    run="f00d",
    checkpoint="runs/base/3/checkpoints/step-00000010",
    sha256=SHA,
    metric="val_loss",
    value=1.5,
    values={"1": 1.5},
    looked_at=24,
    noise=None,
    repeats=0,
    budget="1M tokens",
    spec=TrialSpec().as_data(),
    point={"optim.lr": 1e-3},
    facts={"data_fingerprint": "d1", "tokenizer_fingerprint": "t1", "vocab": 65},
)

EVIDENCE = Evidence(
    sha256=SHA,
    recorded=1.5,
    val_loss=1.50001,
    test_loss=1.52,
    test_error=0.01,
    test_windows=500,
    champion_loss=1.62,
    gain=0.1,
    gain_error=0.004,
    parameters=100_000,
    bytes=400_000,
    latency_ms=0.5,
    samples=("to be",),
)

CHAMPION = Champion(7, replace(CANDIDATE, trial=1, sha256="cd" * 32, value=1.6, values={"1": 1.6}))


def answers(
    candidate: dict[str, Any] | None = None,
    evidence: dict[str, Any] | None = None,
    champion: Champion | None = CHAMPION,
    **settings: Any,
) -> dict[str, Answer]:
    """What each gate says of the sound case with the given facts changed."""
    case = Case(
        replace(CANDIDATE, **(candidate or {})),
        replace(EVIDENCE, **(evidence or {})),
        champion,
        PromotionSettings(**settings),
    )
    return {answer.gate: answer for answer in judge(case)}


def model_folder(folder: Path, seed: int) -> str:
    """A real, untrained model with a byte tokenizer as a plain folder; returns the sha256 of its weights."""
    from safetensors.torch import save_file

    from tuner.train.model.gpt import GPT
    from tuner.train.text.tokenizer import ByteTokenizer

    torch.manual_seed(seed)
    spec = TrialSpec.model_validate({"model": {"depth": 1, "width": 16}, "data": {"context": 8}})
    folder.mkdir(parents=True)
    save_file(GPT(spec.model, 257, 8).state_dict(), folder / "model.safetensors")
    facts = {"vocab": 257, "precision": "fp32", "data_fingerprint": "d1"}
    facts["tokenizer_fingerprint"] = ByteTokenizer().fingerprint
    (folder / "spec.json").write_text(json.dumps({"trial": spec.as_data(), "facts": facts}))
    ByteTokenizer().save(folder)
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


@dataclass(frozen=True)
class Bench:
    """A store, an MLflow with one run, and packages ready to be promoted, in one folder."""

    folder: Path
    run: str

    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder}/tuner.db"

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.folder}/mlflow.db"

    def ceremony(self, step: Callable[[str], None] = lambda label: None) -> Ceremony:
        return Ceremony(Ledger(self.url), Registry(self.uri), prove, step)

    def package(self, name: str, seed: int, before: int | None) -> tuple[Proposal, Path]:
        """A proposal and its MLflow package, made once."""
        plain, around = self.folder / name / "model", self.folder / name / "mlflow"
        if not around.exists():
            sha256 = model_folder(plain, seed)
        else:
            sha256 = hashlib.sha256((plain / "model.safetensors").read_bytes()).hexdigest()
        one = replace(CANDIDATE, sha256=sha256, run=self.run, trial=seed)
        proposal = Proposal(
            "base", "promote", f"{name}@test", f"because of {name}", one.record, before, (),
            tuple(answers().values()), one.as_data(),
        )  # fmt: skip
        if not around.exists():
            describe(plain, "# card\n", ["to be"], {"candidate": one.as_data()})
            as_mlflow(plain, around)
        return proposal, around


def bench(folder: Path) -> Bench:
    folder.mkdir(parents=True, exist_ok=True)
    sqlite3.connect(folder / "tuner.db").execute("CREATE TABLE other (x)").close()
    client = connect(f"sqlite:///{folder}/mlflow.db")
    experiment = client.create_experiment("base", artifact_location=(folder / "artifacts").as_uri())
    return Bench(folder, client.create_run(experiment).info.run_id)
