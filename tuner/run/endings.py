"""What a study's trials say about the study: too many failures or impossible points in a row, or another text, end it.
Counts and sentences only; the driver obeys.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tuner.spec.parts.scalars import digest
from tuner.spec.records import Outcome, Started, State, mixed_of

BARREN = 200
"""So many infeasible points in a row end a study: its rules forbid nearly everything."""

_AFTER = {"context", "windows", "val_tokens", "overlap", "augment", "mix"}
"""What is said of data and changes nothing of the text and its tokens."""


@dataclass
class Endings:
    """The failures and the infeasible points in a row of study ``name``, of which ``max_failures`` are allowed."""

    name: str
    max_failures: int
    folder: Path
    _failures: list[str] = field(default_factory=list)
    _infeasible: int = 0
    _texts: dict[str, str] = field(default_factory=dict)

    def strange(self, started: Started) -> str | None:
        """Why the study must end where a trial has begun on another text than those before it that read the same, in
        the same tokens; None where it has not.
        """
        if (own := started.facts.get("data_fingerprint")) is None:
            return None
        read = digest({name: value for name, value in started.spec.get("data", {}).items() if name not in _AFTER})
        for name, text in {"": str(own), **mixed_of(started.facts)}.items():
            if (before := self._texts.setdefault(f"{read} {name}", text)) != text:
                return (
                    f"study '{self.name}' stopped: the text{f' {name}' if name else ''} has changed while it ran "
                    f"(fingerprint {text}, before {before}), and losses on two texts do not compare; put it back as it "
                    "was, or begin another study."
                )
        return None

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
