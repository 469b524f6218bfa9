"""The search in a report: what it came to, whether it still pays off, and what to change in its space.
Worked out by tuner.analysis, drawn by app/charts; here it is put in order and in words.
"""

from __future__ import annotations

import pandas as pd

from app.charts import dimensions, progress
from app.looks import LOOKS, look, number, short_names
from app.report.html import Html, box, code, many, paragraphs, section, tag, two
from app.report.picture import HALF, figure
from app.report.read import Reading
from app.standing import advised, standing
from tuner.analysis.study.edges import edges, narrowed
from tuner.analysis.study.frame import budget_at, paths
from tuner.analysis.study.importance import ENOUGH, signs, way
from tuner.analysis.study.progress import best_so_far, funnel
from tuner.analysis.study.ranking import by_path, leaderboard
from tuner.analysis.trials.sampling import board_left_out, history_left_out

SLICES = 9
"""Parameters drawn, the most important first."""

_AXIS = 55


def chips(reading: Reading) -> Html:
    """The trials by state, each with its icon, word and colour."""
    states = reading.frame["state"].value_counts()
    shown = [(LOOKS[state], int(states[state])) for state in LOOKS if state in states]
    items = [tag("li", f"{one.icon} {trials} {one.word}", class_=f"chip {one.colour}") for one, trials in shown]
    return tag("ul", *items, class_="chips") if items else Html()


def overview(reading: Reading) -> Html:
    """Is the search still paying off?"""
    title, question = "Overview", "Is the search still paying off?"
    frame = reading.frame
    if frame.empty:
        return section(title, question, tag("p", "No trial has started yet."))
    sentence = advised(reading.record, frame, reading.noise)
    return section(
        title,
        question,
        _numbers(reading),
        tag("p", sentence[:1].upper() + sentence[1:], class_="advice") if sentence else "",
        *(_pictures(reading) if frame["reached"].max() > 0 else [_waiting(reading)]),
    )


def _waiting(reading: Reading) -> Html:
    states = reading.frame["state"].value_counts()
    said = ", ".join(f"{trials} {look(str(state)).word}" for state, trials in states.items())
    if states.keys().isin(("running", "queued")).any():
        return tag("p", f"No trial has reached its first milestone yet: {said}.")
    return tag("p", f"All trials ended without a result: {said}. The causes stand below.")


def _numbers(reading: Reading) -> Html:
    """Five numbers, each with its basis."""
    return _cards(*(told[:3] for told in standing(reading.record, reading.frame, reading.noise)))


def _cards(*found: tuple[str, str, str]) -> Html:
    cards = [
        [tag("dt", label), tag("dd", value, class_="value"), tag("dd", basis, class_="basis")]
        for label, value, basis in found
    ]
    return tag("div", *(tag("dl", *card, class_="card") for card in cards), class_="cards")


def _pictures(reading: Reading) -> list[Html]:
    frame, metric = reading.frame, reading.record.metric
    points = best_so_far(frame, "tokens")
    shown = points.merge(frame[["number", "last"]], on="number", how="left")
    shown["value"] = shown["value"].fillna(shown["last"])  # a pruned trial stands where it stopped
    shown = shown.dropna(subset=["value"])
    best = points["best"].dropna()
    fell = f"the best fell from {number(best.iloc[0])} to {number(best.iloc[-1])}." if len(best) else "no best yet."
    if shown.empty:
        history = tag("p", "No trial has ended yet; the running ones have no place here.")
    else:
        history = figure(
            lambda width: progress.history(shown, reading.band, "tokens", metric, "light"),
            f"{metric} of {len(shown)} finished trials across the tokens trained; {fell}",
            f"━ best so far, ▒ seed noise ±{reading.band:.2g}{' (assumed)' if reading.noise.assumed else ''}. "
            "A pruned trial stands at its last loss and never counts as best. "
            "Points above the picture's top are drawn at its edge. " + history_left_out(shown),
        )
    table = _funnel(reading)
    reached = table["reached"]
    return [
        box("Loss at the full budget", history),
        box(
            "How far trials came",
            figure(
                lambda width: progress.funnel(table, "light"),
                f"{int(reached.iloc[0])} trials reached the first milestone, {int(reached.iloc[-1])} the full budget.",
            ),
        ),
    ]


