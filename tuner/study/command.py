"""The study command: from a YAML file to a finished search and its summary.
It puts the rooms together and chooses exit codes; the work is done in run/, search/, tracking/ and train/.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from tuner.spec.errors import DataError, InfeasibleError, TunerError

if TYPE_CHECKING:
    from tuner.run.driver import Driver
    from tuner.run.fitting import Fitting
    from tuner.search.asktell import Search
    from tuner.spec.study import StudySpec
    from tuner.spec.trial import TrialSpec
    from tuner.study.hire import Hired
    from tuner.tracking.tracker import StudyTracker

RUNS = Path("runs")
INTERRUPTED = 130

# before numpy is loaded: its threads spin while they wait, which takes cores from the trials; its matrices are small
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def study(
    yaml: Annotated[Path, typer.Argument(metavar="YAML", help="the search space, such as search_spaces/base.yaml")],
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="override a field: trial.budget='200k tokens'"),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(help="trial store as a SQLAlchemy URL [default: TUNER_STORAGE, else sqlite:///tuner.db]"),
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option("--from", metavar="STUDY", help="begin with what fits of another study's trials"),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="train on a Ray cluster: auto, local or ray://HOST:10001"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the plan and stop; nothing is created")] = False,
) -> None:
    """Search: train the trials of a YAML file, go on where it stopped, print the best."""
    with errors_as_sentences():
        raise typer.Exit(run_study(yaml, set_ or [], storage, dry_run, from_, ray))


def main() -> None:
    """Entry of ``python -m tuner.study``."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(study)
    leave(app)


def leave(app: typer.Typer) -> None:
    """Run a command to the end of its process. One that was interrupted leaves at once: all it knows is on disk, and a
    thread that still loads MLflow would hold it for seconds.
    """
    try:
        app()
    except SystemExit as ended:
        if ended.code != INTERRUPTED:
            raise
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):  # nobody reads any more
                stream.flush()
        os._exit(INTERRUPTED)


@contextmanager
def errors_as_sentences() -> Iterator[None]:
    """Turn a TunerError, or Ctrl-C outside a running search, into a sentence on stderr and an exit code."""
    try:
        yield
    except TunerError as error:
        Console(stderr=True).print(Text(f"error: {error}"), soft_wrap=True)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted; the same command goes on")
        raise typer.Exit(INTERRUPTED) from None
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        Console(stderr=True).print(Text(f"error: {place}{error.strerror or error}"), soft_wrap=True)
        raise typer.Exit(1) from None


def run_study(
    yaml: Path,
    overrides: list[str],
    storage: str | None,
    dry_run: bool,
    old: str | None = None,
    cluster: str | None = None,
) -> int:
    """Do the whole job; returns the exit code (0 complete or planned, 130 interrupted). A study that has no trial yet
    begins with those of ``old``; trials run on the Ray cluster of that address, or here.

    Raises:
        TunerError: with a sentence and its own exit code.
    """
    from tuner.run.hands.local import accelerators
    from tuner.search.store.url import storage_url
    from tuner.spec.load import load
    from tuner.study.plan import make_plan
    from tuner.study.prepare import ancestry, prepare_data
    from tuner.study.show.preview import print_plan
    from tuner.tracking.store import location

    console = Console()
    spec = load(yaml, overrides, ancestry(RUNS, storage, keep=not dry_run))
    url, uri = storage_url(storage, spec.study.storage), location(spec.study.tracking)
    print_plan(console, spec, make_plan(spec, RUNS, [] if cluster else accelerators(), cluster), url, uri)
    if old is not None:
        from tuner.study.fork import require_source

        require_source(spec, url, old)
    if dry_run:
        return 0

    from tuner.run.folder import claim, pin
    from tuner.search.asktell import Search
    from tuner.search.requests import dismiss
    from tuner.search.store.lock import study_lock
    from tuner.search.store.storage import open_storage
    from tuner.study.fork import begin_with
    from tuner.study.hire import hired
    from tuner.study.plan import remember_speed
    from tuner.study.show.screen import Screen

    folder = RUNS / spec.name
    with study_lock(url, spec.name, folder) as renew:
        opened = open_storage(url, create=True)
        search = Search(spec, opened)
        dismiss(opened, spec.name)
        claim(folder, search.origin, uri)
        pin(folder, spec.trial.init)
        if not search.left:
            return _already_complete(console, spec, search, folder, uri)
        screen = Screen(spec, console, 0, None)
        info = prepare_data(spec, RUNS / ".corpora", screen, search.begun)
        search.hold_text(info.texts)
        if old is not None and not search.begun:
            search = begin_with(console, spec, opened, old, info.texts)
        search.outage.renew = renew
        with hired(spec, folder, cluster, screen.say) as hands:
            ending = _search(console, spec, search, info.vocab, folder, uri, hands)
            if ending == 0 and cluster is None:  # how quick a cluster was says nothing of this machine
                remember_speed(RUNS, hands.workers.slots, search.record())
            return ending


