"""A labelled table whose words give its classes away, and the data of a trial on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

CLASSES = ("birds", "fish", "mammals")
WORDS = {"birds": "wing nest egg fly", "fish": "fin sea scale swim", "mammals": "fur milk run warm"}


def data(table: Path, **changes: Any) -> dict[str, Any]:
    base = {"source": "csv", "path": str(table), "column": "text", "label": "kind", "context": 16}
    return {**base, "tokenizer": {"kind": "byte"}, "split": [0.6, 0.2, 0.2], "overlap": 1.0, **changes}
