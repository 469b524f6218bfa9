"""Tokenising a large text: how long, and how much memory?
A fresh process does the work, so that its peak is its own.
"""

from __future__ import annotations

import subprocess
import sys
import time

from tuner.bench.lab import workplace, write_text

SCRIPT = """
import resource, sys
from pathlib import Path
from tuner.spec.parts.data import DataSpec
from tuner.train.text.corpus import open_corpus
data = DataSpec.model_validate({"source": "text", "path": sys.argv[1], "tokenizer": {"kind": "bpe", "vocab": 1024}})
print(sum(open_corpus(data, Path("corpora")).info.tokens), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def measure_tokenising(megabytes: int) -> None:
    """Print seconds, tokens a second and peak resident memory for a file of ``megabytes`` MB."""
    with workplace() as folder:
        write_text(folder / "large.txt", megabytes)
        began = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", SCRIPT, "large.txt"], capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - began
    tokens, peak = (int(word) for word in done.stdout.split())
    unit = 1 if sys.platform == "darwin" else 1024
    print(
        f"{megabytes} MB, bpe vocabulary 1,024: {tokens:,} tokens in {seconds:.0f} s "
        f"({tokens / seconds:,.0f} a second), peak resident memory {peak * unit / 1e6:,.0f} MB"
    )
