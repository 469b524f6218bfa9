"""The desk: where promotions of this folder are written, and by whose hands models are loaded.
Wiring only; what is promoted, and when, is decided in promotion/.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from tuner.promotion.ledger import Ledger
from tuner.promotion.promote import Desk, actor
from tuner.run.control.apart import Apart
from tuner.search.history import read_study
from tuner.search.store.storage import open_storage
from tuner.search.store.url import storage_url
from tuner.spec.errors import TunerError
from tuner.tracking.store import location

CORPORA = Path("runs") / ".corpora"


def open_desk(storage: str | None, tracking: str | None, who: str | None, name: str | None = None) -> Desk:
    """The desk of the working folder. ``name`` is a study or a model: where neither option nor environment says where
    MLflow is, what its study's YAML said counts.
    """
    store = storage_url(storage, None)
    uri = location(tracking) if tracking or os.environ.get("MLFLOW_TRACKING_URI") else location(_said(store, name))
    return Desk(store, uri, CORPORA, who or actor(), Apart(CORPORA))


def _said(store: str, name: str | None) -> str | None:
    """Where the study mirrored its runs; None where that is not known."""
    if name is None:
        return None
    with contextlib.suppress(TunerError):
        study = re.split(r"[@:/]", name.removeprefix("models:/"))[0]
        known = [row.candidate["study"] for row in Ledger(store).history(study) if row.candidate]
        spec = read_study(open_storage(store), str(known[-1]) if known else study).spec
        said: str | None = spec["study"].get("tracking")
        return said
    return None
