"""Generation with the key-value cache against reading everything again for each token: tokens a second, in turns.
It starts the measuring process and prints what that says. No torch here.
"""

from __future__ import annotations

import statistics

from tuner.bench.lab import measured

THREADS = 1


def compare_generation(pairs: int = 5, depth: int = 4, width: int = 128, context: int = 256, tokens: int = 256) -> None:
    """Print tokens a second of both ways and their ratio for each pair, the medians, and whether texts were equal; and
    what the same model takes in 8-bit whole numbers.

    Raises:
        TunerError: the measuring process failed.
    """
    shape = {"depth": depth, "width": width, "context": context, "threads": THREADS}
    title = f"{depth} x {width}, context {context}: {tokens} tokens at temperature 0, threads {THREADS}"
    print(title, flush=True)
    told = measured("pace", {**shape, "tokens": tokens, "pairs": pairs})
    ratios = [cached / uncached for cached, uncached in zip(told["cached"], told["uncached"], strict=True)]
    for pair, (cached, uncached) in enumerate(zip(told["cached"], told["uncached"], strict=True), start=1):
        print(f"pair {pair}: {cached:,.0f} tokens/s cached, {uncached:,.0f} not, ratio {ratios[pair - 1]:.2f}")
    cached, uncached = statistics.median(told["cached"]), statistics.median(told["uncached"])
    print(
        f"median of {pairs}: {cached:,.0f} tokens/s cached, {uncached:,.0f} not, ratio {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f}); the texts are {'equal' if told['equal'] else 'DIFFERENT'}"
    )
    for what, shares in measured("int8", {**shape, "turns": pairs}).items():
        said = f"{statistics.median(shares):.2f} x the time of fp32 ({min(shares):.2f} to {max(shares):.2f})"
        print(f"in 8-bit whole numbers a {what}: {said}")
