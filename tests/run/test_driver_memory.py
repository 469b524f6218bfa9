"""What memory ends: tried once more and smaller, refused before it starts, learned from, and never a failure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from test_driver import YAML, Dying, Interrupting, build, log

from tuner.run.driver import Ending
from tuner.run.fitting import Fitting
from tuner.run.hands.link import Alive, Exhausted, Message, TrialJob
from tuner.run.hands.workers import Died, Event
from tuner.search.store.address import MEMORY_URL
from tuner.search.store.storage import open_storage
from tuner.spec.errors import StudyStoppedError
from tuner.spec.records import Started
from tuner.train.machine.capacity import Capacity


@pytest.mark.parametrize("end", [Exhausted("it took 9 GB", known=True), Died(-9, memory=True)])
def test_a_trial_that_memory_ended_is_tried_once_more_smaller(tmp_path: Path, end: Message | Died) -> None:
    hands = Dying(2, {3: [end]})
    driver = build(tmp_path, hands=hands)
    driver.run()
    assert [job.parts for job in hands.jobs if job.number == 3] == [None, 2]
    assert driver.search.record().trials[3].state in ("complete", "pruned")
    assert any("memory" in said or "9 GB" in said for said in log(driver).sentences)


def test_a_trial_that_memory_ends_twice_is_infeasible_and_never_failed(tmp_path: Path) -> None:
    hands = Dying(2, {3: [Died(-9, memory=True)] * 9})
    driver = build(tmp_path, hands=hands)
    driver.run()
    trial = driver.search.record().trials[3]
    assert (trial.state, hands.begun.count(3)) == ("infeasible", 2)
    assert "memory ran out" in trial.reason
    assert "2 micro-batches" in trial.reason


def test_what_cannot_fit_never_reaches_a_worker_and_what_ran_is_remembered(tmp_path: Path) -> None:
    """Deep models do not fit: refused by the estimate, or by what an earlier one of the shape took."""
    text = YAML.replace("int: [2, 8]", "int: [2, 24]").replace(
        "budget: 1M tokens", "model: {width: 1024}, accumulate: 1, budget: 1M tokens"
    )
    hands = Dying(2, {})
    driver = build(tmp_path, hands=hands, text=text)
    driver.fitting = Fitting(Capacity(2 * 10**9, "fake", tmp_path / "notes"), lambda trial: 1024)
    driver.run()
    record = driver.search.record()
    refused = [t for t in record.trials if t.state == "infeasible"]
    assert refused
    assert len(record.trials) - len(refused) == 24  # they take nothing from the total
    assert not {t.number for t in refused} & set(hands.begun)
    assert all("study.memory" in t.reason for t in refused)
    assert min(t.point["model.depth"] for t in refused) > max(  # type: ignore[type-var]
        t.point["model.depth"] for t in record.trials if t.state != "infeasible"
    )


def test_a_trial_that_ran_before_is_not_judged_anew_by_the_memory_of_today(tmp_path: Path) -> None:
    storage, hands = open_storage(MEMORY_URL), Interrupting(2, 12)
    hands.driver = build(tmp_path, storage, hands)
    hands.driver.fitting = Fitting(Capacity(10**12, "fake", tmp_path / "notes"), lambda trial: 1024)
    assert hands.driver.run() is Ending.INTERRUPTED
    running = [trial for trial in hands.driver.search.record().trials if trial.state == "running"]
    left = [trial.number for trial in running if trial.facts]  # not one that was still being chosen
    assert left
    again = Dying(2, {})
    driver = build(tmp_path, storage, again, **{"study.trials": 3})
    driver.fitting = Fitting(Capacity(1, "fake", tmp_path / "notes"), lambda trial: 1024)
    with pytest.raises(StudyStoppedError):
        driver.run()  # nothing new fits one byte
    ends = {trial.number: trial.state for trial in driver.search.record().trials}
    assert {ends[number] for number in left} <= {"complete", "pruned", "running"}
    assert {(job.memory, job.parts) for job in again.jobs} == {(None, None)}


def test_the_kernels_kill_feeds_the_estimate(tmp_path: Path) -> None:
    hands = Dying(1, {0: [Died(-9, memory=True)] * 2})
    driver = build(tmp_path, hands=hands, **{"study.trials": 1})
    driver.fitting = Fitting(Capacity(2 * 10**9, "fake", tmp_path / "notes"), lambda trial: 1024)
    driver.run()
    dead = hands.jobs[0]
    assert dead.memory == 2 * 10**9
    assert driver.fitting.capacity.needed(dead.spec, 1024, 1) > dead.memory
    assert driver.fitting.parts(dead.spec) > 2


def test_a_trial_left_before_its_first_checkpoint_goes_on_in_the_micro_batches_it_had(tmp_path: Path) -> None:
    """It was tried once more and smaller: what it was before did not fit, and today's free memory is not asked."""

    class Leaving(Dying):
        def story(self, job: TrialJob) -> Iterator[Message | Died]:
            self.jobs.append(job)
            yield Started(job.spec.as_data(), {"spec_hash": job.spec.hash, "accumulate": job.parts or 1})
            if job.parts is None:
                yield Died(-9, memory=True)
            driver.stop()
            yield Alive()

    storage, hands, again = open_storage(MEMORY_URL), Leaving(1, {}), Dying(1, {})
    driver = build(tmp_path, storage, hands)
    assert driver.run() is Ending.INTERRUPTED
    assert [job.parts for job in hands.jobs] == [None, 2]
    build(tmp_path, storage, again, **{"study.trials": 1}).run()
    assert [job.parts for job in again.jobs] == [2]


def test_a_worker_ended_for_its_silence_has_not_run_out_of_memory(tmp_path: Path) -> None:
    """Not even where the kernel ended another process of the machine meanwhile."""

    class Hung(Dying):
        killed = False

        def kill(self, number: int | None = None) -> None:
            self.killed = True
            self._replace(Died(-9, memory=True), list(self._stories))

        def wait(self, timeout: float) -> list[Event]:
            if self.killed:
                return super().wait(timeout)
            self.now += 5.0
            return []

    hands = Hung(1, {})
    driver = build(tmp_path, hands=hands, **{"study.trials": 1, "study.patience": "60 s"})
    assert driver.run() is Ending.COMPLETE
    assert hands.killed
    assert [job.parts for job in hands.jobs] == [None, None]
    assert any("said nothing for 60 s" in said for said in log(driver).sentences)
