"""The doctor's words: chapters as they come, or all of them as JSON; 1 where something is left to do.
Printing only; what is looked at and mended is visit.py's matter.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tuner.doctor.findings import Chapter
from tuner.doctor.visit import Visit
from tuner.tracking.store import shown

SHOWN = 20
"""Sentences of one chapter on a screen: what went wrong once went wrong for every trial."""


def run_doctor(url: str, runs: Path, studies: Sequence[str], fix: bool, as_json: bool) -> int:
    """Examine, mend where ``fix`` says so, and say it; the exit code.

    Raises:
        StoreError: no such study, or no such URL.
    """
    console, found = Console(), []
    visit = Visit(url, runs, fix).chapters(studies)
    if as_json:
        found = list(visit)
        left = sum(len(chapter.left) for chapter in found)
        told = {"storage": shown(url), "sound": not left, "chapters": [chapter.as_data() for chapter in found]}
        print(json.dumps(told, indent=1))
        return int(left > 0)
    while True:
        with console.status("looking"):
            chapter = next(visit, None)
        if chapter is None:
            break
        found.append(chapter)
        _print(console, chapter)
    console.print(_verdict(found), highlight=False)
    return int(any(chapter.left for chapter in found))


def _print(console: Console, chapter: Chapter) -> None:
    """A chapter's head, then a mark and a sentence each, indented where they take more than a line."""
    sound = "" if chapter.left or chapter.mended else "sound"
    words = ": ".join(filter(None, (chapter.subject, "; ".join(filter(None, (chapter.looked, sound))))))
    console.print(Text(words), soft_wrap=True)
    lines = [("✕", "red", finding.sentence) for finding in chapter.left[:SHOWN]]
    if (more := len(chapter.left) - SHOWN) > 0:
        lines.append(("✕", "red", f"and {more} more; `tuner doctor --json` lists all of them."))
    lines += [
        ("●", "green", f"mended ({finding.mend}): {finding.where}: {finding.what}.") for finding in chapter.mended
    ]
    lines += [("-", "dim", note) for note in chapter.notes]
    for mark, style, sentence in lines:
        wrapped = textwrap.wrap(sentence, max(20, console.width - 4), break_on_hyphens=False)
        console.print(Text.assemble((f"  {mark} ", style), "\n    ".join(wrapped)), soft_wrap=True)


def _verdict(chapters: Sequence[Chapter]) -> str:
    left = [finding for chapter in chapters for finding in chapter.left]
    mended = sum(len(chapter.mended) for chapter in chapters)
    able = sum(finding.mend is not None for finding in left)
    if not left:
        return f"nothing is wrong any more; {mended} mended" if mended else "nothing is wrong"
    said = "1 thing is wrong" if len(left) == 1 else f"{len(left)} things are wrong"
    if mended:
        return f"{mended} mended; {said} still"
    return f"{said}; `tuner doctor --fix` can mend {able}" if able else said
