"""A whole trial of the platform against the same model in a bare PyTorch loop: what does everything beside cost?
Both do the same steps and the same evaluations, in turns; the ratio is what counts. No torch here.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tuner.bench.lab import Case, prepare, run_study, small_study, workplace
from tuner.spec.errors import SpecError, TunerError
from tuner.spec.records import CorpusInfo
from tuner.spec.study import StudySpec
from tuner.tracking.store import DEFAULT_URI, patience
from tuner.tracking.tracker import StudyTracker

MILESTONES = 10
VAL_TOKENS = 16_384


@dataclass(frozen=True)
class Side:
    """Seconds of one side: ``wall`` from the first step to the end, ``training`` the same without evaluation."""

    wall: float
    training: float


def compare_trial(case: Case, pairs: int, optim: str, threads: int) -> None:
    """Print seconds of both sides and their ratios for each pair, and the medians; a first pair only warms up.

    The platform's side is a driver, a worker of ``threads``, milestones, checkpoints, an Optuna store and MLflow in
    SQLite files; its wall seconds run from the moment data and model stand to the trial's outcome. On neither side
    do starting a process, imports, preparing the text and building the model count.

    Raises:
        TunerError: one side failed.
        SpecError: the bare loop does not know ``optim``.
    """
    if optim not in ("adamw", "muon"):
        raise SpecError(f"--optim: expected adamw or muon, which the bare loop knows, got {optim!r}.")
    with workplace():
        spec = small_study(case, milestones=MILESTONES, val_tokens=VAL_TOKENS, optim=optim)
        corpus = prepare(spec)
        print(
            f"{case}, vocabulary {corpus.vocab}, {optim}: {case.steps} steps and {MILESTONES} evaluations of "
            f"{VAL_TOKENS:,} tokens, threads {threads}",
            flush=True,
        )
        walls, trainings = [], []
        for pair in range(pairs + 1):
            if pair % 2:
                platform, bare = _platform(spec, pair, threads), _bare(spec, corpus, case.steps, threads)
            else:
                bare, platform = _bare(spec, corpus, case.steps, threads), _platform(spec, pair, threads)
            if not pair:
                continue
            walls.append(platform.wall / bare.wall)
            trainings.append(platform.training / bare.training)
            print(
                f"pair {pair}: platform {platform.wall:.2f} s, bare loop {bare.wall:.2f} s, ratio {walls[-1]:.3f}; "
                f"training alone {platform.training:.2f} s, {bare.training:.2f} s, ratio {trainings[-1]:.3f}",
                flush=True,
            )
    print(
        f"median of {pairs}: the platform takes {statistics.median(walls):.3f} x the bare loop's time "
        f"({min(walls):.3f} to {max(walls):.3f}); training alone {statistics.median(trainings):.3f} x "
        f"({min(trainings):.3f} to {max(trainings):.3f})"
    )


def _platform(spec: StudySpec, pair: int, threads: int) -> Side:
    folder = Path("runs") / f"bench{pair}"
    tracker = StudyTracker(folder, spec.name, DEFAULT_URI, lambda sentence: None)
    try:
        run = run_study(spec, 1, threads, tracker, folder, f"sqlite:///bench{pair}.db")
    finally:
        left = tracker.close(patience(DEFAULT_URI, hurried=False))
    if left:
        raise TunerError(f"bench: {left} records of the trial did not reach MLflow, so its time is not the whole.")
    return Side(run.wall, run.training)


def _bare(spec: StudySpec, corpus: CorpusInfo, steps: int, threads: int) -> Side:
    job = {
        "trial": spec.trial.as_data(),
        "corpus": corpus.folder,
        "vocab": corpus.vocab,
        "steps": steps,
        "evaluations": MILESTONES,
        "threads": threads,
    }
    done = subprocess.run([sys.executable, "-m", "tuner.bench.bare", json.dumps(job)], capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        raise TunerError(f"bench: the bare loop ended with exit code {done.returncode}: {lines[-1]}")
    told = json.loads(done.stdout)
    return Side(told["seconds"], told["training"])
