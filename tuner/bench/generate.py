"""Generation with the key-value cache against reading everything again for each token: tokens a second, in turns.
It starts the measuring process and prints what that says. No torch here.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

from tuner.spec.errors import TunerError

THREADS = 1


def compare_generation(pairs: int = 5, depth: int = 4, width: int = 128, context: int = 256, tokens: int = 256) -> None:
    """Print tokens a second of both ways and their ratio for each pair, the medians, and whether texts were equal.

    Raises:
        TunerError: the measuring process failed.
    """
    job = {
        "depth": depth, "width": width, "context": context, "tokens": tokens, "pairs": pairs, "threads": THREADS,
    }  # fmt: skip
    title = f"{depth} x {width}, context {context}: {tokens} tokens at temperature 0, threads {THREADS}"
    print(title, flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "tuner.train.use.pace", json.dumps(job)], capture_output=True, text=True
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        raise TunerError(f"bench: generating ended with exit code {done.returncode}: {lines[-1]}")
    told = json.loads(done.stdout)
    ratios = [cached / uncached for cached, uncached in zip(told["cached"], told["uncached"], strict=True)]
    for pair, (cached, uncached) in enumerate(zip(told["cached"], told["uncached"], strict=True), start=1):
        print(f"pair {pair}: {cached:,.0f} tokens/s cached, {uncached:,.0f} not, ratio {ratios[pair - 1]:.2f}")
    cached, uncached = statistics.median(told["cached"]), statistics.median(told["uncached"])
    print(
        f"median of {pairs}: {cached:,.0f} tokens/s cached, {uncached:,.0f} not, ratio {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f}); the texts are {'equal' if told['equal'] else 'DIFFERENT'}"
    )
