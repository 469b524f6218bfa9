"""What a study's trials say about the study: too many failures or impossible points in a row, or another text, end it.
Counts and sentences only; the driver obeys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tuner.spec.records import Outcome, Point, State, Value

BARREN = 200
"""So many infeasible points in a row end a study: its rules forbid nearly everything."""


@dataclass
class Endings:
    """The failures and the infeasible points in a row of study ``name``, of which ``max_failures`` are allowed."""

    name: str
    max_failures: int
    folder: Path
    _failures: list[str] = field(default_factory=list)
    _infeasible: int = 0
    _text: Value = None

    def strange(self, point: Point, facts: Mapping[str, Value]) -> str | None:
        """Why the study must end where a trial has begun on another text than those before it; None where it has not,
        or where the search may choose what is read.
        """
        if any(path.partition(".")[0] in ("data", "recipe") for path in point):
            return None
        text = facts.get("data_fingerprint")
        self._text = self._text or text
        if text == self._text:
            return None
        return (
            f"study '{self.name}' stopped: the text has changed while it ran (fingerprint {text}, before "
            f"{self._text}), and losses on two texts do not compare; put it back as it was, or begin another study."
        )

    def take(self, outcome: Outcome) -> str | None:
        """Count one more end; why the study must end, None where it goes on."""
        self._infeasible = self._infeasible + 1 if outcome.state is State.INFEASIBLE else 0
        if self._infeasible >= BARREN:
            return (
                f"study '{self.name}' stopped: {BARREN} points in a row cannot run (the last: {outcome.reason}); "
                "widen the space or relax its rules."
            )
        if outcome.state is State.FAILED:
            self._failures.append(outcome.reason)
            if len(self._failures) >= self.max_failures:
                causes = "; ".join(dict.fromkeys(self._failures))
                return (
                    f"study '{self.name}' stopped after {len(self._failures)} failures in a row: {causes}. "
                    f"Tracebacks are in {self.folder}/<trial>/error.txt; mend the cause and run the same command again."
                )
        elif outcome.state is not State.INFEASIBLE:
            self._failures.clear()
        return None
