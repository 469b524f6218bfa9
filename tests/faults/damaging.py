"""Damage as disks and crashes do it: a file cut short, or some of its bytes changed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from tuner.spec.records import Measurement, Spent


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


Told = Counter[str]
"""What came of each damage: ``found``, or ``harmless`` where what was read is what was written."""


def measurement(step: int, milestone: int | None = None) -> Measurement:
    spent = Spent(step, step * 100, step * 1.5e6, step / 8)
    return Measurement(spent, {"train_loss": 5 - step / 64, "val_loss": 4.5}, milestone, 1_700_000_000_000 + step)
