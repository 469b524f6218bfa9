"""Where the trial store is: which URL counts. Text only, so that a plan needs neither Optuna nor SQLAlchemy."""

from __future__ import annotations

import os

DEFAULT_URL = "sqlite:///tuner.db"


def storage_url(flag: str | None, from_yaml: str | None) -> str:
    """``--storage``, else ``TUNER_STORAGE``, else the YAML's, else ``tuner.db`` in this folder."""
    return flag or os.environ.get("TUNER_STORAGE") or from_yaml or DEFAULT_URL
