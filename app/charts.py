"""The pictures: tables in, Altair charts out, with the palette and a shape or dash beside each colour.
Nothing here reads a store or draws on a page; the sentence that a picture shows is its caller's alt text.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd

from app.parts import LOOKS, short_names

alt.data_transformers.disable_max_rows()

PALETTE = {
    "light": {"blue": "#1F6FEB", "green": "#00A878", "orange": "#B45F00", "violet": "#5E0B3B", "gray": "#6B7280"},
    "dark": {"blue": "#2F8FD8", "green": "#2CC295", "orange": "#F0B429", "violet": "#E0559F", "gray": "#CBD5E1"},
}
Picture = alt.Chart | alt.LayerChart | alt.FacetChart | alt.ConcatChart
DASHES = [[1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [12, 3], [4, 1]]
AXES = {"tokens": "tokens trained", "hours": "hours of training", "trials": "trials finished", "flops": "FLOPs"}
HEIGHT = 340


def _colours(theme: str | None) -> dict[str, str]:
    return PALETTE["dark" if theme == "dark" else "light"]


def _states(theme: str | None, present: Sequence[str]) -> tuple[alt.Color, alt.Shape]:
    """Colour and shape of the states that occur, in one legend."""
    shown = [state for state in LOOKS if state in set(present)]
    words = [LOOKS[state].word for state in shown]
    colours = [_colours(theme)[LOOKS[state].colour] for state in shown]
    legend = alt.Legend(title=None, orient="top", symbolStrokeWidth=2)
    return (
        alt.Color("word:N", scale=alt.Scale(domain=words, range=colours), legend=legend),
        alt.Shape("word:N", scale=alt.Scale(domain=words, range=[LOOKS[s].shape for s in shown]), legend=legend),
    )


def worded(table: pd.DataFrame) -> pd.DataFrame:
    """With the word of each state beside it."""
    return table.assign(word=table["state"].map(lambda state: LOOKS[state].word if state in LOOKS else state))


def history(points: pd.DataFrame, band: float, axis: str, metric: str, theme: str | None) -> Picture:
    """Best so far over what was spent. ``points``: x, value, best, number, state; ``band`` is half a tie's width."""
    colours, table = _colours(theme), worded(points)
    x = alt.X("x:Q", title=AXES[axis], axis=alt.Axis(format="~s", grid=False, tickCount=8), scale=alt.Scale(zero=False))
    y_title = f"{metric} (nats a token)" if metric == "val_loss" else metric
    scale = alt.Scale(domain=_history_domain(table), clamp=True, nice=False, zero=False)
    y = alt.Y("value:Q", title=y_title, scale=scale)
    colour, shape = _states(theme, table["state"].tolist())
    base = alt.Chart(table)
    tips = [
        alt.Tooltip("number:Q", title="trial"),
        alt.Tooltip("word:N", title="state"),
        alt.Tooltip("value:Q", title=metric, format=".6f"),
        alt.Tooltip("best:Q", title="best so far", format=".6f"),
        alt.Tooltip("x:Q", title=AXES[axis], format=".4s"),
    ]
    noise = (
        base.transform_calculate(low=f"datum.best - {band}", high=f"datum.best + {band}")
        .mark_area(opacity=0.16, color=colours["blue"], interpolate="step-after", clip=True)
        .encode(x=x, y=alt.Y("low:Q", title=y_title, scale=scale), y2="high:Q")
    )
    line = (
        base.transform_filter("isValid(datum.best)")
        .mark_line(
            color=colours["blue"], strokeWidth=3 if len(table) > 400 else 2.5, interpolate="step-after", clip=True
        )
        .encode(x=x, y=alt.Y("best:Q", title=y_title, scale=scale))
    )
    crowd = len(table) > 400
    dots = base.mark_point(size=16 if crowd else 60, filled=True, opacity=0.35 if crowd else 0.9).encode(
        x=x, y=y, color=colour, shape=shape, tooltip=tips
    )
    return alt.layer(noise, dots, line).properties(height=HEIGHT)  # the line is the answer: no crowd hides it


def _history_domain(table: pd.DataFrame) -> list[float]:
    """What the complete ones span and half as much above: pruned ones stopped early and stand far higher."""
    complete = table.loc[table["state"] == "complete", "value"].dropna()
    if len(complete) < 2 or complete.max() == complete.min():
        return _domain(table["value"])
    low, high = _domain(complete)
    return [low, max(high, low + 1.5 * (min(float(complete.max()), high) - low))]


def _domain(values: pd.Series) -> list[float]:
    """From just below the best to where most trials ended: a few that blew up must not flatten the rest."""
    real = values.dropna()
    if real.empty:
        return [0.0, 1.0]
    low, median, high = float(real.min()), float(real.median()), float(real.max())
    top = min(high, median + 3 * (median - low)) if median > low else high
    margin = (top - low) * 0.08 or 0.05
    return [low - margin, top + margin]


