"""Over any history of a study, retention deletes nothing that is still needed, and keeps to the cap wherever it can."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from crashing import run
from hypothesis import given, settings
from hypothesis import strategies as st
from study_job import URL, YAML, study

from tuner.analysis.table import open_study
from tuner.run.retention import retain_best
from tuner.search.history import StudyRecord, TrialRecord
from tuner.search.repeats import REPEAT, winner
from tuner.spec.disk import hold

SIZE = 1000
SPEC: dict[str, Any] = {"trial": {"seed": 1}, "study": {"metric": "val_loss"}}

trial = st.tuples(
    st.sampled_from(["complete", "complete", "pruned", "failed", "diverged", "infeasible", "running", "queued"]),
    st.floats(1.0, 4.0),
    st.booleans(),  # promoted
    st.one_of(st.none(), st.integers(0, 5)),  # a repeat of
    st.integers(0, 3),  # checkpoints
)


def record(drawn: list[tuple[str, float, bool, int | None, int]]) -> StudyRecord:
    trials = []
    for number, (state, value, _, like, _) in enumerate(drawn):
        facts = {REPEAT: like, "seed": number} if like is not None and like < number else {}
        point = trials[like].point if facts and like is not None else {"optim.lr": 1e-3 * (number + 1)}
        ended = value if state == "complete" else None
        trials.append(TrialRecord(number, state, "", point, ended, {1: value} if state != "queued" else {}, facts))
    return StudyRecord("s", SPEC, tuple(trials))


@settings(max_examples=150)
@given(st.lists(trial, min_size=1, max_size=14), st.integers(1, 5), st.one_of(st.none(), st.integers(0, 20)))
def test_no_history_loses_a_checkpoint_that_is_needed(
    drawn: list[tuple[str, float, bool, int | None, int]], keep: int, cap: int | None
) -> None:
    study, found = Path(tempfile.mkdtemp()), record(drawn)
    try:
        for number, (_, _, promoted, _, count) in enumerate(drawn):
            for step in range(count):
                place = study / str(number) / "checkpoints" / f"step-{step:08d}"
                place.mkdir(parents=True)
                (place / "model.safetensors").write_bytes(b"x" * SIZE)
            if promoted:
                (study / str(number)).mkdir(exist_ok=True)
                hold(study / str(number))
        said = retain_best(study, found, keep, None if cap is None else cap * SIZE)
        left = {number: len(list((study / str(number)).glob("checkpoints/*"))) for number in range(len(drawn))}
        first = winner(found)
        best = {one.number for one in found.ranked()[:keep]} | ({first.number} if first else set())
        for number, (state, _, promoted, _, count) in enumerate(drawn):
            needed = promoted or state in ("running", "queued") or (first is not None and number == first.number)
            if needed or (cap is None and number in best and len(best) <= keep):
                assert left[number] == count
            elif number not in best:
                assert left[number] == 0
        if cap is not None and sum(left.values()) > cap:
            assert said
            spare = {n for n in best if not drawn[n][2] and drawn[n][0] not in ("running", "queued")}
            spare -= {first.number} if first else {min(spare, key=lambda n: found.trials[n].order)} if spare else set()
            assert all(left[number] == 0 for number in spare)
    finally:
        shutil.rmtree(study)


@pytest.mark.parametrize("seed", range(4))
def test_the_winner_of_the_repeats_has_its_weights_though_few_are_kept(tmp_path: Path, seed: int) -> None:
    """It is known after the last repeat only: until then none of those that run again may lose theirs."""
    text = YAML.replace("trials: 4", f"seed: {seed}, trials: 8").replace("{top: 1, seeds: 2}", "{top: 3, seeds: 3}")
    assert run(study, str(tmp_path), text) == 0
    chosen = winner(open_study(URL, "crash"))
    assert chosen is not None
    assert [path.parent.name for path in tmp_path.glob("runs/crash/*/checkpoints")] == [str(chosen.number)]
