"""Does a trial fit into memory before it runs, in how many micro-batches, and what does it take of the disk: the
driver's questions, asked in milliseconds. What fits is known in train/; nothing here runs a trial.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tuner.spec.budget import size_text
from tuner.spec.errors import InfeasibleError
from tuner.spec.trial import TrialSpec
from tuner.train.machine.capacity import Capacity, divisions
from tuner.train.model.memory import checkpoint_bytes

TOGETHER = 4
"""A trial's checkpoints at the most: the best, the last two, and the one that is being written."""


@dataclass(frozen=True)
class Fitting:
    """What each process of a trial may take here, and the vocabulary of a trial's text, as wide as its logits.

    ``capacity`` is None where a GPU's own memory decides, which only a worker can ask for.
    """

    capacity: Capacity | None
    vocab: Callable[[TrialSpec], int]

    @property
    def limit(self) -> int | None:
        return None if self.capacity is None else self.capacity.limit

    def files(self, trial: TrialSpec) -> int:
        """The most bytes that its checkpoints take while it trains."""
        return TOGETHER * checkpoint_bytes(trial, self.vocab(trial))

    def parts(self, trial: TrialSpec) -> int | None:
        """The fewest micro-batches a step with which the trial fits; None where only a worker knows.

        Raises:
            InfeasibleError: it does not, however small they are.
        """
        if self.capacity is None:
            return None
        vocab, trial = self.vocab(trial), trial.share
        if (parts := self.capacity.parts(trial, vocab)) is not None:
            return parts
        finest = divisions(trial)[-1]
        needed = self.capacity.needed(trial, vocab, finest)
        micro = trial.batch // finest
        raise InfeasibleError(
            f"needs {size_text(round(needed, -6))} of memory with {micro} sequence{'s' * (micro > 1)} at a time, "
            f"a trial may take {size_text(self.capacity.limit)} here (study.memory)"
        )

    def exceeded(self, trial: TrialSpec, parts: int) -> None:
        """Remember that the trial took more than it may, nobody knows how much."""
        if self.capacity is not None:
            self.capacity.learn(trial.share, self.vocab(trial), parts, self.capacity.limit + 1)
