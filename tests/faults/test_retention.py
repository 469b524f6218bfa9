"""Over any history of a study, retention deletes nothing that is still needed, and keeps to the cap wherever it can."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cases import few
from crashing import run
from hypothesis import given, settings
from hypothesis import strategies as st
from study_job import URL, YAML, study

from tuner.analysis.table import open_study
from tuner.run.driver import Driver, Ending
from tuner.run.fitting import TOGETHER, Fitting
from tuner.run.hands.fake import FakeWorkers
from tuner.run.hands.link import Message, TrialJob
from tuner.run.hands.workers import Died
from tuner.run.retention import retain_best
from tuner.run.watcher import Silent
from tuner.search.asktell import Search
from tuner.search.history import StudyRecord, TrialRecord
from tuner.search.repeats import REPEAT, winner
from tuner.search.store.address import MEMORY_URL
from tuner.search.store.storage import open_storage
from tuner.spec.disk import bytes_in, hold
from tuner.spec.errors import StudyStoppedError
from tuner.spec.load import parse
from tuner.spec.records import Measurement, Outcome, Value
from tuner.tracking.base import NullTracker
from tuner.train.model.memory import checkpoint_bytes

SIZE = 1000
SPEC: dict[str, Any] = {"trial": {"seed": 1}, "study": {"metric": "val_loss"}}

trial = st.tuples(
    st.sampled_from(["complete", "complete", "pruned", "failed", "diverged", "infeasible", "running", "queued"]),
    st.floats(1.0, 4.0),
    st.booleans(),  # promoted
    st.one_of(st.none(), st.integers(0, 5)),  # a repeat of
    st.integers(0, 3),  # checkpoints
)


def record(drawn: list[tuple[str, float, bool, int | None, int]], against: bool = False) -> StudyRecord:
    """A trial costs what it has of checkpoints, at first."""
    trials = []
    for number, (state, value, _, like, _) in enumerate(drawn):
        facts: dict[str, Value] = {REPEAT: like, "seed": number} if like is not None and like < number else {}
        facts["bytes"] = drawn[number][4]
        point = trials[like].point if REPEAT in facts and like is not None else {"optim.lr": 1e-3 * (number + 1)}
        ended = value if state == "complete" else None
        trials.append(TrialRecord(number, state, "", point, ended, {1: value} if state != "queued" else {}, facts))
    study = {**SPEC["study"], "against": "bytes"} if against else SPEC["study"]
    return StudyRecord("s", {**SPEC, "study": study}, tuple(trials))


def beats(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    """In loss and in checkpoints at once."""
    mine, theirs = (one[1], one[4]), (other[1], other[4])
    return mine != theirs and all(ours <= others for ours, others in zip(mine, theirs, strict=True))


@settings(max_examples=150)
@given(
    st.lists(trial, min_size=1, max_size=14), st.integers(1, 5), st.one_of(st.none(), st.integers(0, 20)), st.booleans()
)
def test_no_history_loses_a_checkpoint_that_is_needed(
    drawn: list[tuple[str, float, bool, int | None, int]], keep: int, cap: int | None, against: bool
) -> None:
    study, found = Path(tempfile.mkdtemp()), record(drawn, against)
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
        done = {number: one for number, one in enumerate(drawn) if one[0] == "complete" and against}
        cheap = {number for number, one in done.items() if not any(beats(other, one) for other in done.values())}
        for number, (state, _, promoted, _, count) in enumerate(drawn):
            needed = promoted or state in ("running", "queued") or (first is not None and number == first.number)
            if needed or (cap is None and (number in cheap or (number in best and len(best) <= keep))):
                assert left[number] == count
            elif number not in best | cheap:
                assert left[number] == 0
        if cap is not None and sum(left.values()) > cap:
            assert said
            spare = {n for n in best | cheap if not drawn[n][2] and drawn[n][0] not in ("running", "queued")}
            spare -= {first.number} if first else {min(spare, key=lambda n: found.trials[n].order)} if spare else set()
            assert all(left[number] == 0 for number in spare)
    finally:
        shutil.rmtree(study)


@pytest.mark.parametrize("seed", few(0, 1, 2, 3))
def test_the_winner_of_the_repeats_has_its_weights_though_few_are_kept(tmp_path: Path, seed: int) -> None:
    """It is known after the last repeat only: until then none of those that run again may lose theirs."""
    text = YAML.replace("trials: 4", f"seed: {seed}, trials: 8").replace("{top: 1, seeds: 2}", "{top: 3, seeds: 3}")
    assert run(study, str(tmp_path), text) == 0
    chosen = winner(open_study(URL, "crash"))
    assert chosen is not None
    assert [path.parent.name for path in tmp_path.glob("runs/crash/*/checkpoints")] == [str(chosen.number)]


VOCAB = 64


class Filling(FakeWorkers):
    """Fake hands whose trials fill the disk as real ones do: four checkpoints at the most, two at their end."""

    cap, fullest = 0, 0

    def story(self, job: TrialJob) -> Iterator[Message | Died]:
        place, size = job.folder / "checkpoints", checkpoint_bytes(job.spec, VOCAB)
        for message in super().story(job):
            if isinstance(message, Measurement):
                for step in range(min(TOGETHER, 1 + (message.milestone or 0))):
                    self.write(place / f"step-{step}" / "model", size)
            if isinstance(message, Outcome):
                for step in range(2, TOGETHER):
                    shutil.rmtree(place / f"step-{step}", ignore_errors=True)
            yield message

    def write(self, path: Path, size: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.truncate(size)
        used = sum(map(bytes_in, path.parents[3].glob("*/checkpoints")))
        self.fullest = max(used, self.fullest)
        assert used <= self.cap


@settings(max_examples=25)
@given(st.integers(1, 3), st.integers(1, 4), st.floats(0.5, 6), st.integers(0, 99), st.booleans())
def test_the_cap_is_never_exceeded_while_trials_run(
    slots: int, keep: int, room: float, seed: int, repeated: bool
) -> None:
    """``room``: how many trials of the middle size the cap has room for."""
    text = YAML.replace("keep: 1", f"keep: {keep}, seed: {seed}").replace("trials: 4", "trials: 8")
    spec = parse(text.replace("batch:    {", "model.depth: {int: [1, 9]}\n  batch: {"))
    fitting, folder, hands = Fitting(None, lambda trial: VOCAB), Path(tempfile.mkdtemp()), Filling(slots)
    hands.cap = int(room * fitting.files(spec.resolve({"model.depth": 5})))
    changes = {"disk": hands.cap} | ({} if repeated else {"repeats": None})
    spec = spec.model_copy(update={"study": spec.study.model_copy(update=changes)})
    search = Search(spec, open_storage(MEMORY_URL))
    driver = Driver(
        spec, search, hands, NullTracker(), Silent(), folder, folder / "corpora", fitting=fitting, clock=hands.clock
    )
    said = ""
    try:
        assert driver.run() is Ending.COMPLETE
    except StudyStoppedError as stopped:
        said = str(stopped)
    finally:
        left = {int(path.parent.name) for path in folder.glob("*/checkpoints")}
        shutil.rmtree(folder)
    assert not said or ("study.disk" in said and repeated)  # a new point is infeasible; a repeat must run
    trials = search.record().trials
    assert all("study.disk" in t.reason for t in trials if t.state == "infeasible")
    best = [trial.number for trial in search.record().ranked()[:1]]
    assert set(best) <= left or repeated
    assert hands.fullest or not best