def _funnel(reading: Reading) -> pd.DataFrame:
    table = funnel(reading.frame, reading.milestones)
    pairs = zip(table["reached"], table["pruned"], strict=True)
    return table.assign(
        budget=[budget_at(reading.record, int(k)) for k in table["milestone"]],
        words=[f"{int(reached)}" + (f", {int(pruned)} pruned" if pruned else "") for reached, pruned in pairs],
    )


def parameters(reading: Reading) -> Html:
    """What should I change in the space?"""
    title, question = "Parameters", "What should be changed in the space?"
    order = [path for path in reading.importance if path in paths(reading.frame)]
    order += [path for path in paths(reading.frame) if path not in order]
    if not order:
        sentence = "This study searches nothing: its space is empty, so all trials differ in their seed alone."
        return section(title, question, tag("p", sentence))
    return section(
        title,
        question,
        two(box("What moves the loss", _importance(reading)), box("Where to look next", _next(reading))),
        box("The loss over each parameter", _slices(reading, order)),
    )


def _importance(reading: Reading) -> Html:
    shares = reading.importance
    if reading.complete < ENOUGH:
        said = f"Importance is hidden: it needs {ENOUGH} complete trials, this study has {reading.complete}."
        return tag("p", said)
    if not shares:
        said = "Importance cannot be judged: no parameter is in every complete trial, or all losses are equal."
        return tag("p", said)
    names, directions = short_names(list(shares)), signs(reading.frame)
    ways = [way(directions.get(path)) for path in shares]
    table = pd.DataFrame(
        {
            "parameter": [names[path] for path in shares],
            "share": list(shares.values()),
            "words": [f"{share:.0%}  {way}" for share, way in zip(shares.values(), ways, strict=True)],
        }
    )
    top = table.iloc[0]
    return figure(
        lambda width: dimensions.importance(table, "light"),
        f"By PED-ANOVA {top['parameter']} matters most: {top['words']}.",
        f"PED-ANOVA over {reading.complete} complete trials: what sets the best tenth apart. "
        "Direction by rank correlation.",
        HALF,
    )


def _next(reading: Reading) -> Html:
    block = narrowed(reading.record, reading.frame)
    if not block:
        return tag("p", f"Too early: {reading.complete} complete trials say nothing about the edges of the space.")
    hit = [edge.sentence[:1].upper() + edge.sentence[1:] + "." for edge in edges(reading.record, reading.frame)]
    return many(
        [
            paragraphs(*(hit or ["No edge is hit: the best trials lie inside the space."])),
            tag(
                "p", "The space around the best, widened where an edge is hit; copy it into a new study:", class_="meta"
            ),
            code(block, "The space to search next, as YAML"),
        ]
    )


def _slices(reading: Reading, order: list[str]) -> Html:
    board = by_path(leaderboard(reading.frame, None, reading.noise))
    if board.empty:
        return tag("p", "No trial is complete yet; a pruned one has no loss at the full budget.")
    shown, metric = order[:SLICES], reading.record.metric
    space = reading.record.spec["space"]
    logs = {path: bool(space.get(path, {}).get("log")) for path in shown}
    hidden, cut = len(reading.frame) - len(board), len(order) - len(shown)
    return figure(
        lambda width: dimensions.slices(
            board[["number", "state", "value", *shown]], shown, logs, metric, "light", *_grid(width, len(shown))
        ),
        f"{metric} of {len(board)} complete trials over {len(shown)} parameters; "
        f"the best is trial {int(board['number'].iloc[0])} at {number(board['value'].iloc[0])}.",
        (f"{hidden} trials without a loss at the full budget are hidden. " if hidden else "")
        + (f"{cut} less important parameters are left out. " if cut else "")
        + "Points above a picture's top are drawn at its edge. "
        + board_left_out(board),
    )


def _grid(width: int, plots: int) -> tuple[int, int]:
    """Columns, and the width of each plot in pixels: what its axis and the gap beside it leave."""
    columns = 1 if width < 600 else min(plots, 2 if plots in (2, 4) else 3)
    return columns, width // columns - _AXIS