def _already_complete(console: Console, spec: StudySpec, search: Search, folder: Path, uri: str) -> int:
    from tuner.run.retention import retain_best
    from tuner.search.history import IMPORTED, QUEUED
    from tuner.search.repeats import wanted
    from tuner.study.show.summary import print_best, print_standings
    from tuner.tracking.mirror import unmirrored
    from tuner.tracking.tracker import StudyTracker

    record = search.record()
    retain_best(folder, record, spec.study.keep, spec.study.disk)  # its driver may have died before it had
    again = spec.study.repeats
    owed = again is not None and bool(wanted(record, again.top, again.seeds))
    end = search.enough() if search.searching or owed else None
    why = "nothing left to do" if end is None else end.sentence
    console.print(f"study {spec.name} is complete: {search.spent} of {spec.study.trials} trials; {why}", soft_wrap=True)
    nameless = any(t.ended and not {"mlflow_run", IMPORTED} & set(t.facts) for t in record.trials)
    if unmirrored(folder, uri) or nameless:  # the driver died after the last trial, or MLflow was away
        _close(console, StudyTracker(folder, spec.name, uri, lambda sentence: None), search, uri, hurried=False)
    print_best(console, record)
    print_standings(console, record)
    queued = sum(trial.state == QUEUED for trial in record.trials)
    more = f"raise study.trials to go on (--set study.trials={2 * spec.study.trials})"
    if queued:
        those = "1 point that was queued waits" if queued == 1 else f"{queued} points that were queued wait"
        more = f"{those}: --set study.trials={search.spent + queued}"
    elif search.exhausted:
        more = "every point of the grid was tried; another space is another study (--set name=...)"
    elif end is not None:
        more = f"raise {end.raising} to go on"
    console.print(more, highlight=False)
    return 0


def _search(console: Console, spec: StudySpec, search: Search, vocab: int, folder: Path, uri: str, hands: Hired) -> int:
    from tuner.run.driver import Driver, Ending
    from tuner.study.show.screen import Screen
    from tuner.study.show.summary import print_summary
    from tuner.study.version import code_version
    from tuner.tracking.tracker import StudyTracker

    began = time.monotonic()
    ranked = [t for t in search.record().ranked() if t.value is not None]
    screen = Screen(spec, console, search.spent, (ranked[0].value or 0.0, ranked[0].number) if ranked else None)
    search.hold_device(hands.kind)
    fitting = _fitting(spec, vocab, hands)
    tracker = StudyTracker(folder, spec.name, uri, screen.say)
    driver = Driver(spec, search, hands.workers, tracker, screen, folder, RUNS / ".corpora", code_version(), fitting)
    ending = Ending.INTERRUPTED
    try:
        with _signals(driver, console), screen.shown():
            ending = driver.run()
    finally:
        hands.workers.kill()
        _close(console, tracker, search, uri, hurried=ending is Ending.INTERRUPTED)
    if ending is Ending.INTERRUPTED:
        command = shlex.join(["python", *sys.orig_argv[1:]])
        console.print(Text(f"interrupted; the same command goes on:\n{command}"), soft_wrap=True)
        return INTERRUPTED
    print_summary(console, search.record(), search.importance(), time.monotonic() - began, str(RUNS))
    return 0


def _fitting(spec: StudySpec, vocab: int, hands: Hired) -> Fitting:
    from tuner.run.fitting import Fitting
    from tuner.spec.parts.scalars import digest
    from tuner.study.plan import vocabulary
    from tuner.train.machine.capacity import MACHINE, Capacity

    def named(trial: TrialSpec) -> str:
        return digest(trial.data.model_dump(mode="json", exclude={"mix", "auxiliary", "augment", "context"}))

    known: dict[str, int] = {named(spec.trial): vocab}

    def vocab_of(trial: TrialSpec) -> int:
        """Of the trial's own text, looked up once: finding it reads the whole source."""
        key = named(trial)
        if key not in known:
            try:
                known[key], _ = vocabulary(trial, RUNS / ".corpora")
            except DataError as error:
                raise InfeasibleError(str(error)) from None
        return known[key]

    return Fitting(None if hands.limit is None else Capacity(hands.limit, hands.kind, RUNS / MACHINE), vocab_of)


def _close(console: Console, tracker: StudyTracker, search: Search, uri: str, hurried: bool) -> None:
    """Let the mirror end within its patience, and say what is left for ``tuner sync``."""
    from tuner.tracking.store import patience

    if missing := tracker.close(patience(uri, hurried)):
        console.print(f"{missing} points not mirrored to MLflow; run `tuner sync {search.spec.name}`", highlight=False)
    search.link_runs(tracker.runs())


@contextmanager
def _signals(driver: Driver, console: Console) -> Iterator[None]:
    """Ctrl-C, SIGTERM and a closed terminal stop the study with checkpoints; a second one at once."""

    def heard(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:  # nobody reads any more, and writing would raise
            console.file = sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
        driver.stop()

    known = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    before: dict[signal.Signals, Callable[[int, FrameType | None], object] | int | None] = {
        number: signal.signal(number, heard) for number in known
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
