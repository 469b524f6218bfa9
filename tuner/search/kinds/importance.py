"""Importance of parameters by two named methods of Optuna's, on complete trials that were read already.
Judges what it is given; no store is read here.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Container, Sequence
from copy import deepcopy as deeply

import optuna
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

NEEDED = 4
"""Complete trials below which nothing is said."""


def ped_anova(complete: Sequence[FrozenTrial]) -> dict[str, float]:
    """What sets the best tenth apart (PED-ANOVA, arXiv 2304.10255): parameter -> share, most important first.

    Empty below ``NEEDED`` trials, and where all have the same value.
    """
    # named in full: importing from optuna.importance loads pandas, and the driver comes by here
    return _shares(complete, optuna.importance.PedAnovaImportanceEvaluator())


def fanova(complete: Sequence[FrozenTrial], sample: int) -> dict[str, float]:
    """Share of the variance (fANOVA, Hutter et al., 2014): parameter -> share, most important first.

    Only parameters that every trial has can be judged. It takes about 2 s for 300 trials and minutes for thousands,
    so of more than ``sample`` that many are taken at random, the same ones every time. Empty as ``ped_anova``.
    """
    chosen = complete if len(complete) <= sample else random.Random(0).sample(complete, sample)
    return _shares(chosen, optuna.importance.FanovaImportanceEvaluator(seed=0))


def _shares(trials: Sequence[FrozenTrial], evaluator: optuna.importance.BaseImportanceEvaluator) -> dict[str, float]:
    if len(trials) < NEEDED or len({trial.value for trial in trials}) < 2:
        return {}
    study = optuna.create_study(storage=_Given(trials), direction="minimize")
    try:
        with warnings.catch_warnings():  # that few trials make it inaccurate, in words of Optuna's own
            warnings.simplefilter("ignore", UserWarning)
            shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    except (ValueError, RuntimeError):
        return {}
    return {path: float(share) for path, share in shares.items()}


class _Given(InMemoryStorage):
    """A store that has these trials: adding 10,000 to one of Optuna's copies each and takes seconds."""

    def __init__(self, trials: Sequence[FrozenTrial]) -> None:
        super().__init__()
        self._given = trials

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        found = [trial for trial in self._given if states is None or trial.state in states]
        return deeply(found) if deepcopy else found
