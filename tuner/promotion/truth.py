"""What the ledger's rows mean: the aliases they tell, what has not ended, what a version was promoted on.
Pure reading of a history; it asks no registry and writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tuner.promotion.ledger import Entry, Stage

CHAMPION, CHALLENGER = "champion", "challenger"


@dataclass(frozen=True)
class Pending:
    """A ceremony that has begun and not ended: its first row, and how far it came by the ledger."""

    begun: Entry
    last: Entry

    @property
    def sentence(self) -> str:
        row = self.begun
        name = "promotion" if row.action == "promote" else row.action
        ends = f"`tuner promote {row.model} --resume` goes on, `--undo` takes it back"
        return f"the {name} that {row.actor} began at {row.at} ({row.reason}) has not ended; {ends}"


def unfinished(history: Sequence[Entry]) -> Pending | None:
    """The ceremony that has begun and not ended."""
    if not history or history[-1].stage not in (Stage.BEGUN, Stage.INTENT):
        return None
    begun = next(row for row in reversed(history) if row.stage is Stage.BEGUN)
    return Pending(begun, history[-1])


def replay(history: Sequence[Entry]) -> dict[str, int]:
    """The aliases as the ledger tells them: champion and challenger, where there is one."""
    champion: int | None = None
    challenger: int | None = None
    earlier: int | None = None  # the challenger before the last intent: an undone one gives way to it
    intended = False
    for entry in history:
        match entry.stage:
            case Stage.INTENT:
                earlier, challenger = challenger, entry.after
            case Stage.DONE:
                champion = entry.after
            case Stage.UNDONE if intended:
                challenger = earlier
        intended = entry.stage is Stage.INTENT
    told = {CHAMPION: champion, CHALLENGER: challenger}
    return {name: version for name, version in told.items() if version is not None}


def announced(history: Sequence[Entry], version: int) -> Entry | None:
    """The row that began the promotion of a version, with its candidate and gates; None where the ledger has none. The
    last one: a registry that was lost counts from 1 again.
    """
    done = next(
        (e for e in reversed(history) if e.stage is Stage.DONE and e.action == "promote" and e.after == version), None
    )
    if done is None:
        return None
    return next((e for e in reversed(history) if e.stage is Stage.BEGUN and e.id < done.id), None)


def complaints(history: Sequence[Entry], broken: int | None, aliases: Mapping[str, int], busy: bool) -> list[str]:
    """Where the books do not agree, in sentences: a row was changed, a ceremony has not ended, an alias was moved.

    ``broken`` is the first row whose seal does not hold, ``busy`` says that a ceremony is being held right now.
    """
    said = []
    if broken is not None:
        said.append(f"The ledger was changed by other means: row {broken} does not match its seal.")
    if (pending := unfinished(history)) is not None:
        return [*said, "A promotion is under way." if busy else f"{_sentence(pending.sentence)}."]
    told = replay(history)
    said += [
        f"The alias {alias} points to {named(aliases.get(alias))}, the ledger says {named(told.get(alias))}: "
        "it was moved outside tuner."
        for alias in sorted({*told, *aliases} & {CHAMPION, CHALLENGER})
        if told.get(alias) != aliases.get(alias)
    ]
    return said


def named(version: int | None) -> str:
    """``version 3``, or nobody."""
    return "nobody" if version is None else f"version {version}"


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]
