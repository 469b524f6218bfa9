"""Damage as disks and crashes do it: a file cut short, or some of its bytes changed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple


class Dose(NamedTuple):
    """How much damage is done to each file, one thing at a time: ``cuts`` evenly spaced, ``flips`` at random."""

    cuts: int
    flips: int


def damaged(data: bytes, dose: Dose) -> Iterator[bytes]:
    """``data`` without its end, then with one to four of its bytes changed; the same damage every time."""
    for cut in range(dose.cuts):
        yield data[: len(data) * cut // dose.cuts]
    rng = random.Random(len(data))
    places = [place for place, byte in enumerate(data) if byte]  # a database is empty for the most part
    for _ in range(dose.flips if places else 0):
        changed = bytearray(data)
        for at in rng.sample(places, min(len(places), rng.choice([1, 1, 1, 2, 4]))):
            changed[at] ^= rng.randrange(1, 256)
        yield bytes(changed)