def curves(
    table: pd.DataFrame,
    axis: str,
    column: str,
    metric: str,
    theme: str | None,
    strong: int | None = None,
    faint: pd.DataFrame | None = None,
) -> Picture:
    """A line a trial with its name at its end. ``table``: label, ``axis``, ``column``; ``faint``: the same columns,
    a gray reference such as the median; ``strong`` is how many of the first labels are drawn thick.
    """
    colours = _colours(theme)
    labels = list(dict.fromkeys(table["label"]))
    palette = [colours[name] for name in ("blue", "orange", "green", "violet", "gray")]
    spread = [palette[i % len(palette)] for i in range(len(labels))]
    dashes = [DASHES[i % len(DASHES)] for i in range(len(labels))]
    whole = alt.Axis(format="d", grid=False, tickMinStep=1)
    x = alt.X(
        f"{axis}:Q",
        title=axis.replace("seconds", "seconds of training"),
        axis=whole if axis == "milestone" else alt.Axis(format="~s", grid=False, tickCount=8),
    )
    domain = _curve_domain(table[column])
    y_scale = alt.Scale(domain=domain, clamp=True, nice=False, zero=False)
    y = alt.Y(f"{column}:Q", title=metric, scale=y_scale)
    colour = alt.Color("label:N", scale=alt.Scale(domain=labels, range=spread), legend=None)
    rows = table.dropna(subset=[axis, column])
    lines = (
        alt.Chart(rows)
        .mark_line(strokeWidth=2.2, clip=True, point=alt.OverlayMarkDef(size=14, filled=True))
        .encode(
            x=x,
            y=y,
            color=colour,
            strokeDash=alt.StrokeDash("label:N", scale=alt.Scale(domain=labels, range=dashes), legend=None),
            tooltip=[
                alt.Tooltip("label:N", title="trial"),
                alt.Tooltip(f"{axis}:Q", format=".4s"),
                alt.Tooltip(f"{column}:Q", title=metric, format=".6f"),
            ],
        )
    )
    ends = rows.sort_values(axis).groupby("label", sort=False).tail(1)
    names = (
        alt.Chart(_apart(ends, column, domain))
        .mark_text(align="left", dx=6, fontSize=12, fontWeight=600)
        .encode(x=x, y=alt.Y("place:Q", title=metric, scale=y_scale), text="label:N", color=colour)
    )
    layers = [lines, names]
    if faint is not None and not faint.empty:
        gray = alt.Chart(faint.dropna(subset=[axis, column]))
        layers.insert(
            0,
            gray.mark_line(color=colours["gray"], strokeDash=[3, 3], strokeWidth=1.6, opacity=0.9, clip=True).encode(
                x=x, y=y, detail="label:N"
            ),
        )
        end = faint.dropna(subset=[axis, column]).sort_values(axis).groupby("label").tail(1)
        layers.append(
            alt.Chart(end)
            .mark_text(align="left", dx=6, fontSize=11, color=colours["gray"])
            .encode(x=x, y=y, text="label:N")
        )
    return alt.layer(*layers).properties(height=HEIGHT, padding={"right": 76, "left": 0, "top": 8, "bottom": 0})


def _apart(ends: pd.DataFrame, column: str, domain: list[float]) -> pd.DataFrame:
    """Where the names at the ends go, so that none covers another: at least a twentieth of the height between two."""
    ordered = ends.sort_values(column)
    gap, places, last = (domain[1] - domain[0]) / 16, [], float("-inf")
    for value in ordered[column]:
        last = max(float(value), last + gap)
        places.append(last)
    return ordered.assign(place=places)


def _curve_domain(values: pd.Series) -> list[float]:
    """Without the first fall, which is alike for all and hides the end."""
    real = values.dropna()
    if real.empty:
        return [0.0, 1.0]
    low, high = float(real.min()), float(real.max() if len(real) < 60 else real.quantile(0.97))
    margin = (high - low) * 0.05 or 0.05
    return [low - margin, high + margin]


def funnel(table: pd.DataFrame, theme: str | None) -> Picture:
    """How many trials reached each milestone. ``table``: milestone, budget (words), reached, pruned."""
    colours = _colours(theme)
    order = alt.Y(
        "budget:N", sort=table["budget"].tolist(), title=None, axis=alt.Axis(labelLimit=140, labelOverlap=False)
    )
    base = alt.Chart(table)
    tips = [
        alt.Tooltip("budget:N", title="at"),
        alt.Tooltip("reached:Q", title="reached"),
        alt.Tooltip("pruned:Q", title="pruned there"),
    ]
    whole = alt.X("reached:Q", title="trials that came so far", axis=alt.Axis(tickMinStep=1, grid=False))
    bars = base.mark_bar(color=colours["blue"], cornerRadiusEnd=3, height={"band": 0.7}).encode(
        x=whole, y=order, tooltip=tips
    )
    words = base.mark_text(align="left", dx=5, color=colours["gray"]).encode(x=whole, y=order, text=alt.Text("words:N"))
    return alt.layer(bars, words).properties(height=max(140, 26 * len(table) + 40))


