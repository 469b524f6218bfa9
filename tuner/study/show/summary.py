"""What a person reads when a study ends or is asked for: the best, the counts, the importance, what to do next.
Tables in, text out; the numbers come from tuner.analysis.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tuner.analysis import words
from tuner.analysis.table import counts
from tuner.search.history import IMPORTED, StudyRecord, TrialRecord
from tuner.search.repeats import standings, winner

if TYPE_CHECKING:
    from tuner.analysis.trials.pareto import Cost


def print_best(console: Console, record: StudyRecord, count: int = 5) -> None:
    """The best trials with their points; a pruned one says at which milestone it was stopped."""
    ranked = record.ranked()[:count]
    if not ranked:
        console.print("no trial has reached a milestone yet")
        return
    console.print(_table(record, ranked, f"the best {len(ranked)}"))


def print_trials(console: Console, record: StudyRecord) -> None:
    """Every trial: ranked first, then what has no value, with its reason."""
    ranked = record.ranked()
    console.print(_table(record, ranked, f"study {record.name}: {said_counts(record)}"))
    numbers = {trial.number for trial in ranked}
    for trial in record.trials:
        if trial.number not in numbers:
            milestone, value = trial.last or (0, None)
            so_far = f" {record.metric} {words.loss(value)} at milestone {milestone}" if milestone else ""
            reason = f": {trial.reason}" if trial.reason else ""
            console.print(Text(f"trial {trial.number} {trial.state}{so_far}{reason}"), soft_wrap=True)


def said_counts(record: StudyRecord) -> str:
    """'8 complete, 15 pruned, 1 failed'."""
    return ", ".join(f"{number} {state}" for state, number in counts(record).items()) or "no trial yet"


def _table(record: StudyRecord, trials: Sequence[TrialRecord], title: str) -> Table:
    paths = list(dict.fromkeys(path for trial in record.trials for path in trial.point))
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in (
        "trial",
        "state",
        record.metric,
        *words.names(paths),
    ):
        table.add_column(name, justify="left" if name == "state" else "right")
    for trial in trials:
        milestone, value = trial.last or (0, None)
        state = trial.state if trial.value is not None else f"{trial.state} at {milestone}"
        cells = [words.setting(trial.point[path]) if path in trial.point else "" for path in paths]
        table.add_row(str(trial.number), state, words.loss(trial.value if trial.value is not None else value), *cells)
    return table


def print_summary(
    console: Console, record: StudyRecord, importance: Mapping[str, float], seconds: float, runs: str
) -> None:
    """The end of a search: best five, states, importance, time, and commands to paste."""
    console.print()
    print_best(console, record)
    console.print(Text(f"{said_counts(record)}; {words.duration(seconds)}"))
    if importance:
        parts = "  ".join(f"{path} {share:.0%}" for path, share in importance.items())
        console.print(Text(f"importance (PED-ANOVA): {parts}"), soft_wrap=True)
    print_standings(console, record)
    print_front(console, record)
    if (best := winner(record)) is not None:
        number = best.number
        folder = f"{runs}/{record.name}/{number}/checkpoints"
        if (other := best.facts.get(IMPORTED)) is not None:  # which may have it from yet another
            folder = str(Path(str(best.facts.get("checkpoint", f"{runs}/{other}/checkpoints/last"))).parent)
            folder += ", as long as that study keeps it"
        console.print(Text(f"checkpoint of the best: {folder}"), soft_wrap=True)
        console.print(Text(f"next:\n  tuner show {record.name} {number}\n  tuner trials {record.name}\n  mlflow ui"))


def print_standings(console: Console, record: StudyRecord) -> None:
    """The settings that were run again with new seeds; where none was, how to have that done."""
    found = standings(record)
    if not found:
        if (best := winner(record)) is not None:
            console.print(
                Text(
                    f"trial {best.number} was seen with one seed; is it luck? "
                    "--set study.repeats='{top: 3, seeds: 3}' runs the best again"
                ),
                soft_wrap=True,
            )
        return
    table = Table(title="the best again, with new seeds", title_justify="left", box=None, pad_edge=False)
    for name in ("settings of trial", "first", "again", "deviation", "seeds", "is the best"):
        table.add_column(name, justify="right")
    for one in found:
        values = list(one.values.values())
        spread = f"{statistics.stdev(values):.2g}" if len(values) > 1 else "-"
        chance = f"{one.probability:.0%}" + (" tie" if one.ties and len([o for o in found if o.ties]) > 1 else "")
        first = words.loss(record.find(one.first).value)
        table.add_row(str(one.first), first, words.loss(one.mean), spread, str(len(values)), chance)
    console.print(table)


def print_front(console: Console, record: StudyRecord) -> None:
    """Where the study has a second objective: the least loss for each cost, and how much of the box it covers."""
    cost: Cost | None = record.spec["study"].get("against")
    if cost is None:
        return
    from tuner.analysis.study.frame import frame
    from tuner.analysis.trials.pareto import SAID, hypervolume, pareto, unweighed

    table = pareto(frame(record), cost)
    if sentence := unweighed(table, cost):
        console.print(sentence)
        return
    shown = Table(title=f"the least loss for its {SAID[cost]}", title_justify="left", box=None, pad_edge=False)
    for name in ("trial", record.metric, cost):
        shown.add_column(name, justify="right")
    for row in table[table["on_front"]].itertuples():
        shown.add_row(str(row.number), words.loss(float(row.value)), words.count(float(row.cost)))
    console.print(shown)
    if (share := hypervolume(table)) is not None:
        console.print(f"hypervolume: {share:.0%} of the box between the best and the worst of both", highlight=False)


def print_trial(console: Console, record: StudyRecord, trial: TrialRecord) -> None:
    """One trial whole: how it ended, its point, its milestones, its facts."""
    console.print(Text(f"trial {trial.number} of {record.name}: {trial.state}"), style="bold")
    if trial.reason:
        console.print(Text(trial.reason), soft_wrap=True)
    _pairs(console, "point", {path: words.setting(value) for path, value in trial.point.items()})
    shares = {
        f"{k} of {record.spec['study']['milestones']}": words.loss(v) for k, v in sorted(trial.milestones.items())
    }
    _pairs(console, f"{record.metric} at milestone", shares)
    hidden = ("outcome", "reason")
    _pairs(
        console,
        "facts",
        {k: json.dumps(v).strip('"') for k, v in sorted(trial.facts.items()) if k not in hidden},
    )


def _pairs(console: Console, title: str, pairs: Mapping[str, str]) -> None:
    if not pairs:
        return
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, show_header=False)
    for name, value in pairs.items():
        table.add_row(f"  {name}", Text(value))
    console.print(table)
