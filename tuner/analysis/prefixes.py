"""What a value before the end of a budget is worth: a trial whose rate has not decayed yet is no shorter trial.
A sentence about a study's schedules; which trials are compared where is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DECAYING = ("cosine", "linear")
"""Schedules whose rate falls all along, so that a prefix is no finished run of its length."""


def truncated(spec: Mapping[str, Any]) -> str:
    """A warning for whoever compares trials of this study (its spec as data) before their end; empty where none is due.

    A cosine of 72k steps read at step 24k lies 0.037 to 0.060 nats above one of 24k steps, and high rates lose most
    by it (from the published curves of MultiPowerLaw, 25M to 400M parameters).
    """
    searched = spec["space"].get("optim.schedule", {}).get("choice")
    schedules = searched or [spec["trial"]["optim"]["schedule"]]
    found = [schedule for schedule in schedules if schedule in DECAYING]
    if not found:
        return ""
    much = "some hundredths of a nat too high" if spec["study"].get("metric") == "val_loss" else "too high"
    return (
        f"Before the end the rate of a {' or '.join(found)} schedule has not decayed: such values are {much}, most so "
        "at high rates. optim.schedule: wsd makes them comparable."
    )
