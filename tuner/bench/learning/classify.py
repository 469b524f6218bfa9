"""What a trunk that has read other texts is worth to a classifier: which speaker of a play says it, against the same
model begun from nothing. Studies of the platform by its own command, as a user runs them; nothing here knows torch.
"""

from __future__ import annotations

import csv
import random
import re
import statistics
from collections import Counter
from pathlib import Path

from tuner.bench.lab import workplace
from tuner.bench.learning.descend import MILESTONES, study
from tuner.search.history import StudyRecord
from tuner.spec.errors import SpecError

RATES = (1.0, 0.3, 0.1)
"""Of the recipe's learning rates: each way has the one that suits it."""

_SPEECH = re.compile(r"^([A-Z][A-Za-z' ]+):\n(.+?)(?=\n\n|\Z)", re.MULTILINE | re.DOTALL)


def compare_trunks(
    text: Path, classes: int, labelled: int, depth: int, width: int, budgets: tuple[str, str], seeds: int
) -> None:
    """Print the share of validation texts that is known, mean of ``seeds`` with its deviation, of classifiers of the
    ``classes`` speakers who say most in ``text``, with ``labelled`` speeches, half of them to learn from: begun from
    nothing, and with a trunk that was trained for the first budget on the words of all other speeches. The second
    budget is a classifier's.

    Raises:
        SpecError: the text is no play, or has too few speeches.
        TunerError: a study does not end.
    """
    speeches = _SPEECH.findall(text.read_text(encoding="utf-8"))
    known = {name for name, _ in Counter(name for name, _ in speeches).most_common(classes)}
    random.Random(1).shuffle(speeches)
    chosen = [one for one in speeches if one[0] in known][:labelled]
    if len(known) < classes or len(chosen) < labelled:
        raise SpecError(f"{text}: expected {labelled} speeches ('NAME:', then what is said) of {classes} speakers.")
    rest = [said for name, said in speeches if (name, said) not in set(chosen)]
    with workplace():
        Path("rest.txt").write_text("\n\n".join(rest), encoding="utf-8")
        with Path("speeches.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("who", "said"), *chosen])
        old = {"source": "text", "path": "rest.txt", "documents": "paragraph"}
        new = {"source": "csv", "path": "speeches.csv", "column": "said", "label": "who", "split": [0.5, 0.5, 0.0]}
        model = {"depth": depth, "width": width}
        trunk = study("trunk", old, model, budgets[0], 1)
        most = max(Counter(name for name, _ in chosen).values()) / len(chosen)
        print(f"{depth} x {width}; {len(chosen):,} speeches of {classes} speakers, half to learn from; {seeds} seeds")
        print(f"trunk: {budgets[0]} of {len(rest):,} other speeches, {trunk.trials[0].milestones[MILESTONES]:.4f}")
        print(f"{'the most frequent speaker':40} {most:.1%}", flush=True)
        words: dict[str, str] | None = None
        for way, shape, init in (("trunk", {}, {"source": "trunk/0"}), ("nothing", model, None)):
            for rate in RATES:
                name = f"{way}-{rate:g}".replace(".", "")
                rates = {"optim.lr": 3e-3 * rate, "optim.muon.lr": 1e-2 * rate}
                told = study(
                    name, new, shape, budgets[1], seeds, init, words, rates=rates, task="classify", metric="val_error"
                )
                words = told.spec["trial"]["data"]["tokenizer"]  # all have the trunk's
                print(f"{f'begun from {way}, {rate:g} of its rates':40} {_accuracy(told)}", flush=True)


def _accuracy(record: StudyRecord) -> str:
    values = [1 - trial.milestones[MILESTONES] for trial in record.trials]
    spread = f" (+- {statistics.stdev(values):.1%})" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.1%}{spread}"
