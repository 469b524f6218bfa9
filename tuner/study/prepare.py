"""Before the first trial: the corpus is built, the accelerators are named; each in a process of its own.
A mistake in the data ends the command here, before a trial exists.
"""

from __future__ import annotations

from pathlib import Path

from tuner.analysis import words
from tuner.run.hands.link import DataJob
from tuner.run.hands.local import devices, warm_up
from tuner.run.hands.once import call
from tuner.spec.errors import TunerError
from tuner.spec.records import CorpusInfo, Preparing
from tuner.spec.study import StudySpec
from tuner.study.show.screen import Screen
from tuner.train.text.corpus import corpus_report
from tuner.train.text.prepare.watch import require_apart


def prepare_data(spec: StudySpec, corpora: Path, screen: Screen, begun: bool = False) -> CorpusInfo:
    """Build the corpus of the trial as written, or find it.

    Raises:
        DataError: the text cannot be read, is too short, lacks its column; its parts are the same text, and no trial
            has ``begun``.
    """

    def heard(work: Preparing) -> None:
        warm_up()  # the text is sound and takes a while: load torch meanwhile
        screen.progress(work)

    answer = call(DataJob(spec.trial.data, corpora), heard)
    if isinstance(answer, TunerError):
        raise answer
    assert isinstance(answer, CorpusInfo)
    if not begun:
        require_apart(corpus_report(Path(answer.folder)).get("overlap", {}), spec.trial.data.overlap)
    train, val, test = (words.count(tokens) for tokens in answer.tokens)
    screen.say(
        f"text: {train} tokens to train on, {val} to validate, {test} kept back for the test; "
        f"vocabulary {answer.vocab}; fingerprint {answer.fingerprint}"
    )
    return answer


def probe_devices() -> tuple[list[str], str]:
    """The accelerators torch can use, none on a machine without; and what kind of device trials will run on."""
    answer = devices()
    return [name for name in answer if name != "cpu"], " and ".join(sorted(set(answer.values())))
