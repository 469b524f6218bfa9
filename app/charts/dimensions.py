"""The space in pictures: the importance of parameters, the loss over each, two against each other.
Tables in, charts out; the sentence that a picture shows is its caller's alt text.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd

from app.charts.palette import CROWD, HEIGHT, Picture, colours, domain, states, worded
from app.looks import short_names
from tuner.analysis.trials.sampling import board_sample


def importance(table: pd.DataFrame, theme: str | None) -> Picture:
    """Share of each parameter. ``table``: parameter, share (0 .. 1), words."""
    shades = colours(theme)
    base = alt.Chart(table)
    y = alt.Y("parameter:N", sort=table["parameter"].tolist(), title=None, axis=alt.Axis(labelLimit=160))
    x = alt.X("share:Q", title="share of what moves the loss", axis=alt.Axis(format="%", grid=False, tickCount=5))
    tips = [alt.Tooltip("parameter:N"), alt.Tooltip("share:Q", format=".1%")]
    bars = base.mark_bar(color=shades["blue"], cornerRadiusEnd=3, height={"band": 0.65}).encode(x=x, y=y, tooltip=tips)
    words = base.mark_text(align="left", dx=5, color=shades["gray"]).encode(x=x, y=y, text="words:N")
    return alt.layer(bars, words).properties(height=max(120, 30 * len(table) + 40))


def slices(
    table: pd.DataFrame,
    paths: Sequence[str],
    logs: Mapping[str, bool],
    metric: str,
    theme: str | None,
    columns: int,
    width: int = 320,
) -> Picture:
    """The loss over each parameter; one brush is shared, what is outside of it fades in every picture.

    ``table``: number, state, value and one column a path, best first; of many rows a sample is drawn
    (``board_left_out`` tells of how many it is). ``width`` is that of one plot in pixels.
    """
    names = short_names(paths)
    colour, shape = states(theme, table["state"].tolist())
    brush = alt.selection_interval(name="brush", resolve="global")
    renamed = worded(board_sample(table).rename(columns={path: _field(path) for path in paths}))
    y_domain = domain(table["value"])
    pictures, crowd = [], len(renamed) > CROWD
    for position, path in enumerate(paths):
        scale = alt.Scale(type="log") if logs.get(path) else alt.Scale(zero=False)
        kind = "Q" if pd.api.types.is_numeric_dtype(table[path]) else "N"
        x = alt.X(f"{_field(path)}:N", title=names[path], axis=alt.Axis(labelAngle=0, labelLimit=90))
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
            .mark_point(size=14 if crowd else 55, filled=True)
            .encode(
                x=x,
                y=y,
                color=colour,
                shape=shape,
                opacity=alt.condition(brush, alt.value(0.55 if crowd else 0.9), alt.value(0.12)),
                tooltip=tips,
            )
            .properties(width=width, height=190)
        )
    with warnings.catch_warnings():
        # one brush in all views is what is wanted here
        warnings.filterwarnings("ignore", "Automatically deduplicated selection parameter", UserWarning)
        picture: Picture = alt.concat(*pictures, columns=columns).add_params(brush)
    return picture


def pair(
    table: pd.DataFrame, across: str, up: str, logs: Mapping[str, bool], metric: str, theme: str | None
) -> Picture:
    """Two parameters against each other, the loss as colour and size: large and dark is good.

    ``table``: number, state, value and the two paths, best first; of many rows a sample is drawn.
    """
    renamed = worded(board_sample(table).rename(columns={across: _field(across), up: _field(up)}))
    names = short_names([across, up])

    def channel(kind: Any, path: str) -> Any:
        if not pd.api.types.is_numeric_dtype(table[path]):
            return kind(f"{_field(path)}:N", title=names[path])
        scale = alt.Scale(type="log") if logs.get(path) else alt.Scale(zero=False)
        return kind(
            f"{_field(path)}:Q", title=names[path], scale=scale, axis=alt.Axis(format=".3~g", grid=False, tickCount=8)
        )

    span = domain(table["value"])
    crowd = len(renamed) > CROWD
    scheme = ["#BFE3FF", "#1E3A5C"] if theme == "dark" else ["#0B3D91", "#CFE0F8"]
    picture: Picture = (
        alt.Chart(renamed)
        .mark_point(filled=True, opacity=0.9, stroke=colours(theme)["gray"], strokeWidth=0.6)
        .encode(
            x=channel(alt.X, across),
            y=channel(alt.Y, up),
            color=alt.Color(
                "value:Q",
                title=metric,
                scale=alt.Scale(domain=span, range=scheme, clamp=True),
                legend=alt.Legend(orient="top", gradientLength=180, format=".3~f", tickCount=3),
            ),
            size=alt.Size(
                "value:Q", scale=alt.Scale(domain=span, range=[70, 14] if crowd else [220, 35], clamp=True), legend=None
            ),
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
