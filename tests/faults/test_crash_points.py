"""Every point between which a study's state changes: killed before it, the same command ends as if nothing had been.

After it: test_crash_points_after.py, beside this one and not in it so that both run at once.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from crash_points import every_study


def test_a_study_killed_at_a_few_points_ends_as_if_it_had_not_been(tmp_path: Path, database: Path) -> None:
    assert every_study(tmp_path, database, 1, slice(None, None, 16)) >= 2


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_a_study_killed_before_every_crash_point_ends_as_if_it_had_not_been(
    tmp_path: Path, database: Path, figures: Callable[[str], None]
) -> None:
    kills = every_study(tmp_path, database, 6, slice(0, None, 2))
    figures(f"{kills} crash points of a study, before: {kills} times the same trials, values and MLflow points")
