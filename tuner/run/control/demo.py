"""A simulated study for newcomers: every page full in seconds, marked in each trial as nothing that was trained.
The real driver, search and spools on fake hands and a fake clock; MLflow never hears of it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tuner.run.driver import Driver
from tuner.run.folder import claim
from tuner.run.hands.landscape import SimulatedWorkers
from tuner.run.watcher import Silent
from tuner.search.asktell import Search
from tuner.search.store.lock import study_lock
from tuner.search.store.storage import delete_study, open_storage
from tuner.spec.load import parse
from tuner.tracking.tracker import Spooler

NAME = "demo-simulated"

_YAML = f"""
name: {NAME}
trial: {{model: {{depth: 4, width: 128}}, batch: 16, budget: 1M tokens}}
space:
  optim.lr:     {{float: [2e-4, 1e-1], log: true}}
  optim.warmup: {{float: [0.0, 0.2]}}
  batch:        {{choice: [8, 16, 32, 64]}}
  model.depth:  {{int: [2, 8]}}
  model.width:  {{int: [64, 384], step: 64}}
study: {{trials: 48, milestones: 8, sampler: tpe, pruner: median, seed: 7, workers: 2}}
"""


def make_demo(url: str, runs: Path) -> str:
    """Run the simulated study into the store at ``url``, which is made where there is none; returns its name.

    A demo that was interrupted goes on; one that is there already stays as it is.

    Raises:
        StoreError: the store cannot be reached, or another process makes the demo right now.
    """
    spec, folder = parse(_YAML), runs / NAME
    with study_lock(url, NAME, folder):
        search = Search(spec, open_storage(url, create=True))
        claim(folder, search.origin, None)
        hands = SimulatedWorkers(2)
        tracker = Spooler(folder, lambda sentence: None)
        Driver(spec, search, hands, tracker, Silent(), folder, runs / ".corpora", "none", clock=hands.clock).run()
        tracker.close()
    return NAME


def remove_demo(url: str, runs: Path) -> None:
    """Take the simulated study out of the store again, and its folder away; nothing else is touched.

    Raises:
        StoreError: the store cannot be reached.
    """
    with study_lock(url, NAME, runs / NAME):
        delete_study(open_storage(url), NAME)
        shutil.rmtree(runs / NAME, ignore_errors=True)
