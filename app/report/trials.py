"""The trials in a report: the leaderboard, loss against cost, the best one whole, and why others failed.
Worked out by tuner.analysis, drawn by app/charts; here it is put in order and in words.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
import yaml

from app.charts import front, lines
from app.looks import number, short_names, state_words
from app.report.html import Html, box, code, many, paragraphs, section, table, tag, two
from app.report.picture import HALF, figure
from app.report.read import Reading
from tuner.analysis import words
from tuner.analysis.study.failures import FAILED, causes, region
from tuner.analysis.study.frame import budget_at, paths
from tuner.analysis.study.live import headline
from tuner.analysis.study.noise import standings
from tuner.analysis.study.ranking import hidden, leaderboard
from tuner.analysis.table import trained_as
from tuner.analysis.trials.confusion import confusion
from tuner.analysis.trials.curves import samples
from tuner.analysis.trials.pareto import COSTS, SAID, Cost, bargain, pareto, unweighed
from tuner.analysis.trials.sampling import front_left_out
from tuner.spec.errors import TunerError

BEST = 20
"""Trials of the leaderboard that are listed."""

TEXTS = 2
"""Samples of the best trial that are shown."""


def board(reading: Reading) -> Html:
    """Which trials are best, and is the difference real?"""
    title, question = "Trials", "Which trials are best, and is the difference real?"
    ranked = leaderboard(reading.frame, None, reading.noise)
    if ranked.empty:
        return section(title, question, tag("p", f"No trial has finished the full budget of {reading.budget} yet."))
    first, ties = ranked.iloc[0], int((ranked["tie"] == 1).sum())
    leads = (
        f"Trial {int(first['number'])} leads alone with {number(first['value_at'])}"
        if ties == 1
        else f"{ties} trials tie for the lead, from {number(first['value_at'])} on"
    )
    said = f"{leads} at {reading.budget}: differences under ±{reading.band:.2g} are no more than {reading.noise.basis}."
    more = len(ranked) - BEST
    unseen = ([f"{more} more are complete"] if more > 0 else []) + [hidden(reading.frame, None)]
    return section(
        title,
        question,
        tag("p", said, class_="answer"),
        box(f"The best {min(BEST, len(ranked))} at the full budget", _ranks(reading, ranked)),
        paragraphs("; ".join(one for one in unseen if one)),
    )


def _ranks(reading: Reading, ranked: pd.DataFrame) -> Html:
    shown, metric = ranked.head(BEST), reading.record.metric
    searched = paths(reading.frame)
    own = ("rank", "trial", metric, "gap", "parameters", "tokens", "time")
    names = short_names(searched, own)
    sizes = ranked.groupby("tie")["number"].count()
    rows = [
        [
            f"{row['tie']} =" if sizes[row["tie"]] > 1 else str(row["tie"]),
            str(row["number"]),
            number(row["value_at"]),
            f"{row['gap']:.4f}",
            *(_setting(row[f"point.{path}"]) for path in searched),
            *(_count(row[cost]) for cost in ("parameters", "tokens")),
            "–" if pd.isna(row["seconds"]) else words.duration(row["seconds"]),
        ]
        for row in shown.to_dict("records")
    ]
    head = [*own[:4], *(names[path] for path in searched), *own[4:]]
    groups = shown["tie"].ne(shown["tie"].shift())
    begins = [place for place, new in enumerate(groups) if new and place]
    return table("= is a tie: seeds alone differ as much. The gap is to the best.", head, rows, first=begins)


def _setting(value: Any) -> str:
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return "–"
    return words.number(value) if isinstance(value, float) else words.setting(value)


def _count(value: float) -> str:
    return "–" if pd.isna(value) else words.count(value)


def against_cost(reading: Reading) -> Html:
    """What does a lower loss cost?"""
    title, question = "Loss against cost", "What does a lower loss cost, and is there one as good for less?"
    asked = reading.record.spec["study"].get("against")
    costs: list[Cost] = list(dict.fromkeys([asked, *COSTS] if asked else COSTS))
    fronts: dict[Cost, pd.DataFrame] = {cost: pareto(reading.frame, cost, reading.band) for cost in costs}
    telling = [cost for cost, one in fronts.items() if not unweighed(one, cost)][:2]
    if not telling:
        return section(title, question, tag("p", "There are no two complete trials that differ in what they cost."))
    metric = reading.record.metric
    boxes = [
        box(
            f"Against {SAID[cost]}",
            figure(
                lambda width, cost=cost: front.pareto(fronts[cost], cost, metric, "light"),  # type: ignore[misc]
                f"{metric} of {len(fronts[cost])} complete trials over their {SAID[cost]}; "
                f"{int(fronts[cost]['on_front'].sum())} of them are beaten by none in both.",
                "The number is the trial's. Points above the picture's top are drawn at its edge. "
                + front_left_out(fronts[cost]),
                HALF,
            ),
        )
        for cost in telling
    ]
    said = [bargain(fronts[cost], cost, reading.band) for cost in telling]
    none = f"No trial within ±{reading.band:.2g} of the best is clearly cheaper than it."
    return section(title, question, paragraphs(*([one for one in said if one] or [none])), two(*boxes))


def best(reading: Reading) -> Html:
    """What is the best trial, and how did it come about?"""
    title, question = "The best trial", "What is the best trial, and how did it get there?"
    number_of = headline(reading.record, reading.frame, reading.noise)["best_number"]
    if number_of is None:
        return section(title, question, tag("p", "There is none yet: no trial has finished the full budget."))
    trial = reading.record.find(number_of)
    facts = trial.facts
    story = [
        f"Trial {trial.number}: {number(trial.value)} at {reading.budget}",
        f"seed {facts['seed']}" if "seed" in facts else "",
        f"{_count(float(facts['parameters']))} parameters" if "parameters" in facts else "",
        f"{words.duration(float(facts['seconds']))} of training" if "seconds" in facts else "",
        f"device {facts['device_kind']}" if "device_kind" in facts else "",
        trial.reason,
    ]
    return section(
        title,
        question,
        tag("p", ", ".join(one for one in story if one) + ".", class_="answer"),
        two(
            box("Its curve against the median", _curve(reading, trial)),
            box("Its settings", _settings(reading, trial)),
        ),
        _again(reading),
        box("What it wrote", _samples(reading, trial.number))
        if reading.record.task == "generate"
        else box("How it does on each class", _answers(reading, trial.number)),
    )


def _again(reading: Reading) -> Html:
    """The settings that ran again with new seeds, the one to ship first; nothing where none did."""
    found = standings(reading.record)
    if not found:
        return Html()
    rows = [
        [
            str(one.first),
            number(reading.record.find(one.first).value),
            number(one.mean),
            str(len(one.values)),
            f"{one.probability:.0%}",
        ]
        for one in found
    ]
    head = ["settings of trial", "first run", "mean of the others", "seeds", "is the best of them"]
    caption = "The first run is why they were chosen, so it flatters."
    return box("The best again, with new seeds", table(caption, head, rows))


def _curve(reading: Reading, trial: Any) -> Html:
    frame, label, metric = reading.frame, f"trial {trial.number}", reading.record.metric
    shares = range(1, reading.milestones + 1)
    mine = [{"label": label, "milestone": k, "loss": v} for k, v in sorted(trial.milestones.items())]
    if not mine:
        return tag("p", "No milestone of it is recorded, so there is no curve.")
    medians = [{"label": "median", "milestone": k, "loss": frame[f"m.{k}"].median()} for k in shares]
    faint = pd.DataFrame(medians).dropna()
    return figure(
        lambda width: lines.curves(pd.DataFrame(mine), "milestone", "loss", metric, "light", faint=faint),
        f"{metric} of {label} falls from {number(mine[0]['loss'])} to {number(mine[-1]['loss'])} over its milestones.",
        f"The median is of all trials that reached the milestone. Milestones are equal shares of the budget; "
        f"{reading.milestones} is {reading.budget}.",
        HALF,
    )


def _settings(reading: Reading, trial: Any) -> Html:
    point = yaml.safe_dump(dict(trial.point), sort_keys=False) if trial.point else "# nothing: no space"
    chosen = [tag("p", "What the search chose:", class_="meta"), code(point, "What the search chose, as YAML")]
    try:
        whole = trained_as(reading.record, trial).as_data()
    except (TunerError, ValueError) as error:
        said = f"The whole trial cannot be resolved by this version of tuner: {str(error).splitlines()[0]}"
        return many([*chosen, tag("p", said)])
    text = yaml.safe_dump({"trial": whole}, sort_keys=False)
    return many([*chosen, tag("details", tag("summary", "The whole trial as YAML"), code(text, "The whole trial"))])


def _answers(reading: Reading, trial: int) -> Html:
    seen = confusion(reading.record, trial, reading.runs)
    if seen is None:
        return tag("p", "No answers of it are kept for a table: its folder is elsewhere, or it has too many classes.")
    shares = ("precision", "recall", "f1")
    rows = [
        [str(row["class"]), f"{row['texts']:,}", *("–" if pd.isna(row[one]) else f"{row[one]:.1%}" for one in shares)]
        for row in seen.classes.to_dict("records")
    ]
    others = [
        f"{row['label']}: accuracy {row['accuracy']:.1%}, F1 {row['f1']:.3f}."
        for row in seen.auxiliary.dropna().to_dict("records")
    ]
    said = f"{seen.in_words(budget_at(reading.record, seen.milestone))}."
    return many([table(said, ["class", "texts", "precision", "recall", "F1"], rows, words=(0,)), paragraphs(*others)])


def _samples(reading: Reading, trial: int) -> Html:
    try:
        found = samples(reading.record, trial, reading.runs)
    except TunerError as error:
        return tag("p", str(error))
    if found.empty:
        return tag("p", "No sample of it was found: its folder is elsewhere, or it wrote none.")
    last = int(found["milestone"].max())
    texts = found.loc[found["milestone"] == last, "text"].head(TEXTS)
    at = tag("p", f"At {budget_at(reading.record, last)}, the first of what it wrote there:", class_="meta")
    return many([at, *(code(str(text), f"Sample {place + 1}") for place, text in enumerate(texts))])


def failures(reading: Reading) -> Html:
    """Why did some fail?"""
    title, question = "Failures", "Why did some trials end without a result?"
    found, states = causes(reading.frame), reading.frame["state"]
    if found.empty:
        return section(title, question, tag("p", "No trial has failed, diverged or been refused."))
    rows = [
        [
            state_words(row["state"]),
            str(row["count"]),
            row["reason"],
            ", ".join(map(str, row["examples"])) + (" …" if row["count"] > len(row["examples"]) else ""),
        ]
        for row in found.to_dict("records")
    ]
    where = region(reading.record, reading.frame)
    ended = f"{int(states.isin(FAILED).sum())} of {len(states)} trials; numbers in a cause are shown as #"
    return section(
        title,
        question,
        box("By cause", table(ended, ["state", "trials", "cause", "such as"], rows, words=(0, 2, 3))),
        paragraphs(where[:1].upper() + where[1:] + "." if where else ""),
    )
