"""A real study of three tiny trials, trained by the commands that a person would type."""

from __future__ import annotations

from pathlib import Path

from commands import STUDY, run


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


def finished(folder: Path, text: Path) -> Path:
    """``folder`` with the finished study ``small`` in it, and no champion of its model ``tiny``."""
    (folder / "small.yaml").write_text(yaml(text))
    ended = run(folder, *STUDY)
    assert ended.returncode == 0, ended.stderr
    return folder
