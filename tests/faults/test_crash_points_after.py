"""Every point between which a study's state changes: killed after it, the same command ends as if nothing had been."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from crash_points import every_study


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_a_study_killed_after_every_crash_point_ends_as_if_it_had_not_been(
    tmp_path: Path, database: Path, figures: Callable[[str], None]
) -> None:
    kills = every_study(tmp_path, database, 6, slice(1, None, 2))
    figures(f"{kills} crash points of a study, after: {kills} times the same trials, values and MLflow points")
