"""Loss against cost in a picture: the front that nothing beats as a staircase, all other trials behind it.
A table in, a chart out; the sentence that a picture shows is its caller's alt text.
"""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from app.charts.palette import CROWD, GROUND, HEIGHT, Picture, colours, domain
from tuner.analysis.trials.pareto import SAID, Cost
from tuner.analysis.trials.sampling import front_sample

KINDS = ("best for its cost", "best by noise", "beaten")
"""What a trial may be: on the front, there with a cheaper one as good, behind it. The shape says it, not colour alone.
"""

_NAMED = 8
"""Trials on the front with their number beside them; of more every so many."""

_WIDE = 20.0
"""Costs further apart than by this factor stand on a logarithmic axis."""


def pareto(table: pd.DataFrame, cost: Cost, metric: str, theme: str | None) -> Picture:
    """Loss over cost. ``table``: that of ``tuner.analysis.trials.pareto.pareto``, not empty; of many rows a sample is
    drawn (``front_left_out`` tells of how many it is).
    """
    shades, few = colours(theme), front_sample(table)
    noise = few["on_front"] & few["as_good"].notna()
    few = few.assign(kind=np.select([noise, few["on_front"]], [KINDS[1], KINDS[0]], KINDS[2]))
    front = few[few["on_front"]]
    low, high = float(table["cost"].min()), float(table["cost"].max())
    wide = low > 0 and high > _WIDE * low
    x = alt.X(
        "cost:Q",
        title="seconds of training" if cost == "seconds" else SAID[cost],
        scale=alt.Scale(type="log", padding=16) if wide else alt.Scale(zero=False, nice=False, padding=16),
        axis=alt.Axis(format="~s", grid=False, tickCount=6),
    )
    ends = domain(table["value"])
    y = alt.Y("value:Q", title=metric, scale=alt.Scale(domain=ends, clamp=True, nice=False, zero=False))
    crowd = len(few) > CROWD
    present = [kind for kind in KINDS if kind in set(few["kind"])]
    looks = {KINDS[0]: ("blue", "circle"), KINDS[1]: ("orange", "triangle-up"), KINDS[2]: ("gray", "cross")}
    legend = alt.Legend(title=None, orient="top", columns=2, labelLimit=300)
    fills = alt.Scale(domain=present, range=[shades[looks[kind][0]] for kind in present])
    marks = alt.Scale(domain=present, range=[looks[kind][1] for kind in present])
    points = (
        alt.Chart(few)
        .mark_point(filled=True)
        .encode(
            x=x,
            y=y,
            color=alt.Color("kind:N", scale=fills, legend=legend),
            shape=alt.Shape("kind:N", scale=marks, legend=legend),
            size=alt.condition("datum.on_front", alt.value(80), alt.value(16 if crowd else 45)),
            opacity=alt.condition("datum.on_front", alt.value(0.95), alt.value(0.35 if crowd else 0.85)),
            tooltip=[
                alt.Tooltip("number:Q", title="trial"),
                alt.Tooltip("value:Q", title=metric, format=".6f"),
                alt.Tooltip("cost:Q", title=SAID[cost], format=".4s"),
                alt.Tooltip("kind:N", title="is"),
                alt.Tooltip("as_good:Q", title="as good and cheaper: trial"),
            ],
        )
    )
    steps = (
        alt.Chart(front)
        .mark_line(color=shades["blue"], strokeWidth=2, interpolate="step-after", clip=True)
        .encode(x=x, y=y)
    )
    named = alt.Chart(_named(front)).encode(x=x, y=y, text="number:Q")
    style: dict[str, Any] = {"align": "left", "dx": 7, "dy": -8, "fontSize": 12, "fontWeight": 600}
    ground = GROUND["dark" if theme == "dark" else "light"]
    halo = named.mark_text(**style, color=ground, stroke=ground, strokeWidth=4)  # else a crowd eats the numbers
    return alt.layer(points, steps, halo, named.mark_text(**style, color=shades["blue"])).properties(height=HEIGHT)


def _named(front: pd.DataFrame) -> pd.DataFrame:
    """The best, the cheapest that is as good, and of those that no cheaper one matches so many as can be read."""
    best = front.iloc[-1]
    told = front["number"].isin([best["number"], best["as_good"]])
    true = front[front["as_good"].isna() & ~told]
    return pd.concat([front[told], true.iloc[:: max(1, -(-len(true) // _NAMED))]])
