"""Which parameters matter, by two named methods, and in which direction; where the methods disagree it is said.
The methods are Optuna's, behind tuner.search; nothing is drawn here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
import pandas as pd

from tuner.analysis.store import Store
from tuner.analysis.study.frame import at_milestone, numeric, paths

Importance = Mapping[str, float]
"""Path -> share of the importance, most important first; the shares add up to 1. Empty: too little to judge."""

Sign = Literal["lower", "higher", "mixed"]

ENOUGH = 10
"""Complete trials from which on importance says anything to a reader."""

WAYS: dict[Sign, str] = {"lower": "lower is better", "higher": "higher is better", "mixed": "no single direction"}
"""What a sign means, in words."""

NEEDED = 4
"""Complete trials with a number at the path, below which no direction is told."""


def importance(url: str, name: str) -> Importance:
    """By PED-ANOVA (arXiv 2304.10255): what sets the best tenth of the trials apart. Instant.

    Raises:
        StoreError: no store, no such study.
    """
    return Store(url).importance(name)


def fanova(url: str, name: str, sample: int = 300) -> Importance:
    """By fANOVA (Hutter et al., 2014): the share of the variance over the whole space. About 2 s for 300 trials.

    Raises:
        StoreError: no store, no such study.
    """
    return Store(url).fanova(name, sample)


def witnesses(frame: pd.DataFrame) -> int:
    """Complete trials that the search chose: repeats of the best are no further ones."""
    return int((frame["value"].notna() & ~frame["repeat"]).sum())


def signs(frame: pd.DataFrame) -> dict[str, Sign]:
    """For each path of numbers: are ``lower`` or ``higher`` values better, or is it ``mixed`` (neither for certain)?

    By Spearman's rank correlation with the value of complete trials that are no repeats; certain where it is further
    from 0 than 1.96 of its standard errors 1/sqrt(n-1) under independence. A best value in the middle is mixed.
    """
    frame = frame[~frame["repeat"]]
    values = at_milestone(frame, None)
    found: dict[str, Sign] = {}
    for path in paths(frame):
        settings = numeric(frame, path)
        if settings is None:
            continue
        both = np.isfinite(values) & np.isfinite(settings)
        rho, n = _spearman(settings[both], values[both]), int(both.sum())
        certain = n >= NEEDED and abs(rho) > 1.96 / math.sqrt(n - 1)
        found[path] = "mixed" if not certain else "lower" if rho > 0 else "higher"
    return found


def way(sign: Sign | None) -> str:
    """A direction in words; None is a path of choices, which has none."""
    return "a choice: no direction" if sign is None else WAYS[sign]


def disagree(a: Importance, b: Importance) -> str:
    """A sentence where PED-ANOVA (``a``) and fANOVA (``b``) put another parameter first; else empty."""
    if not a or not b:
        return ""
    first, second = max(a, key=lambda path: a[path]), max(b, key=lambda path: b[path])
    if first == second:
        return ""
    return (
        f"The methods disagree: PED-ANOVA puts {first} first ({a[first]:.0%}), fANOVA {second} ({b[second]:.0%}). "
        "The former asks what the best trials share, the latter what moves the loss anywhere; more trials decide."
    )


def _spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Rank correlation, ties at their mean rank; 0 where one of the two does not vary."""
    if len(x) < 2:
        return 0.0
    one, other = (np.asarray(pd.Series(values).rank()) for values in (x, y))
    one, other = one - one.mean(), other - other.mean()
    scale = math.sqrt(float(one @ one) * float(other @ other))
    return float(one @ other) / scale if scale else 0.0
