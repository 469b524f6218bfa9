"""Every point between which a trial's state changes in its worker: killed there, it ends with the same bits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from crash_points import every_trial


def test_a_trial_killed_at_a_few_points_ends_bit_identical(tmp_path: Path, text_file: Path) -> None:
    assert every_trial(tmp_path, text_file, 1, stride=4) >= 3


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_a_trial_killed_at_every_crash_point_ends_bit_identical(
    tmp_path: Path, text_file: Path, figures: Callable[[str], None]
) -> None:
    kills = every_trial(tmp_path, text_file, 12)
    figures(f"{kills} crash points of a trial: {kills} times the same weights, no torn checkpoint")
