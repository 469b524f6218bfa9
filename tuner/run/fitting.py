"""Does a trial fit into memory before it runs, and in how many micro-batches: the driver's question, asked in
milliseconds. What fits is known in train/capacity; nothing here runs a trial.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tuner.spec.budget import size_text
from tuner.spec.errors import InfeasibleError
from tuner.spec.trial import TrialSpec
from tuner.train.machine.capacity import Capacity, divisions


@dataclass(frozen=True)
class Fitting:
    """What one trial may take here, and the vocabulary of a trial's text, which its logits are as wide as."""

    capacity: Capacity
    vocab: Callable[[TrialSpec], int]

    @property
    def limit(self) -> int:
        return self.capacity.limit

    def parts(self, trial: TrialSpec) -> int:
        """The fewest micro-batches a step with which the trial fits.

        Raises:
            InfeasibleError: it does not, however small they are.
        """
        vocab = self.vocab(trial)
        if (parts := self.capacity.parts(trial, vocab)) is not None:
            return parts
        finest = divisions(trial)[-1]
        needed = self.capacity.needed(trial, vocab, finest)
        micro = trial.batch // finest
        raise InfeasibleError(
            f"needs {size_text(round(needed, -6))} of memory with {micro} sequence{'s' * (micro > 1)} at a time, "
            f"a trial may take {size_text(self.limit)} here (study.memory)"
        )

    def exceeded(self, trial: TrialSpec, parts: int) -> None:
        """Remember that the trial took more than it may, nobody knows how much."""
        self.capacity.learn(trial, self.vocab(trial), parts, self.limit + 1)
