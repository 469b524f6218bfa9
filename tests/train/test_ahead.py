"""The loader: every step gets the batch that the cursor names for it, from any first step, and no thread is left."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tuner.spec.records import Measurement, Preparing, Started, State, Verdict
from tuner.spec.trial import TrialSpec
from tuner.train.ahead import Ahead
from tuner.train.fit import Place, fit
from tuner.train.model.module import GPTModule
from tuner.train.text.corpus import open_corpus
from tuner.train.text.cursor import Windows

CPU = torch.device("cpu")


class Leaver:
    """A link that wants the worker back after so many steps."""

    def __init__(self, after: int) -> None:
        self.left = after

    def preparing(self, work: Preparing) -> None: ...

    def started(self, started: Started) -> None: ...

    def report(self, measurement: Measurement) -> Verdict:
        return Verdict.CONTINUE

    def interrupted(self) -> bool:
        self.left -= 1
        return self.left < 0


@given(
    length=st.integers(20, 300), context=st.integers(2, 12), size=st.integers(1, 5),
    first=st.integers(0, 40), count=st.integers(0, 20), seed=st.integers(0, 3),
)  # fmt: skip
def test_it_gives_the_cursors_batches_in_order(
    length: int, context: int, size: int, first: int, count: int, seed: int
) -> None:
    tokens = np.arange(length, dtype=np.uint16)
    given_out = list(Ahead(Windows(tokens, context, seed), first, count, size, CPU))
    assert len(given_out) == count
    for step, ids in enumerate(given_out, first):
        assert ids.dtype == torch.int64
        assert np.array_equal(ids.numpy(), Windows(tokens, context, seed).batch(step, size))


def test_a_trial_trains_on_each_of_them_once_also_when_resumed(
    tmp_path: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = TrialSpec.model_validate(
        {
            "data": {"source": "text", "path": str(text_file), "tokenizer": {"kind": "char"}, "context": 16},
            "model": {"depth": 1, "width": 16},
            "batch": 4,
            "budget": "2560 tokens",  # 40 steps
        }
    )
    seen: list[torch.Tensor] = []
    step = GPTModule.training_step

    def seeing(module: GPTModule, batch: torch.Tensor, *rest: Any) -> None:
        seen.append(batch)
        step(module, batch, *rest)

    monkeypatch.setattr(GPTModule, "training_step", seeing)
    place = Place(tmp_path / "trial", text_file.parent / "corpora", threads=1)
    before = threading.enumerate()
    assert fit(spec, 4, place, Leaver(after=17)).state is State.INTERRUPTED
    assert 0 < len(seen) < 40
    assert fit(spec, 4, place, Leaver(after=1000)).state is State.COMPLETE
    assert threading.enumerate() == before
    corpus = open_corpus(spec.data, place.corpora, lambda work: None)
    windows = Windows(corpus.tokens("train"), 16, spec.seed)
    assert len(seen) == 40
    assert all(np.array_equal(ids.numpy(), windows.batch(k, 4)) for k, ids in enumerate(seen))
