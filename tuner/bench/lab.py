"""A bench's workplace: a throw-away folder, a text, and small real studies in it, driven by the platform's own rooms.
Measuring only; what is compared with what is said in the benches beside.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.run.driver import Driver
from tuner.run.hands.link import DataJob
from tuner.run.hands.local import LocalWorkers
from tuner.run.hands.once import call
from tuner.run.hands.workers import Event
from tuner.search.asktell import Search
from tuner.search.store.address import MEMORY_URL
from tuner.search.store.storage import open_storage
from tuner.spec.errors import TunerError
from tuner.spec.load import parse
from tuner.spec.records import CorpusInfo, Measurement, Outcome, Point, Preparing, Spent, Started, State, Value
from tuner.spec.study import StudySpec
from tuner.tracking.base import NullTracker, Tracker

CORPORA = Path(".corpora")
TEXT = "text.txt"


@dataclass(frozen=True)
class Case:
    """What is trained: depth x width, sequences a step x tokens of each, optimizer steps."""

    depth: int
    width: int
    batch: int
    context: int
    steps: int

    def __str__(self) -> str:
        return f"{self.depth} x {self.width}, batch {self.batch} x {self.context}"


def small_study(
    case: Case,
    trials: int = 1,
    milestones: int = 1,
    val_tokens: int = 4096,
    precision: str = "fp32",
    optim: str = "adamw",
) -> StudySpec:
    """Equal trials of ``case`` on the workplace's text in characters; only ``precision`` is ever left to a probe."""
    return parse(f"""
name: bench
trial:
  data: {{source: text, path: {TEXT}, tokenizer: {{kind: char}}, context: {case.context}, val_tokens: {val_tokens}}}
  model: {{depth: {case.depth}, width: {case.width}}}
  optim: {{kind: {optim}, schedule: cosine, clip: 1.0, z_loss: 0}}
  batch: {case.batch}
  accumulate: 1
  precision: {precision}
  compile: false
  budget: {case.steps * case.batch * case.context} tokens
study: {{trials: {trials}, milestones: {milestones}, sampler: random, pruner: none, keep: 1}}
""")


@contextlib.contextmanager
def workplace() -> Iterator[Path]:
    """A temporary folder as the working folder, where MLflow's server is nobody's; gone afterwards."""
    before, server = Path.cwd(), os.environ.pop("MLFLOW_TRACKING_URI", None)
    with tempfile.TemporaryDirectory(prefix="tuner-bench-") as folder:
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(before)
            if server is not None:
                os.environ["MLFLOW_TRACKING_URI"] = server


def fresh() -> Path:
    """A new empty folder in the working folder."""
    return Path(tempfile.mkdtemp(dir=Path.cwd()))


def write_text(path: Path, megabytes: int) -> None:
    """A text of about ``megabytes`` MB: the standard library's source, each copy with other numbers in it."""
    sources = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    with path.open("w", encoding="utf-8") as out:
        copy = 0
        while out.tell() < megabytes * 10**6:
            for source in sources:
                text = source.read_text(encoding="utf-8", errors="ignore")
                out.write(text.replace("self", f"self{copy}").replace("return", f"return {copy} +"))
            copy += 1
        out.truncate(megabytes * 10**6)


def prepare(spec: StudySpec) -> CorpusInfo:
    """Write the workplace's text, 1 MB of about 100 different characters, and tokenise it.

    Raises:
        TunerError: it could not be done.
    """
    write_text(Path(TEXT), 1)
    return tokenised(spec)


def tokenised(spec: StudySpec) -> CorpusInfo:
    """The corpus of the study's trial as written, built where it is not there.

    Raises:
        TunerError: it could not be done.
    """
    answer = call(DataJob(spec.trial.data, CORPORA))
    if isinstance(answer, TunerError):
        raise answer
    assert isinstance(answer, CorpusInfo)
    return answer


