"""Is the first guess good, and does a wrong one cost much? The law's point among random ones, trained for real; and
simulated studies whose prior is two octaves off, against the same without any.
"""

from __future__ import annotations

import shutil
import statistics
from pathlib import Path

from tuner.bench.lab import TEXT, tokenised, workplace
from tuner.bench.search.machine import real_driver
from tuner.bench.search.simulated import expected_loss, simulate, simulated_spec
from tuner.run.watcher import Silent
from tuner.search.bayes.beliefs.prior import step_law
from tuner.spec.load import parse

YAML = """
name: guess
trial:
  data: {DATA, tokenizer: {kind: char}, context: 64, val_tokens: 32768}
  model: {depth: 3, width: 96}
  budget: 150k tokens
  precision: fp32
  compile: false
space:
  optim.lr:     {float: [1e-4, 3e-2], log: true}
  optim.warmup: {float: [0.0, 0.2]}
  batch:        {int: [4, 48]}
  model.depth:  {int: [2, 4]}
  model.width:  {int: [64, 128], step: 32}
study: {milestones: 1, sampler: random, pruner: none, samples: 0, keep: 1, workers: 2}
"""


def rank_guess(text: Path | None, trials: int) -> None:
    """Print how many of ``trials`` random ones beat the first guess, on the standard library's source and ``text``.

    Raises:
        TunerError: a text cannot be read.
    """
    texts = {"the standard library's source": "source: stdlib"}
    if text is not None:
        texts[text.name] = f"source: text, path: {TEXT}"
    for name, data in texts.items():
        with workplace():
            if text is not None and TEXT in data:
                shutil.copy(text.resolve(), TEXT)
            spec = parse(YAML.replace("DATA", data), overrides=[f"study.trials={trials + 1}"])
            driver = real_driver(spec, tokenised(spec).vocab, Silent())
            driver.run()
            first, *others = driver.search.record().trials
            losses = [trial.value for trial in others if trial.value is not None]
            guess = float("inf") if first.value is None else first.value
            better = sum(loss < guess for loss in losses)
            print(
                f"{name}: the first guess has {guess:.4f}; {better} of {len(others)} random trials are better, "
                f"their median is {statistics.median(losses):.4f} (target: at most a third)",
                flush=True,
            )


def compare_wrong(seeds: int, trials: int) -> None:
    """Print how far simulated studies come with the law's prior, with one two octaves off, and with none."""
    written = simulated_spec([])
    model, context = written.trial.model, written.trial.data.context
    centre = step_law(model.depth, model.width, context, written.trial.budget)["optim.lr"].centre
    found = {}
    for name, prior in (
        ("no prior", "none"),
        ("the law", "steplaw"),
        ("two octaves above", f"{{optim.lr: [{4 * centre}, 2]}}"),
        ("two octaves below", f"{{optim.lr: [{centre / 4}, 2]}}"),
    ):
        losses = []
        for seed in range(seeds):
            spec = simulated_spec([f"study.prior={prior}", f"study.trials={trials}", f"study.seed={seed}"])
            done = [trial for trial in simulate(spec).trials if trial.value is not None]
            losses.append(min(expected_loss(spec, trial) for trial in done))
        found[name] = statistics.median(losses)
        print(
            f"simulated, {seeds} seeds of {trials} trials, {name}: ends at {found[name]:.4f}, "
            f"{found[name] - found['no prior']:+.4f} against no prior (medians)",
            flush=True,
        )
