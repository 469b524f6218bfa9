"""The desk: where promotions of this folder are written, and the hands that load models in processes of their own.
Wiring only; what is promoted, and when, is decided in promotion/.
"""

from __future__ import annotations

from pathlib import Path

from tuner.promotion.promote import Desk, actor
from tuner.run.hands.link import ExamineJob, ProveJob
from tuner.run.hands.local import call
from tuner.search.url import storage_url
from tuner.spec.errors import TunerError
from tuner.spec.records import Evidence
from tuner.tracking.store import location

CORPORA = Path("runs") / ".corpora"


class Apart:
    """Hands in processes of their own: a model that crashes takes nothing with it, and torch stays out of here."""

    def __init__(self, corpora: Path) -> None:
        self.corpora = corpora

    def examine(self, checkpoint: Path, champion: Path | None, test_tokens: int | None) -> Evidence:
        answer = call(ExamineJob(checkpoint, self.corpora, champion, test_tokens))
        assert isinstance(answer, Evidence)
        return answer

    def prove(self, folder: Path) -> None:
        if isinstance(error := call(ProveJob(folder)), TunerError):
            raise error


def open_desk(storage: str | None, tracking: str | None, who: str | None = None) -> Desk:
    """The desk of the working folder: stores by option, environment or default, as a study has them."""
    return Desk(storage_url(storage, None), location(tracking), CORPORA, who or actor(), Apart(CORPORA))
