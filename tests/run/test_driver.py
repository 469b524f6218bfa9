"""The driver on fake hands and a fake clock: totals, recovery, failures, interruption, in milliseconds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from effort import counted
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.run.driver import Driver, Ending
from tuner.run.hands.fake import FakeWorkers
from tuner.run.hands.link import Message, TrialJob
from tuner.run.hands.workers import Died, Event
from tuner.search.asktell import Search
from tuner.search.store.address import MEMORY_URL
from tuner.search.store.storage import open_storage
from tuner.spec.errors import StoreError, StudyStoppedError
from tuner.spec.load import parse
from tuner.spec.records import Measurement, Outcome, Point, Preparing, Spent, Started, State
from tuner.tracking.base import NullTracker

YAML = """
name: fake
trial: {budget: 1M tokens}
space:
  optim.lr: {float: [1e-4, 1e-1], log: true}
  model.depth: {int: [2, 8]}
study: {trials: 24, milestones: 9, pruner: hyperband}
"""


class Log:
    """A watcher that remembers how each trial ended and what was said."""

    def __init__(self) -> None:
        self.ends: list[tuple[int, Outcome]] = []
        self.sentences: list[str] = []

    def preparing(self, number: int, work: Preparing) -> None: ...
    def started(self, number: int, point: Point, started: Started) -> None: ...
    def measured(self, number: int, measurement: Measurement) -> None: ...

    def ended(self, number: int, outcome: Outcome, value: float | None) -> None:
        self.ends.append((number, outcome))

    def say(self, sentence: str) -> None:
        self.sentences.append(sentence)


def build(folder: Path, storage: Any = None, hands: FakeWorkers | None = None, text: str = YAML, **over: Any) -> Driver:
    spec = parse(text, overrides=[f"{key}={value}" for key, value in over.items()])
    search = Search(spec, storage or open_storage(MEMORY_URL))
    hands = hands or FakeWorkers(2)
    return Driver(spec, search, hands, NullTracker(), Log(), folder, folder / "corpora", clock=hands.clock)


def log(driver: Driver) -> Log:
    assert isinstance(driver.watcher, Log)
    return driver.watcher


def test_a_whole_study_takes_less_than_a_second_of_processor(tmp_path: Path) -> None:
    build(tmp_path).run()  # imports and caches
    driver = build(tmp_path)
    ending, calls = counted(driver.run)
    assert ending is Ending.COMPLETE
    record = driver.search.record()
    assert len(record.trials) == 24
    assert {t.state for t in record.trials} == {"complete", "pruned"}
    assert calls < 2_500_000


def test_the_same_study_decides_the_same(tmp_path: Path) -> None:
    runs = [build(tmp_path) for _ in range(2)]
    for driver in runs:
        driver.run()
    first, second = (driver.search.record().trials for driver in runs)
    assert [(t.point, t.state, t.milestones) for t in first] == [(t.point, t.state, t.milestones) for t in second]


def test_trials_is_a_total(tmp_path: Path) -> None:
    storage = open_storage(MEMORY_URL)
    build(tmp_path, storage, **{"study.trials": 5}).run()
    driver = build(tmp_path, storage, **{"study.trials": 5})
    assert not driver.search.left
    driver.run()
    assert len(driver.search.record().trials) == 5
    build(tmp_path, storage, **{"study.trials": 8}).run()
    assert len(driver.search.record().trials) == 8


class Vanishing(FakeWorkers):
    """A cluster whose last node leaves whenever nothing runs, and comes back after it was waited for ten times."""

    waited = 0

    @property
    def idle(self) -> int:
        return super().idle if self._stories or self.waited % 10 == 9 else 0

    def wait(self, timeout: float) -> list[Event]:
        self.waited += 1
        return super().wait(timeout)


def test_a_study_whose_last_node_has_gone_waits_for_another(tmp_path: Path) -> None:
    driver = build(tmp_path, hands=Vanishing(1), **{"study.trials": 4})
    assert driver.run() is Ending.COMPLETE
    assert driver.search.spent == 4
    assert any("waits until there is one" in sentence for sentence in log(driver).sentences)


class Dying(FakeWorkers):
    """Hands whose workers die or fail as the table says: trial -> what ends each of its attempts."""

    def __init__(self, slots: int, ends: dict[int, list[Message | Died]]) -> None:
        super().__init__(slots)
        self.ends = ends
        self.begun: list[int] = []
        self.jobs: list[TrialJob] = []

    def story(self, job: TrialJob) -> Iterator[Message | Died]:
        self.begun.append(job.number)
        self.jobs.append(job)
        if self.ends.get(job.number):
            yield from [Started(job.spec.as_data(), {}), self.ends[job.number].pop(0)]
        else:
            yield from super().story(job)


def test_a_killed_worker_goes_on_under_the_same_number(tmp_path: Path) -> None:
    hands = Dying(2, {3: [Died(-9), Died(-9)]})
    driver = build(tmp_path, hands=hands)
    driver.run()
    record = driver.search.record()
    assert hands.begun.count(3) == 3
    assert record.trials[3].state in ("complete", "pruned")
    assert len(record.trials) == 24


def test_a_worker_killed_again_and_again_has_failed_and_the_study_goes_on(tmp_path: Path) -> None:
    driver = build(tmp_path, hands=Dying(2, {3: [Died(-9)] * 9}))
    driver.run()
    trial = driver.search.record().trials[3]
    assert trial.state == "failed"
    assert "SIGKILL" in trial.reason
    assert "3 times" in trial.reason


def test_a_worker_killed_after_each_resume_fails_too(tmp_path: Path) -> None:
    class Resuming(FakeWorkers):
        """Each attempt sends the milestone of its checkpoint again, and is killed."""

        def story(self, job: TrialJob) -> Iterator[Message | Died]:
            if job.number != 3:
                yield from super().story(job)
                return
            yield Started(job.spec.as_data(), {})
            yield Measurement(Spent(100, 100, 1.0, 1.0), {"val_loss": 3.0}, 1)
            yield Died(-9)

    driver = build(tmp_path, hands=Resuming(2))
    assert driver.run() is Ending.COMPLETE
    assert driver.search.record().trials[3].state == "failed"


def test_a_trial_that_ends_well_while_the_study_stops_hides_no_failure(tmp_path: Path) -> None:
    failed: list[Message | Died] = [Outcome(State.FAILED, "ValueError: no such thing")]

    class Late(Dying):
        def interrupt(self, number: int | None = None) -> None:
            self._replace(Outcome(State.COMPLETE), list(self._stories))

    hands = Late(2, {n: list(failed) for n in range(1, 24)})
    with pytest.raises(StudyStoppedError, match="5 failures in a row"):
        build(tmp_path, hands=hands).run()


def test_a_full_disk_stops_the_study_and_burns_no_trial(tmp_path: Path) -> None:
    storage = open_storage(MEMORY_URL)
    hands = Dying(2, {3: [Outcome(State.INTERRUPTED, "no room on the disk for runs/3")]})
    with pytest.raises(StudyStoppedError, match="no room on the disk"):
        build(tmp_path, storage, hands).run()
    again = build(tmp_path, storage)
    assert again.run() is Ending.COMPLETE
    assert {t.state for t in again.search.record().trials} <= {"complete", "pruned"}
    assert len(again.search.record().trials) == 24


@pytest.mark.parametrize(("code", "words"), [(-11, "SIGSEGV"), (1, "code 1"), (-6, "SIGABRT")])
def test_a_crash_is_the_trials_own_failure(tmp_path: Path, code: int, words: str) -> None:
    driver = build(tmp_path, hands=Dying(2, {3: [Died(code)]}))
    assert driver.run() is Ending.COMPLETE
    assert words in driver.search.record().trials[3].reason


def test_too_many_failures_in_a_row_stop_the_study_with_their_causes(tmp_path: Path) -> None:
    failed: list[Message | Died] = [Outcome(State.FAILED, "ValueError: no such thing")]
    driver = build(tmp_path, hands=Dying(2, {n: list(failed) for n in range(4, 24)}))
    with pytest.raises(StudyStoppedError, match=r"5 failures in a row: ValueError: no such thing"):
        driver.run()
    states = [t.state for t in driver.search.record().trials]
    assert states.count("failed") == 5


def test_single_failures_do_not_add_up(tmp_path: Path) -> None:
    hands = Dying(1, {n: [Outcome(State.FAILED, "bad luck")] for n in range(0, 24, 3)})
    driver = build(tmp_path, hands=hands)
    assert driver.run() is Ending.COMPLETE


def test_forbidden_points_are_told_as_infeasible_and_cost_nothing_of_the_total(tmp_path: Path) -> None:
    text = YAML + 'forbid: ["model.depth > 4"]\n'
    driver = build(tmp_path, text=text, **{"study.sampler": "tpe"})
    driver.run()
    record = driver.search.record()
    infeasible = [t for t in record.trials if t.state == "infeasible"]
    assert infeasible
    assert all(int(str(t.point["model.depth"])) > 4 for t in infeasible)
    assert all("model.depth > 4" in t.reason for t in infeasible)
    assert sum(t.state in ("complete", "pruned") for t in record.trials) == 24


def test_divergence_is_seen_by_the_sampler_and_is_never_best(tmp_path: Path) -> None:
    def curve(spec: Any, share: float) -> float:
        return float("nan") if spec.optim.lr > 1e-2 else 2.0 + spec.optim.lr

    driver = build(tmp_path, hands=FakeWorkers(2, curve))
    driver.run()
    record = driver.search.record()
    diverged = [t for t in record.trials if t.state == "diverged"]
    assert diverged
    assert all(t.state != "diverged" for t in record.ranked())
    late = [t for t in record.trials[12:] if t.state == "diverged"]
    assert len(late) < len(diverged)


class Interrupting(FakeWorkers):
    """Hands that have the driver stopped at the n-th event."""

    driver: Driver | None = None

    def __init__(self, slots: int, at: int, times: int = 1) -> None:
        super().__init__(slots)
        self.left, self.times = at, times

    def wait(self, timeout: float) -> Any:
        self.left -= 1
        if self.left <= 0 and self.times and self.driver is not None:
            self.times -= 1
            self.driver.stop()
        return super().wait(timeout)


@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(1, 60), max_size=4), st.integers(1, 3))
def test_interruptions_lose_and_double_nothing(cuts: list[int], slots: int) -> None:
    folder, storage = Path("runs"), open_storage(MEMORY_URL)
    small = {"study.trials": 8, "study.milestones": 4}
    for cut in cuts:
        hands = Interrupting(slots, cut)
        driver = build(folder, storage, hands, **small)
        hands.driver = driver
        driver.run()
    driver = build(folder, storage, FakeWorkers(slots), **small)
    assert driver.run() is Ending.COMPLETE
    trials = driver.search.record().trials
    assert len(trials) == 8
    assert {t.state for t in trials} <= {"complete", "pruned"}
    assert [t.number for t in trials] == list(range(8))


@pytest.mark.parametrize("over", [{}, {"study.sampler": "tpe", "study.pruner": "median"}], ids=["ours", "optuna's"])
def test_trials_24_are_24_after_10_interruptions(tmp_path: Path, over: dict[str, str]) -> None:
    storage = open_storage(MEMORY_URL)
    for cut in range(6, 26, 2):
        hands = Interrupting(2, cut)
        hands.driver = build(tmp_path, storage, hands, **over)
        assert hands.driver.run() is Ending.INTERRUPTED
    driver = build(tmp_path, storage, FakeWorkers(2), **over)
    assert driver.run() is Ending.COMPLETE
    trials = driver.search.record().trials
    assert [trial.number for trial in trials] == list(range(24))
    assert {trial.state for trial in trials} <= {"complete", "pruned"}


def test_one_worker_interrupted_decides_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = build(tmp_path, hands=FakeWorkers(1))
    whole.run()
    storage = open_storage(MEMORY_URL)
    for cut in (7, 20, 31):
        hands = Interrupting(1, cut)
        hands.driver = build(tmp_path, storage, hands)
        assert hands.driver.run() is Ending.INTERRUPTED
    again = build(tmp_path, storage, FakeWorkers(1))
    again.run()
    seen = [[(t.point, t.state, t.value) for t in d.search.record().trials] for d in (whole, again)]
    assert seen[0] == seen[1]


def test_another_space_under_the_same_name_is_refused_with_what_differs(tmp_path: Path) -> None:
    storage = open_storage(MEMORY_URL)
    build(tmp_path, storage, **{"study.trials": 2}).run()
    with pytest.raises(StoreError, match=r"trial\.batch"):
        build(tmp_path, storage, **{"trial.batch": 32})


def test_settings_that_change_no_trial_may_change(tmp_path: Path) -> None:
    storage = open_storage(MEMORY_URL)
    build(tmp_path, storage, **{"study.trials": 2}).run()
    driver = build(tmp_path, storage, **{"study.trials": 4, "study.sampler": "random", "study.keep": 1})
    driver.run()
    assert len(driver.search.record().trials) == 4


@pytest.mark.parametrize("sampler", ["bayes", "tpe", "gp", "random", "cmaes", "qmc"])
@pytest.mark.parametrize("pruner", ["forecast", "hyperband", "asha", "median", "none"])
def test_every_sampler_goes_with_every_pruner(tmp_path: Path, sampler: str, pruner: str) -> None:
    over = {"study.sampler": sampler, "study.pruner": pruner, "study.trials": 12}
    driver = build(tmp_path, **over)
    assert driver.run() is Ending.COMPLETE
    assert driver.search.spent == 12


def test_a_grid_tries_each_point_once_and_is_then_complete(tmp_path: Path) -> None:
    text = """
name: grid
space:
  optim.kind: {choice: [adamw, muon]}
  optim.muon.lr: {choice: [0.01, 0.02, 0.03], when: {optim.kind: muon}}
  model.depth: {int: [2, 3]}
study: {trials: 100, sampler: grid, pruner: none, milestones: 2}
"""
    driver = build(tmp_path, text=text)
    assert driver.run() is Ending.COMPLETE
    points = [tuple(sorted(t.point.items())) for t in driver.search.record().trials]
    assert len(points) == len(set(points)) == 2 * (1 + 3)
    assert not driver.search.left