class _Heard(LocalWorkers):
    """Local workers whose words are kept with the moment they came, before the driver does anything with them."""

    def __init__(self, workers: int, threads: int) -> None:
        super().__init__(["cpu"] * workers, threads)
        self.first, self.last = 0.0, 0.0
        self.facts: dict[int, dict[str, Value]] = {}
        self.rows: dict[int, list[Spent]] = {}

    def wait(self, timeout: float) -> list[Event]:
        events = super().wait(timeout)
        now = time.perf_counter()
        for event in events:
            match event.message:
                case Started() as started:
                    self.first = self.first or now
                    self.facts[event.number] = dict(started.facts)
                case Measurement() as measurement:
                    self.rows.setdefault(event.number, []).append(measurement.spent)
                case Outcome():
                    self.last = now
        return events


class _Patient:
    """A watcher that shows nothing, keeps how trials ended, and does ``act`` once a trial's model stands."""

    def __init__(self, act: Callable[[], None] = lambda: None) -> None:
        self.act = act
        self.ends: dict[int, Outcome] = {}

    def preparing(self, number: int, work: Preparing) -> None: ...

    def started(self, number: int, point: Point, started: Started) -> None:
        self.act()

    def measured(self, number: int, measurement: Measurement) -> None: ...

    def ended(self, number: int, outcome: Outcome, value: float | None) -> None:
        self.ends[number] = outcome

    def say(self, sentence: str) -> None: ...


@dataclass(frozen=True)
class Measured:
    """A run of a study.

    ``wall``: seconds from the first trial whose data and model stand to the last outcome. ``training``: training
    seconds of all trials, by their own count. ``driver``: processor seconds of the driver. ``rate``: tokens a second
    of the trials together, each from its first row to its last, so that no start counts. ``facts``: the first
    trial's.
    """

    wall: float
    training: float
    driver: float
    rate: float
    facts: dict[str, Value]


def run_study(
    spec: StudySpec, workers: int, threads: int, tracker: Tracker, folder: Path, storage: str = MEMORY_URL
) -> Measured:
    """Drive ``spec`` in ``folder`` with ``workers`` processes of ``threads`` threads.

    Raises:
        TunerError: a trial did not complete, so that its time says nothing.
    """
    search = Search(spec, open_storage(storage, create=True))
    hands, watcher = _Heard(workers, threads), _Patient()
    before = time.process_time()
    Driver(spec, search, hands, tracker, watcher, folder, CORPORA).run()
    driver = time.process_time() - before
    for number, outcome in watcher.ends.items():
        if outcome.state is not State.COMPLETE:
            raise TunerError(f"bench: trial {number} was to complete and is {outcome.state}: {outcome.reason}.")
    training = sum(rows[-1].seconds for rows in hands.rows.values())
    rate = sum(_rate(rows) for rows in hands.rows.values())
    return Measured(hands.last - hands.first, training, driver, rate, hands.facts[0])


def settle(spec: StudySpec, threads: int) -> None:
    """Begin the trial of ``spec`` and leave it as soon as its model stands: what it left ``auto`` is noted by then."""
    search = Search(spec, open_storage(MEMORY_URL))
    hands, watcher = LocalWorkers(["cpu"], threads), _Patient()
    driver = Driver(spec, search, hands, NullTracker(), watcher, fresh(), CORPORA)
    watcher.act = driver.stop
    driver.run()


def _rate(rows: list[Spent]) -> float:
    first, last = rows[0], rows[-1]
    return (last.tokens - first.tokens) / (last.seconds - first.seconds)


def measured(name: str, job: Mapping[str, Any]) -> Any:
    """What ``tuner.train.use.pace`` measures under that name, in a process of its own.

    Raises:
        TunerError: it fails.
    """
    command = [sys.executable, "-m", "tuner.train.use.pace", name, json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        raise TunerError(f"bench: measuring ended with exit code {done.returncode}: {lines[-1]}")
    return json.loads(done.stdout)
