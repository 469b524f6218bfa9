"""Before the first trial: the model it begins with is kept, the corpus built, the accelerators named, each in a process
of its own. A mistake in the data ends the command here, before a trial exists.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path

from tuner.analysis import words
from tuner.run.folder import MODELS, kept_model, pins
from tuner.run.hands.link import DataJob, KeepJob
from tuner.run.hands.local import devices, warm_up
from tuner.run.hands.once import call
from tuner.spec.errors import TunerError
from tuner.spec.load import Ancestry
from tuner.spec.records import Ancestor, CorpusInfo, Preparing
from tuner.spec.study import StudySpec
from tuner.study.show.screen import Screen
from tuner.train.text.corpus import corpus_report
from tuner.train.text.prepare.watch import require_apart, strangeness


def ancestry(runs: Path, storage: str | None, keep: bool = True, pinned: bool = True) -> Ancestry:
    """How ``trial.init.source`` is found: as the study began, whatever its name means now, if ``pinned``; else looked
    up, and its copy kept below ``runs`` (without ``keep`` below a folder that goes with this process).
    """

    def find(spec: StudySpec) -> Ancestor:
        from tuner.promotion.package.named import located
        from tuner.promotion.registry import Registry
        from tuner.search.store.url import storage_url
        from tuner.tracking.store import location

        init, models, corpora = spec.trial.init, runs / MODELS, runs / ".corpora"
        known = init.sha256 or (pins(runs / spec.name).get(str(init.source)) if pinned else None)
        if known is not None and (kept := kept_model(runs, known)).is_dir():
            answer = call(KeepJob(kept, corpora, models))
            if isinstance(answer, Ancestor):  # else it is damaged: fetched again
                return answer
        store, registry = storage_url(storage, spec.study.storage), Registry(location(spec.study.tracking))
        with located(store, registry, str(init.source)) as folder:
            answer = call(KeepJob(folder, corpora, models if keep else _scratch()))
        if isinstance(answer, TunerError):
            raise answer
        assert isinstance(answer, Ancestor)
        return answer

    return find


def _scratch() -> Path:
    folder = tempfile.mkdtemp(prefix="tuner-models-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def prepare_data(spec: StudySpec, corpora: Path, screen: Screen, begun: bool = False) -> CorpusInfo:
    """Build the corpus of the trial as written, or find it.

    Raises:
        DataError: the text cannot be read, is too short, lacks its column; its parts are the same text, and no trial
            has ``begun``.
    """

    def heard(work: Preparing) -> None:
        warm_up()  # the text is sound and takes a while: load torch meanwhile
        screen.progress(work)

    answer = call(DataJob(spec.trial.data, corpora, apart=not begun), heard)
    if isinstance(answer, TunerError):
        raise answer
    assert isinstance(answer, CorpusInfo)
    report = corpus_report(Path(answer.folder))
    if not begun:
        require_apart(report.get("overlap", {}), spec.trial.data.overlap)
    train, val, test = (words.count(tokens) for tokens in answer.tokens)
    screen.say(
        f"text: {train} tokens to train on, {val} to validate, {test} kept back for the test; "
        f"vocabulary {answer.vocab}; fingerprint {answer.fingerprint}"
    )
    if strange := strangeness(report.get("unknown", {})):
        screen.say(f"note: {strange}")
    return answer


def probe_devices() -> tuple[list[str], str]:
    """The accelerators torch can use, none on a machine without; and what kind of device trials will run on."""
    answer = devices()
    return [name for name in answer if name != "cpu"], " and ".join(sorted(set(answer.values())))
