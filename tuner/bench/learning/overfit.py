"""What each means against overfitting does, on a text so small that a model learns it by heart.
Real trials of the platform, one study an option, the same seeds in each; nothing here knows torch.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path

from tuner.bench.lab import TEXT, fresh, run_study, tokenised, workplace
from tuner.search.store.address import MEMORY_URL
from tuner.spec.errors import SpecError
from tuner.spec.load import parse
from tuner.spec.records import Measurement
from tuner.spec.study import StudySpec
from tuner.tracking.base import NullTracker

MILESTONES = 20

OPTIONS: Mapping[str, str] = {
    "nothing": "optim.weight_decay=0",
    "weight decay 0.3": "optim.weight_decay=0.3",
    "dropout 0.2": "model.dropout=0.2",
    "label smoothing 0.1": "optim.label_smoothing=0.1",
    "mask 0.15": "data.augment.mask=0.15",
    "swap 0.15": "data.augment.swap=0.15",
    "shuffle 0.15": "data.augment.shuffle=0.15",
    "delete 0.15": "data.augment.delete=0.15",
}
"""What is compared -> the field that it sets; all but weight decay itself come without any."""


class _Rows(NullTracker):
    """Keeps what each trial told at its milestones."""

    def __init__(self) -> None:
        self.told: dict[int, list[Mapping[str, float]]] = {}

    def row(self, trial: int, measurement: Measurement) -> bool:
        if measurement.milestone is not None:
            self.told.setdefault(trial, []).append(measurement.metrics)
        return True


def compare_options(text: Path, kilobytes: int, epochs: int, seeds: int, workers: int) -> None:
    """Print for each option the lowest and the last validation loss and the last training loss (nats a token, means of
    ``seeds``), and how far the lowest lies from that of nothing, with its standard error.

    Raises:
        SpecError: the text is shorter than ``kilobytes``.
    """
    raw = text.read_bytes()[: kilobytes * 1000].decode(errors="ignore")
    if len(raw.encode()) < kilobytes * 990:
        raise SpecError(f"{text}: expected {kilobytes} kB at least; give a longer text, or a smaller --kilobytes.")
    with workplace():
        Path(TEXT).write_text(raw, encoding="utf-8")
        tokens = tokenised(_spec("nothing", 1, 1)).tokens[0]
        print(f"{text.name}, {kilobytes} kB: {tokens:,} tokens for training, {epochs} times; {seeds} seeds", flush=True)
        print(f"{'':20} lowest val  last val  last train  lowest against nothing")
        base: list[float] = []
        for option in OPTIONS:
            tracker = _Rows()
            run_study(_spec(option, seeds, tokens * epochs), workers, 1, tracker, fresh(), MEMORY_URL)
            told = [tracker.told[number] for number in sorted(tracker.told)]
            lowest = [min(row["val_loss"] for row in rows) for rows in told]
            base = base or lowest
            last = statistics.fmean(rows[-1]["val_loss"] for rows in told)
            train = statistics.fmean(rows[-1]["train_loss"] for rows in told)
            print(
                f"{option:20} {statistics.fmean(lowest):10.4f}  {last:8.4f}  {train:10.4f}  {_against(lowest, base)}",
                flush=True,
            )


def _against(found: list[float], base: list[float]) -> str:
    apart = [one - other for one, other in zip(found, base, strict=True)]
    error = statistics.stdev(apart) / len(apart) ** 0.5 if len(apart) > 1 else 0.0
    return f"{statistics.fmean(apart):+.4f} +- {error:.4f}"


def _spec(option: str, seeds: int, tokens: int) -> StudySpec:
    """The trial of one option with each seed, the same budget and milestones."""
    chosen = [f"trial.{OPTIONS['nothing']}", f"trial.{OPTIONS[option]}"]
    return parse(
        f"""
name: overfit
trial:
  data: {{source: text, path: {TEXT}, tokenizer: {{kind: char}}, context: 64}}
  model: {{depth: 3, width: 96}}
  optim: {{kind: adamw, lr: 3e-3, schedule: constant}}
  batch: 16
  precision: fp32
  compile: false
  budget: {max(tokens, 16 * 64 * MILESTONES)} tokens
space: {{seed: {{choice: {list(range(1, seeds + 1)) if seeds > 1 else [1, 2]}}}}}
study: {{trials: {seeds}, milestones: {MILESTONES}, sampler: grid, pruner: none, prior: none, keep: 1}}
""",
        overrides=chosen,
    )
