"""What a classifier took for what: the confusion matrix of a trial's last milestone, and how it did on each class.
Reads the spool in the study's folder; how it is drawn is the app's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tuner.analysis.trials.curves import measured
from tuner.search.history import StudyRecord
from tuner.spec.records import auxiliary_of, classes_of


@dataclass(frozen=True)
class Confusion:
    """At a ``milestone``. ``pairs``: ``truth``, ``said``, ``count``, ``share`` of the truth's texts; ``classes``: a row
    each with ``class``, ``texts``, ``precision``, ``recall``, ``f1``, NaN where nothing was said or there;
    ``auxiliary``: a row for each auxiliary label with ``label``, ``accuracy``, ``f1``.
    """

    milestone: int
    pairs: pd.DataFrame
    classes: pd.DataFrame
    auxiliary: pd.DataFrame

    def in_words(self, at: str) -> str:
        """How many texts it knew ``at`` that milestone's budget, and which class it took for which most often."""
        wrong = self.pairs[self.pairs["truth"] != self.pairs["said"]]
        right, total = int(self.pairs["count"].sum() - wrong["count"].sum()), int(self.pairs["count"].sum())
        known = f"{right:,} of {total:,} validation texts are known at {at}"
        worst = wrong.loc[wrong["count"].idxmax()]
        if not worst["count"]:
            return known
        return f"{known}; most often {worst['truth']} is taken for {worst['said']}, {int(worst['count']):,} times"


def confusion(record: StudyRecord, number: int, folder: Path) -> Confusion | None:
    """Of a trial's last milestone; None where it is no classifier, has too many classes for a matrix, or its spool is
    not below ``folder`` (``runs``).

    Raises:
        StoreError: the study has no such trial.
    """
    facts = record.find(number).facts
    names = np.array(classes_of(facts), dtype=object)
    rows = [row for row in measured(record, number, folder) if row.confusion] if len(names) else []
    if not rows or len(rows[-1].confusion) != len(names):
        return None
    matrix = np.array(rows[-1].confusion, dtype=np.float64)
    there, said, right = matrix.sum(1), matrix.sum(0), matrix.diagonal()
    with np.errstate(invalid="ignore"):
        shares = matrix / there[:, None]
        precision, recall, f1 = right / said, right / there, 2 * right / (there + said)
    pairs = pd.DataFrame(
        {
            "truth": np.repeat(names, len(names)),
            "said": np.tile(names, len(names)),
            "count": matrix.astype(np.int64).ravel(),
            "share": shares.ravel(),
        }
    )
    each = {"class": names, "texts": there.astype(np.int64), "precision": precision, "recall": recall, "f1": f1}
    last, others = rows[-1].metrics, auxiliary_of(facts)
    told = pd.DataFrame(
        {
            "label": list(others),
            "accuracy": [last.get(f"val_accuracy/{name}") for name in others],
            "f1": [last.get(f"val_f1/{name}") for name in others],
        }
    )
    return Confusion(rows[-1].milestone or 0, pairs, pd.DataFrame(each), told)
