"""A chart as a picture inside the page: SVG for a wide and for a narrow screen, in colours that follow the theme.
Which chart it is, is said by its caller; no browser, no script and no request is needed to see it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import vl_convert

from app.charts.palette import GROUND, PALETTE, Picture
from app.report.html import Html, many, tag

WIDE, HALF, NARROW = 1000, 470, 316
"""Widths in CSS pixels: across the page, in one of two columns, on a phone."""

INK = {"ink": "#1B2430", "soft": "#565E6C", "line": "#DDE3EA"}
"""Texts, quiet texts and lines of the light theme; the style sheet says what they are in the dark one."""

_FONT = "Helvetica, Arial, sans-serif"
_CONFIG: Mapping[str, Any] = {
    "aria": False,
    "background": None,
    "font": _FONT,
    "view": {"stroke": None},
    "axis": {
        "labelColor": INK["soft"], "titleColor": INK["soft"], "gridColor": INK["line"], "domainColor": INK["line"],
        "tickColor": INK["line"], "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal",
    },
    "legend": {"labelColor": INK["soft"], "titleColor": INK["soft"], "labelFontSize": 12, "titleFontSize": 12},
}  # fmt: skip
_COLOURS = {
    hexadecimal.lower(): name for name, hexadecimal in {**PALETTE["light"], **INK, "page": GROUND["light"]}.items()
}

Draw = Callable[[int], Picture]
"""A width in pixels -> the chart."""


def figure(draw: Draw, alt_text: str, caption: str = "", wide: int = WIDE) -> Html:
    """The chart twice, of which the screen shows one; ``alt_text`` is what it says, in a sentence."""
    widths = {"wide": wide, "narrow": NARROW}
    pictures = [tag("div", svg(draw(width), width), class_=kind) for kind, width in widths.items()]
    shown = tag("div", *pictures, role="img", aria_label=alt_text)
    return tag("figure", many([shown, tag("figcaption", caption)]) if caption else shown)


def svg(chart: Picture, width: int) -> Html:
    """The chart as an SVG element of at most ``width`` pixels, its names its own and its colours those of the page."""
    spec = chart.to_dict()
    spec["config"] = dict(_CONFIG)
    spec.pop("padding", None)  # room for the names at the ends of curves, which the width below counts already
    if "concat" not in spec:
        spec |= {"width": width, "autosize": {"type": "fit-x", "contains": "padding"}}
    drawn = vl_convert.vegalite_to_svg(json.dumps(spec), allowed_base_urls=[])
    drawn = re.sub(r' (?:xmlns(?::\w+)?|class|role|aria-\w+)="[^"]*"', "", drawn)  # marks say nothing: the figure does
    drawn = re.sub(r' (?:d|transform)="[^"]*"', _rounded, drawn)
    drawn = re.sub(r"#[0-9a-fA-F]{6}\b", _themed, drawn)
    mark = f"p{hashlib.sha256(drawn.encode()).hexdigest()[:8]}-"  # two pictures must not share a clip path's name
    return Html(re.sub(r'(\bid="|url\(#)', rf"\g<1>{mark}", drawn))


def _rounded(found: re.Match[str]) -> str:
    """Coordinates with two decimals: more are a third of the page and nobody sees them."""
    return re.sub(r"(\.\d\d)\d+", r"\1", found[0])


def _themed(found: re.Match[str]) -> str:
    name = _COLOURS.get(found[0].lower())
    return f"var(--{name})" if name else found[0]
