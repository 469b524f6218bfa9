"""What a search loses to trials that cannot be: a third of the space beyond the memory, a third that diverges.
Memory with real workers on this machine; divergence on the simulator, which the line says.
"""

from __future__ import annotations

import random
import statistics
from collections import Counter
from collections.abc import Sequence

from tuner.bench.lab import TEXT, prepare, workplace
from tuner.bench.search.machine import real_driver
from tuner.bench.search.race import RIVALS
from tuner.bench.search.simulated import simulate, simulated_spec
from tuner.run.fitting import Fitting
from tuner.run.watcher import Silent
from tuner.search.history import StudyRecord, TrialRecord
from tuner.spec.errors import InfeasibleError
from tuner.spec.load import parse
from tuner.spec.records import Measurement
from tuner.spec.study import StudySpec

MEMORY_YAML = f"""
name: memory
trial:
  data: {{source: text, path: {TEXT}, tokenizer: {{kind: char}}, context: 32, val_tokens: 512}}
  budget: 1k tokens
  precision: fp32
  compile: false
space:
  optim.lr:    {{float: [1e-4, 3e-2], log: true}}
  batch:       {{choice: [2, 4, 8]}}
  model.depth: {{int: [2, 16]}}
  model.width: {{int: [128, 1536], step: 128}}
study: {{milestones: 1, samples: 0, keep: 1, memory: 2 GB, workers: 2}}
"""

DIVERGING = ("space.optim.lr={float: [2e-4, 0.25], log: true}",)


class _Peaks(Silent):
    """Keeps the most memory that each trial was seen to take, in MB."""

    def __init__(self) -> None:
        self.peaks: dict[int, float] = {}
        self.said: list[str] = []

    def measured(self, number: int, measurement: Measurement) -> None:
        self.peaks[number] = max(self.peaks.get(number, 0.0), measurement.metrics.get("memory_mb", 0.0))

    def say(self, sentence: str) -> None:
        self.said.append(sentence)


def measure_memory(trials: int) -> None:
    """Print how a real study fares in a space of which a third does not fit 2 GB: deaths, refusals, their time.

    Raises:
        TunerError: the study could not run.
    """
    with workplace():
        spec = parse(MEMORY_YAML, overrides=[f"study.trials={trials}"])
        watcher = _Peaks()
        driver = real_driver(spec, prepare(spec).vocab, watcher)
        assert driver.fitting is not None  # the study says what a trial may take
        unfit = _unfit(spec, driver.fitting)
        print(f"{trials} trials, each may take 2 GB; {unfit:.0%} of 1,000 random points cannot", flush=True)
        driver.run()
        record = driver.search.record()
    refused = [trial for trial in record.trials if trial.state == "infeasible" and trial.number not in watcher.peaks]
    milliseconds = [1000 * (t.ended - t.started).total_seconds() for t in refused if t.ended and t.started]
    print(
        f"ended: {dict(Counter(trial.state for trial in record.trials))}; "
        f"tried once more for want of memory: {len(watcher.said)}; the most that one took: "
        f"{max(watcher.peaks.values()):,.0f} MB"
    )
    if milliseconds:
        print(f"refused in {statistics.median(milliseconds):.0f} ms each (median), {max(milliseconds):.0f} ms at most")
    print(f"share refused, by thirds of the study: {_thirds(record, 'infeasible')}")


def measure_divergence(seeds: int, trials: int) -> None:
    """Print for ours and for random search how many trials diverge, by thirds of simulated studies."""
    for name in ("ours", "random search"):
        settings = [f"study.{setting}" for setting in RIVALS[name]]
        shares = []
        for seed in range(seeds):
            spec = simulated_spec([*DIVERGING, *settings, f"study.trials={trials}", f"study.seed={seed}"])
            record = simulate(spec)
            ran = [trial for trial in record.trials if trial.state != "infeasible"]
            shares.append([_share(part, "diverged") for part in _parts(ran)])
        thirds = ", ".join(f"{statistics.median(column):.0%}" for column in zip(*shares, strict=True))
        print(
            f"simulated, {seeds} seeds of {trials} trials, {name}: diverged, by thirds: {thirds} (medians)", flush=True
        )


def _unfit(spec: StudySpec, fitting: Fitting) -> float:
    rng, refused = random.Random(0), 0
    for _ in range(1000):
        try:
            fitting.parts(spec.resolve(spec.draw(rng)))
        except InfeasibleError:
            refused += 1
    return refused / 1000


def _parts(trials: Sequence[TrialRecord]) -> list[Sequence[TrialRecord]]:
    third = len(trials) / 3
    return [trials[round(k * third) : round((k + 1) * third)] for k in range(3)]


def _share(trials: Sequence[TrialRecord], state: str) -> float:
    return sum(trial.state == state for trial in trials) / max(1, len(trials))


def _thirds(record: StudyRecord, state: str) -> str:
    return ", ".join(f"{_share(part, state):.0%}" for part in _parts(record.trials))
