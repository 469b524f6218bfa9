"""What every picture shares: the palette, the look of the states, where an axis ends. No streamlit: a report draws too.
A shape, dash or word stands beside each colour; pictures themselves are in the rooms beside.
"""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd
from altair.utils import schemapi

from app.looks import LOOKS

alt.data_transformers.disable_max_rows()
schemapi.disable_debug_mode()  # else every part of a chart is checked on its own, as well as the whole

PALETTE = {
    "light": {"blue": "#1F6FEB", "green": "#00A878", "orange": "#B45F00", "violet": "#5E0B3B", "gray": "#6B7280"},
    "dark": {"blue": "#2F8FD8", "green": "#2CC295", "orange": "#F0B429", "violet": "#E0559F", "gray": "#CBD5E1"},
}
GROUND = {"light": "#FFFFFF", "dark": "#0F172A"}
Picture = alt.Chart | alt.LayerChart | alt.FacetChart | alt.ConcatChart
HEIGHT = 340
CROWD = 200
"""Points from which on they are drawn small and pale, so that those below are seen too."""


def colours(theme: str | None) -> dict[str, str]:
    return PALETTE["dark" if theme == "dark" else "light"]


def states(theme: str | None, present: Sequence[str]) -> tuple[alt.Color, alt.Shape]:
    """Colour and shape of the states that occur, in one legend where there are several."""
    shown = [state for state in LOOKS if state in set(present)]
    words = [LOOKS[state].word for state in shown]
    shades = [colours(theme)[LOOKS[state].colour] for state in shown]
    legend = alt.Legend(title=None, orient="top", symbolStrokeWidth=2) if len(shown) > 1 else None
    return (
        alt.Color("word:N", scale=alt.Scale(domain=words, range=shades), legend=legend),
        alt.Shape("word:N", scale=alt.Scale(domain=words, range=[LOOKS[s].shape for s in shown]), legend=legend),
    )


def worded(table: pd.DataFrame) -> pd.DataFrame:
    """With the word of each state beside it."""
    return table.assign(word=table["state"].map(lambda state: LOOKS[state].word if state in LOOKS else state))


def domain(values: pd.Series) -> list[float]:
    """From just below the best to where most trials ended: a few that blew up must not flatten the rest."""
    real = values.dropna()
    if real.empty:
        return [0.0, 1.0]
    low, median, high = float(real.min()), float(real.median()), float(real.max())
    top = min(high, median + 3 * (median - low)) if median > low else high
    margin = (top - low) * 0.08 or 0.05
    return [low - margin, top + margin]
