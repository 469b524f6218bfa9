"""A real study of three tiny trials, trained by the commands that a person would type."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TUNER = [sys.executable, "-m", "tuner.cli.main"]
STUDY = [sys.executable, "-m", "tuner.study", "small.yaml"]


def yaml(text: Path) -> str:
    return f"""
name: small
trial:
  data:
    {{source: text, path: "{text}", tokenizer: {{kind: char}}, context: 32, val_tokens: 2048, split: [0.8, 0.1, 0.1]}}
  model: {{depth: 1, width: 32}}
  batch: 8
  budget: 12k tokens
space:
  optim.muon.lr: {{choice: [0.001, 0.01, 0.011]}}
study: {{trials: 3, milestones: 2, sampler: grid, pruner: none, workers: 2, keep: 3, samples: 0}}
promotion: {{model: tiny, test_tokens: 4000}}
"""


def run(folder: Path, *words: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if k not in ("MLFLOW_TRACKING_URI", "TUNER_STORAGE", "TUNER_ACTOR")}
    return subprocess.run(
        [str(word) for word in words], cwd=folder, capture_output=True, text=True, timeout=120, env=clean | env
    )


def finished(folder: Path, text: Path) -> Path:
    """``folder`` with the finished study ``small`` in it, and no champion of its model ``tiny``."""
    (folder / "small.yaml").write_text(yaml(text))
    ended = run(folder, *STUDY)
    assert ended.returncode == 0, ended.stderr
    return folder
