"""The same minutes on the same machine and text: Optuna's TPE with its median pruner, then ours, on real trials.
Both on the platform's own trainer and driver, so that only the search differs; how far each came is read by the clock.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tuner.analysis.words import setting
from tuner.bench.lab import TEXT, tokenised, workplace
from tuner.bench.search.machine import real_driver
from tuner.bench.search.race import RIVALS
from tuner.run.watcher import Silent
from tuner.search.asktell import Search
from tuner.spec.errors import TunerError
from tuner.spec.load import parse
from tuner.spec.records import Outcome

RIVAL = "Optuna TPE + median"
NEEDED = 0.6
"""Share of the minutes after which ours is to have what the rival has at their end: 15 of 25."""

YAML = f"""
name: race
trial:
  data: {{source: text, path: {TEXT}, tokenizer: {{kind: char}}, context: 64, split: [0.9, 0.1, 0.0]}}
  model: {{depth: 4, width: 128}}
  batch: 12
  budget: 1536k tokens
space:
  optim.lr:     {{float: [1e-4, 3e-2], log: true}}
  optim.warmup: {{float: [0.0, 0.2]}}
  batch:        {{int: [4, 48]}}
  model.depth:  {{int: [2, 8]}}
  model.width:  {{int: [64, 256], step: 32}}
study: {{trials: 200, milestones: 8, workers: 2}}
"""


class Step(NamedTuple):
    """A trial that ended complete, the best so far: when (seconds of the study), its number, its loss."""

    seconds: float
    number: int
    loss: float


class _Clocked(Silent):
    def __init__(self, name: str) -> None:
        self.name = name
        self.steps: list[Step] = []
        self.ended_trials = 0
        self.search: Search | None = None

    def ended(self, number: int, outcome: Outcome, value: float | None) -> None:
        self.ended_trials += 1
        assert self.search is not None
        if value is not None and (not self.steps or value < self.steps[-1].loss):
            self.steps.append(Step(self.search.seconds, number, value))
            point = self.search.record().find(number).point
            said = ", ".join(f"{path.rpartition('.')[2]} {setting(found)}" for path, found in point.items())
            print(f"  {self.name} {self.search.seconds / 60:5.1f} min: {value:.4f}, trial {number}: {said}", flush=True)


def race_for_real(text: Path, minutes: float, seeds: Sequence[int]) -> None:
    """Print every new best of both with its time, and when ours had what the rival has at the end.

    Raises:
        TunerError: the text cannot be read, or the minutes do not suffice for a single trial.
    """
    source = text.resolve()
    for seed in seeds:
        found = {name: _study(name, source, minutes, seed) for name in ("ours", RIVAL)}
        ours, rival = found["ours"], found[RIVAL]
        if not (ours and rival):
            raise TunerError(f"bench: in {minutes:g} min no trial of one of the two came to its end; give more.")
        target = rival[-1].loss
        when = next((step.seconds / 60 for step in ours if step.loss <= target), None)
        print(
            f"seed {seed}: after {minutes:g} min {RIVAL} has {target:.4f}, ours {ours[-1].loss:.4f}; ours had as good "
            + ("never" if when is None else f"after {when:.1f} min, target {NEEDED * minutes:g}"),
            flush=True,
        )


def _study(name: str, text: Path, minutes: float, seed: int) -> list[Step]:
    with workplace():
        shutil.copy(text, TEXT)
        settings = [f"study.{setting}" for setting in RIVALS[name]]
        spec = parse(YAML, overrides=[*settings, f"study.seed={seed}", f"study.totals={{seconds: {60 * minutes}}}"])
        watcher = _Clocked(name)
        driver = real_driver(spec, tokenised(spec).vocab, watcher)
        watcher.search = driver.search
        driver.run()
        print(f"  {name}: {watcher.ended_trials} trials ended", flush=True)
        return watcher.steps