def importance(table: pd.DataFrame, theme: str | None) -> Picture:
    """Share of each parameter. ``table``: parameter, share (0 .. 1), words."""
    colours = _colours(theme)
    base = alt.Chart(table)
    y = alt.Y("parameter:N", sort=table["parameter"].tolist(), title=None, axis=alt.Axis(labelLimit=160))
    x = alt.X("share:Q", title="share of what moves the loss", axis=alt.Axis(format="%", grid=False, tickCount=5))
    tips = [alt.Tooltip("parameter:N"), alt.Tooltip("share:Q", format=".1%")]
    bars = base.mark_bar(color=colours["blue"], cornerRadiusEnd=3, height={"band": 0.65}).encode(x=x, y=y, tooltip=tips)
    words = base.mark_text(align="left", dx=5, color=colours["gray"]).encode(x=x, y=y, text="words:N")
    return alt.layer(bars, words).properties(height=max(120, 30 * len(table) + 40))


def slices(
    table: pd.DataFrame, paths: Sequence[str], logs: Mapping[str, bool], metric: str, theme: str | None, columns: int
) -> Picture:
    """The loss over each parameter; one brush is shared, what is outside of it fades in every picture.

    ``table``: number, state, value and one column a path.
    """
    names = short_names(paths)
    colour, shape = _states(theme, table["state"].tolist())
    brush = alt.selection_interval(name="brush", resolve="global")
    renamed = worded(table.rename(columns={path: _field(path) for path in paths}))
    y_domain = _domain(table["value"])
    pictures = []
    for position, path in enumerate(paths):
        scale = alt.Scale(type="log") if logs.get(path) else alt.Scale(zero=False)
        kind = "Q" if pd.api.types.is_numeric_dtype(table[path]) else "N"
        x = alt.X(f"{_field(path)}:{kind}", title=names[path], scale=scale if kind == "Q" else alt.Undefined)
        if kind == "Q":
            x = alt.X(
                f"{_field(path)}:Q",
                title=names[path],
                scale=scale,
                axis=alt.Axis(format=".3~g", grid=False, tickCount=4),
            )
        y = alt.Y(
            "value:Q",
            title=metric if position % columns == 0 else None,
            scale=alt.Scale(domain=y_domain, clamp=True, nice=False),
            axis=alt.Axis(tickCount=5),
        )
        tips = [
            alt.Tooltip("number:Q", title="trial"),
            alt.Tooltip("word:N", title="state"),
            alt.Tooltip("value:Q", title=metric, format=".6f"),
            alt.Tooltip(f"{_field(path)}:{kind}", title=names[path]),
        ]
        pictures.append(
            alt.Chart(renamed)
            .mark_point(size=55, filled=True)
            .encode(
                x=x,
                y=y,
                color=colour,
                shape=shape,
                opacity=alt.condition(brush, alt.value(0.9), alt.value(0.12)),
                tooltip=tips,
            )
            .properties(width=320, height=190)
        )
    with warnings.catch_warnings():
        # one brush in all views is what is wanted here
        warnings.filterwarnings("ignore", "Automatically deduplicated selection parameter", UserWarning)
        picture: Picture = alt.concat(*pictures, columns=columns).add_params(brush)
    return picture


def pair(
    table: pd.DataFrame, across: str, up: str, logs: Mapping[str, bool], metric: str, theme: str | None
) -> Picture:
    """Two parameters against each other, the loss as colour and size: large and dark is good."""
    renamed = worded(table.rename(columns={across: _field(across), up: _field(up)}))
    names = short_names([across, up])

    def channel(kind: Any, path: str) -> Any:
        if not pd.api.types.is_numeric_dtype(table[path]):
            return kind(f"{_field(path)}:N", title=names[path])
        scale = alt.Scale(type="log") if logs.get(path) else alt.Scale(zero=False)
        return kind(
            f"{_field(path)}:Q", title=names[path], scale=scale, axis=alt.Axis(format=".3~g", grid=False, tickCount=8)
        )

    domain = _domain(table["value"])
    scheme = ["#BFE3FF", "#1E3A5C"] if theme == "dark" else ["#0B3D91", "#CFE0F8"]
    picture: Picture = (
        alt.Chart(renamed)
        .mark_point(filled=True, opacity=0.9, stroke=_colours(theme)["gray"], strokeWidth=0.6)
        .encode(
            x=channel(alt.X, across),
            y=channel(alt.Y, up),
            color=alt.Color(
                "value:Q",
                title=metric,
                scale=alt.Scale(domain=domain, range=scheme, clamp=True),
                legend=alt.Legend(orient="top", gradientLength=180, format=".3~f", tickCount=3),
            ),
            size=alt.Size("value:Q", scale=alt.Scale(domain=domain, range=[220, 35], clamp=True), legend=None),
            tooltip=[
                alt.Tooltip("number:Q", title="trial"),
                alt.Tooltip("word:N", title="state"),
                alt.Tooltip("value:Q", title=metric, format=".6f"),
                alt.Tooltip(_field(across), title=names[across]),
                alt.Tooltip(_field(up), title=names[up]),
            ],
        )
        .properties(height=HEIGHT)
    )
    return picture


def _field(path: str) -> str:
    """A column's name without the dots and brackets that Vega reads as a way into an object."""
    return "p_" + "".join(letter if letter.isalnum() else "_" for letter in path)
