"""What was taken for what, in a picture: a row for each class, a column for each answer, the darker the more of a row.
A table in, a chart out; the number of texts stands in each field, so that no shade has to be read.
"""

from __future__ import annotations

import altair as alt
import pandas as pd

from app.charts.palette import GROUND, Picture, colours

FIELD, ABOVE = 26, 100
"""Pixels of a class, and of the answers' names above."""


def confusion(pairs: pd.DataFrame, theme: str | None) -> Picture:
    """``pairs`` as ``tuner.analysis.trials.confusion`` has them."""
    shades, ground = colours(theme), GROUND["dark" if theme == "dark" else "light"]
    order = list(dict.fromkeys(pairs["truth"]))
    base = alt.Chart(pairs).encode(
        x=alt.X(
            "said:N",
            sort=order,
            title="taken for",
            axis=alt.Axis(labelLimit=90, labelAngle=-45, orient="top", labelOverlap=False),
        ),
        y=alt.Y("truth:N", sort=order, title="is", axis=alt.Axis(labelLimit=110, labelOverlap=False)),
        tooltip=["truth", "said", "count", alt.Tooltip("share:Q", format=".0%", title="of its class")],
    )
    scale = alt.Scale(domain=[0, 1], range=[ground, shades["blue"]], interpolate="rgb")
    fields = base.mark_rect(stroke=shades["gray"], strokeOpacity=0.25).encode(
        color=alt.Color("share:Q", scale=scale, legend=None)
    )
    ink = alt.condition(
        "datum.share > 0.5", alt.value(GROUND["light"]), alt.value(GROUND["light" if theme == "dark" else "dark"])
    )
    numbers = base.mark_text(fontSize=11).encode(text="count:Q", color=ink).transform_filter("datum.count > 0")
    return alt.layer(fields, numbers).properties(height=ABOVE + FIELD * len(order))
