"""The space in pictures: the importance of parameters, the loss over each, two against each other.
Tables in, charts out; the sentence that a picture shows is its caller's alt text.
"""

from __future__ import annotations

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
    y = alt.Y(
        "parameter:N", sort=table["parameter"].tolist(), title=None, axis=alt.Axis(labelLimit=160, labelOverlap=False)
    )
    x = alt.X("share:Q", title="share of what moves the loss", axis=alt.Axis(format="%", grid=False, tickCount=5))
    tips = [alt.Tooltip("parameter:N"), alt.Tooltip("share:Q", format=".1%")]
    bars = base.mark_bar(color=shades["blue"], cornerRadiusEnd=3, height={"band": 0.65}).encode(x=x, y=y, tooltip=tips)
    words = base.mark_text(align="left", dx=5, color=shades["gray"]).encode(x=x, y=y, text="words:N")
    return alt.layer(bars, words).properties(height=max(120, 30 * len(table) + 40))


def slice_of(
    table: pd.DataFrame, path: str, log: bool, metric: str, theme: str | None, brushed: bool = False, width: int = 320
) -> Picture:
    """The loss over one parameter. ``table``: number, state, value and the path, best first, of which a sample is drawn
    (``board_left_out`` tells of how many); where it has the column ``inside``, rows without it fade.

    ``brushed`` lets a range be dragged, which comes back under the name ``brush``.
    """
    name = short_names([path])[path]
    shown = worded(board_sample(table).rename(columns={path: field(path)}))
    colour, shape = states(theme, table["state"].tolist())
    crowd, kind = len(shown) > CROWD, "Q" if pd.api.types.is_numeric_dtype(table[path]) else "N"
    x = alt.X(f"{field(path)}:N", title=name, axis=alt.Axis(labelAngle=0, labelLimit=90))
    if kind == "Q":
        scale = alt.Scale(type="log") if log else alt.Scale(zero=False)
        x = alt.X(f"{field(path)}:Q", title=name, scale=scale, axis=alt.Axis(format=".3~g", grid=False, tickCount=4))
    span = alt.Scale(domain=domain(table["value"]), clamp=True, nice=False)
    strong = 0.55 if crowd else 0.9
    fades = "inside" in table
    picture: Picture = (
        alt.Chart(shown)
        .mark_point(size=14 if crowd else 55, filled=True)
        .encode(
            x=x,
            y=alt.Y("value:Q", title=metric, scale=span, axis=alt.Axis(tickCount=5)),
            color=colour,
            shape=shape,
            opacity=alt.condition("datum.inside", alt.value(strong), alt.value(0.1)) if fades else alt.value(strong),
            tooltip=[
                alt.Tooltip("number:Q", title="trial"),
                alt.Tooltip("word:N", title="state"),
                alt.Tooltip("value:Q", title=metric, format=".6f"),
                alt.Tooltip(f"{field(path)}:{kind}", title=name),
            ],
        )
        .properties(width=width, height=190)
    )
    return picture.add_params(alt.selection_interval(name="brush")) if brushed else picture


def slices(
    table: pd.DataFrame,
    paths: Sequence[str],
    logs: Mapping[str, bool],
    metric: str,
    theme: str | None,
    columns: int,
    width: int = 320,
) -> Picture:
    """The loss over each parameter, side by side on paper; ``width`` is that of one plot in pixels."""
    pictures = [slice_of(table, path, logs.get(path, False), metric, theme, width=width) for path in paths]
    picture: Picture = alt.concat(*pictures, columns=columns)
    return picture


def pair(
    table: pd.DataFrame, across: str, up: str, logs: Mapping[str, bool], metric: str, theme: str | None
) -> Picture:
    """Two parameters against each other, the loss as colour and size: large and dark is good.

    ``table``: number, state, value and the two paths, best first; of many rows a sample is drawn.
    """
    renamed = worded(board_sample(table).rename(columns={across: field(across), up: field(up)}))
    names = short_names([across, up])

    def channel(kind: Any, path: str) -> Any:
        if not pd.api.types.is_numeric_dtype(table[path]):
            return kind(f"{field(path)}:N", title=names[path])
        scale = alt.Scale(type="log") if logs.get(path) else alt.Scale(zero=False)
        return kind(
            f"{field(path)}:Q", title=names[path], scale=scale, axis=alt.Axis(format=".3~g", grid=False, tickCount=8)
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
                alt.Tooltip(field(across), title=names[across]),
                alt.Tooltip(field(up), title=names[up]),
            ],
        )
        .properties(height=HEIGHT)
    )
    return picture


def field(path: str) -> str:
    """A path's column without the dots and brackets that Vega reads as a way into an object."""
    return "p_" + "".join(letter if letter.isalnum() else "_" for letter in path)
