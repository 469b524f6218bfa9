"""What a trunk that has read unlabelled text is worth to a classifier with few labels: which part of the standard
library a docstring belongs to. Studies of the platform by its own command, as a user runs them.
"""

from __future__ import annotations

import ast
import csv
import random
import statistics
import sysconfig
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tuner.bench.lab import workplace
from tuner.bench.learning.descend import MILESTONES, study
from tuner.search.history import StudyRecord
from tuner.spec.errors import SpecError

RATES = (1.0, 0.3, 0.1)
"""Of the recipe's learning rates: each way has the one that suits it."""

JUDGED = 9
"""Docstrings to judge by for each one to learn from: there are few labels, and the scatter of the answer is small."""

LOOKS = 2
"""Milestones of a classifier: to judge it takes longer than to train it."""

_SHORTEST = 40
_LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}


def compare_trunks(classes: int, labels: int, depth: int, width: int, budgets: tuple[str, str], seeds: int) -> None:
    """Print the share of validation docstrings whose package is known, mean of ``seeds`` with its deviation, of
    classifiers of the ``classes`` packages and modules with the most, ``labels`` docstrings to learn from: begun from
    nothing, and with a trunk trained for the first budget on the library's source, from which those docstrings and the
    ones to judge by are taken out. The second budget is a classifier's.

    Raises:
        SpecError: there are too few docstrings.
        TunerError: a study does not end.
    """
    docstrings, files = dict[str, str](), list(_library())
    for module, texts, _ in files:
        docstrings |= {text: docstrings.get(text, module) for text in texts.values()}
    known = {name for name, _ in Counter(docstrings.values()).most_common(classes)}
    rows = [(module, text) for text, module in docstrings.items() if module in known]
    random.Random(1).shuffle(rows)
    rows = rows[: labels * (1 + JUDGED)]
    if len(rows) < 2 * labels:
        raise SpecError(f"--labels: there are {len(rows):,} docstrings of {classes} packages; ask for fewer.")
    share, told = labels / len(rows), {text for _, text in rows}
    code = [_without(source, [raw for raw, text in texts.items() if text in told]) for _, texts, source in files]
    with workplace():
        Path("code.txt").write_text("\n\n".join(code), encoding="utf-8")
        with Path("docstrings.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("package", "text"), *rows])
        old = {"source": "text", "path": "code.txt"}
        new: dict[str, object] = {"source": "csv", "path": "docstrings.csv", "column": "text", "label": "package"}
        new |= {"split": [share, 1 - share, 0.0], "val_tokens": None}
        model, words = {"depth": depth, "width": width}, None
        trunk = study("trunk", old, model, budgets[0], 1)
        most = Counter(name for name, _ in rows).most_common(1)[0][1] / len(rows)
        loss, judged = trunk.trials[0].milestones[MILESTONES], len(rows) - labels
        print(f"{depth} x {width}; docstrings of {classes} packages: {labels:,} to learn from, {judged:,} to judge by")
        print(f"trunk: {budgets[0]} of source without them, {loss:.4f}; classifiers: {budgets[1]}, {seeds} seeds")
        print(f"{'always the most frequent package':40} {most:.1%}", flush=True)
        for way, shape, init in (("trunk", {}, {"source": "trunk/0"}), ("nothing", model, None)):
            for rate in RATES:
                name = f"{way}-{rate:g}".replace(".", "")
                settings: dict[str, float | str] = {
                    "optim.lr": 3e-3 * rate,
                    "optim.muon.lr": 1e-2 * rate,
                    "classify.pool": "mean",
                }
                found = study(
                    name,
                    new,
                    shape,
                    budgets[1],
                    seeds,
                    init,
                    words,
                    settings=settings,
                    task="classify",
                    metric="val_error",
                    milestones=LOOKS,
                )
                words = found.spec["trial"]["data"]["tokenizer"]  # all have the trunk's
                print(f"{f'begun from {way}, {rate:g} of its rates':40} {_accuracy(found)}", flush=True)


def _library() -> Iterator[tuple[str, dict[str, str], str]]:
    """Of each file of the standard library its package or module, its docstrings (as written: as text), its source."""
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if _LEFT_OUT & set(parts) or parts[0].startswith("config-"):
            continue
        try:
            source = path.read_text(encoding="utf-8")
            tree = ast.parse(source)
        except (UnicodeDecodeError, SyntaxError):  # a few are wrong on purpose
            continue
        told = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
                raw, text = ast.get_docstring(node, clean=False), ast.get_docstring(node)
                if raw and text and len(text) >= _SHORTEST and raw in source:  # with escapes it could not be taken out
                    told[raw] = text
        yield parts[0].removesuffix(".py"), told, source


def _without(source: str, parts: list[str]) -> str:
    for part in sorted(parts, key=len, reverse=True):  # one may be part of another
        source = source.replace(part, "")
    return source


def _accuracy(record: StudyRecord) -> str:
    values = [1 - trial.milestones[LOOKS] for trial in record.trials]
    spread = f" (+- {statistics.stdev(values):.1%})" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.1%}{spread}"
