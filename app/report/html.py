"""Markup built from text: whatever is not Html already is escaped, so that no text of a trial can become markup.
Elements only; what a page says is said in the other rooms.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

_VOID = ("meta", "br")


class Html(str):
    """Text that is markup; made here and, for a picture, in picture.py."""

    __slots__ = ()


def tag(name: str, *children: str, **attributes: str) -> Html:
    """One element. ``class_`` and ``aria_label`` name the attributes class and aria-label."""
    pairs = ((key.strip("_").replace("_", "-"), value) for key, value in attributes.items())
    opened = f"<{name}" + "".join(f' {key}="{escape(value, quote=True)}"' for key, value in pairs) + ">"
    return Html(opened if name in _VOID else f"{opened}{_inside(children)}</{name}>")


def many(parts: Iterable[str]) -> Html:
    """Elements one after another."""
    return Html(_inside(parts))


def paragraphs(*sentences: str) -> Html:
    """A paragraph each; empty ones are left out."""
    return many(tag("p", sentence) for sentence in sentences if sentence)


def code(text: str, label: str) -> Html:
    """Text as it stands, to copy."""
    return tag("pre", tag("code", text.rstrip("\n")), tabindex="0", role="region", aria_label=label)


def table(
    caption: str,
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    words: Sequence[int] = (),
    first: Iterable[int] = (),
) -> Html:
    """A table that scrolls on a narrow screen. ``words`` are the columns of text, the others are numbers; ``first``
    the rows that begin a group.
    """
    begins = set(first)
    kinds = ["word" if place in words else "number" for place in range(len(head))]
    top = tag("tr", *(tag("th", one, scope="col", class_=kind) for one, kind in zip(head, kinds, strict=True)))
    body = [
        tag(
            "tr",
            *(tag("td", one, class_=kind) for one, kind in zip(row, kinds, strict=True)),
            **({"class_": "first"} if place in begins else {}),
        )
        for place, row in enumerate(rows)
    ]
    whole = tag("table", tag("thead", top), tag("tbody", *body), aria_label=caption)
    # the caption stays where it is while the table below is moved sideways
    moved = tag("div", whole, class_="scroll", tabindex="0", role="region", aria_label=caption)
    return many([tag("p", caption, class_="meta"), moved])


def box(title: str, *children: str, level: str = "h3") -> Html:
    return tag("div", tag(level, title), *children, class_="box")


def two(*boxes: str) -> Html:
    """Boxes side by side where there is room."""
    return tag("div", *boxes, class_="two")


def section(title: str, question: str, *children: str) -> Html:
    """A part of the report and, under its title, the one question that it answers."""
    return tag("section", tag("h2", title), tag("p", question, class_="question"), *children)


def _inside(parts: Iterable[str]) -> str:
    return "".join(part if isinstance(part, Html) else escape(part) for part in parts)
