"""Curves in pictures: a line a trial with its name at its end.
Tables in, charts out; the sentence that a picture shows is its caller's alt text.
"""

from __future__ import annotations

import altair as alt
import pandas as pd

from app.charts.palette import HEIGHT, Picture, colours

DASHES = [[1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [12, 3], [4, 1]]


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
    shades = colours(theme)
    labels = list(dict.fromkeys(table["label"]))
    palette = [shades[name] for name in ("blue", "orange", "green", "violet", "gray")]
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
    ends = _ends(rows, axis, column)
    last = pd.concat([ends, *([] if faint is None else [_ends(faint, axis, column)])])
    placed = _apart(last, column, domain)
    names = (
        alt.Chart(placed[placed["label"].isin(labels)])
        .mark_text(align="left", dx=6, fontSize=12, fontWeight=600)
        .encode(x=x, y=alt.Y("place:Q", title=metric, scale=y_scale), text="label:N", color=colour)
    )
    layers = [lines, names]
    if faint is not None and not faint.empty:
        gray = alt.Chart(faint.dropna(subset=[axis, column]))
        layers.insert(
            0,
            gray.mark_line(color=shades["gray"], strokeDash=[3, 3], strokeWidth=1.6, opacity=0.9, clip=True).encode(
                x=x, y=y, detail="label:N"
            ),
        )
        layers.append(
            alt.Chart(placed[~placed["label"].isin(labels)])
            .mark_text(align="left", dx=6, fontSize=11, color=shades["gray"])
            .encode(x=x, y=alt.Y("place:Q", title=metric, scale=y_scale), text="label:N")
        )
    return alt.layer(*layers).properties(height=HEIGHT, padding={"right": 76, "left": 0, "top": 8, "bottom": 0})


def _ends(table: pd.DataFrame, axis: str, column: str) -> pd.DataFrame:
    """The last point of each line."""
    return table.dropna(subset=[axis, column]).sort_values(axis).groupby("label", sort=False).tail(1)


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
