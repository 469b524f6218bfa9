"""The meter: milestones and rows come at exact shares of the budget, whatever batch, unit or interruption."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tuner.spec.budget import Budget
from tuner.train.meter import ROWS_PER_MILESTONE, Meter


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def run(meter: Meter, clock: Clock, step_seconds: float, stop_at: int | None = None) -> tuple[list[int], list[int]]:
    """Steps at which milestones and rows came; ``stop_at`` leaves early."""
    milestones, rows = [], []
    meter.go()
    while not meter.done or meter.due:
        if meter.spent.steps == stop_at:
            break
        clock.now += step_seconds
        meter.step()
        if meter.row_due:
            meter.row_written()
            rows.append(meter.spent.steps)
        while (due := meter.due) is not None:
            meter.reached = due
            milestones.append(meter.spent.steps)
    return milestones, rows


@given(st.integers(1, 5000), st.integers(1, 64), st.integers(1, 20))
def test_every_milestone_comes_once_at_its_share(tokens: int, per_step: int, shares: int) -> None:
    clock = Clock()
    meter = Meter(Budget.parse(f"{tokens} tokens"), per_step, 6.0, shares, clock)
    milestones, _ = run(meter, clock, 0.1)
    assert meter.steps == -(-tokens // per_step)
    assert milestones == [-(-k * meter.steps // shares) for k in range(1, shares + 1)]
    assert meter.spent.tokens == meter.steps * per_step
    assert meter.spent.flops == meter.spent.tokens * 6.0


@given(st.integers(20, 3000), st.integers(1, 12), st.data())
def test_an_interruption_changes_neither_milestones_nor_rows(steps: int, shares: int, data: st.DataObject) -> None:
    budget = Budget.parse(f"{steps} tokens")
    whole = run(Meter(budget, 1, 1.0, shares, Clock()), Clock(), 0.1)
    stop = data.draw(st.integers(1, steps - 1))
    first, second = Meter(budget, 1, 1.0, shares, Clock()), Meter(budget, 1, 1.0, shares, Clock())
    before = run(first, Clock(), 0.1, stop_at=stop)
    second.restore(first.spent, first.reached)
    after = run(second, Clock(), 0.1)
    assert (before[0] + after[0], before[1] + after[1]) == whole
    assert len(whole[1]) <= shares * ROWS_PER_MILESTONE


def test_seconds_count_training_only() -> None:
    clock = Clock()
    meter = Meter(Budget.parse("10 s"), 8, 1.0, 5, clock)
    meter.go()
    clock.now = 3.0
    meter.step()
    meter.pause()
    clock.now = 100.0  # an evaluation
    meter.go()
    clock.now = 102.0
    meter.step()
    assert meter.spent.seconds == 5.0
    assert meter.due == 1
    assert not meter.done
    assert meter.steps is None


def test_a_budget_in_flops_gives_a_wider_model_fewer_steps() -> None:
    narrow = Meter(Budget.parse("1e9 flops"), 64, 1e4, 4, Clock())
    wide = Meter(Budget.parse("1e9 flops"), 64, 4e4, 4, Clock())
    assert narrow.steps is not None
    assert wide.steps is not None
    assert 0 <= 4 * wide.steps - narrow.steps < 4  # each rounded up to whole steps
