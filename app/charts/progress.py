"""Progress in pictures: the best so far over what was spent, and how far trials came.
Tables in, charts out; the sentence that a picture shows is its caller's alt text.
"""

from __future__ import annotations

import altair as alt
import pandas as pd

from app.charts.palette import HEIGHT, Picture, colours, domain, states, worded
from tuner.analysis.trials.sampling import history_sample

AXES = {"tokens": "tokens trained", "hours": "hours of training", "trials": "trials finished", "flops": "FLOPs"}


def history(points: pd.DataFrame, band: float, axis: str, metric: str, theme: str | None) -> Picture:
    """Best so far over what was spent. ``points``: x, value, best, number, state; ``band`` is half a tie's width.

    Of many points a sample is drawn (``history_left_out`` tells of how many it is); the line loses nothing.
    """
    shades, table = colours(theme), worded(history_sample(points))
    x = alt.X("x:Q", title=AXES[axis], axis=alt.Axis(format="~s", grid=False, tickCount=8), scale=alt.Scale(zero=False))
    y_title = f"{metric} (nats)" if metric == "val_loss" else metric
    scale = alt.Scale(domain=_history_domain(points), clamp=True, nice=False, zero=False)
    y = alt.Y("value:Q", title=y_title, scale=scale)
    colour, shape = states(theme, table["state"].tolist())
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
        .mark_area(opacity=0.16, color=shades["blue"], interpolate="step-after", clip=True)
        .encode(x=x, y=alt.Y("low:Q", title=y_title, scale=scale), y2="high:Q")
    )
    line = (
        base.transform_filter("isValid(datum.best)")
        .mark_line(
            color=shades["blue"], strokeWidth=3 if len(table) > 400 else 2.5, interpolate="step-after", clip=True
        )
        .encode(x=x, y=alt.Y("best:Q", title=y_title, scale=scale))
    )
    crowd = len(table) > 400
    dots = base.mark_point(size=16 if crowd else 60, filled=True, opacity=0.35 if crowd else 0.9).encode(
        x=x, y=y, color=colour, shape=shape, tooltip=tips
    )
    return alt.layer(noise, dots, line).properties(height=HEIGHT)  # the line is the answer: no crowd hides it


def _history_domain(points: pd.DataFrame) -> list[float]:
    """What the complete ones span and half as much above: pruned ones stopped early and stand far higher."""
    complete = points.loc[points["state"] == "complete", "value"].dropna()
    if len(complete) < 2 or complete.max() == complete.min():
        return domain(points["value"])
    low, high = domain(complete)
    return [low, max(high, low + 1.5 * (min(float(complete.max()), high) - low))]


def funnel(table: pd.DataFrame, theme: str | None) -> Picture:
    """How many trials reached each milestone. ``table``: milestone, budget (words), reached, pruned."""
    shades = colours(theme)
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
    bars = base.mark_bar(color=shades["blue"], cornerRadiusEnd=3, height={"band": 0.7}).encode(
        x=whole, y=order, tooltip=tips
    )
    words = base.mark_text(align="left", dx=5, color=shades["gray"]).encode(x=whole, y=order, text=alt.Text("words:N"))
    return alt.layer(bars, words).properties(height=max(140, 26 * len(table) + 40))
