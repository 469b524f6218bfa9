"""What a person sees while a study runs: live lines in a terminal, plain lines in a log.
It follows the driver and draws; it decides nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tuner.analysis import words
from tuner.spec.records import Measurement, Outcome, Point, Preparing, Started, State
from tuner.spec.study import StudySpec

MARKS = {
    State.COMPLETE: "●",
    State.PRUNED: "▲",
    State.INFEASIBLE: "◇",
    State.DIVERGED: "≈",
    State.FAILED: "✕",
    State.INTERRUPTED: "◐",
}


@dataclass
class _Line:
    """The state of one worker's trial on the screen."""

    doing: str = "starting"
    milestone: int = 0
    loss: float | None = None
    speed: float | None = None
    began: float = 0.0
    share: float = 0.0
    first_share: float = 0.0


class Screen:
    """A Watcher that shows a study: one line a worker, the best so far, the total."""

    def __init__(self, spec: StudySpec, console: Console, finished: int, best: tuple[float, int] | None) -> None:
        self.spec, self.console, self.finished, self.best = spec, console, finished, best
        self._lines: dict[int, _Line] = {}
        self._steps: dict[int, int | None] = {}
        self._began = time.monotonic()
        self._first = finished
        self._live: Live | None = None
        self._said: dict[str, int] = {}

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Draw until the block ends; nothing is drawn where the output is no terminal."""
        if not self.console.is_terminal:
            yield
            return
        with Live(get_renderable=self.render, console=self.console, refresh_per_second=4, transient=True) as live:
            self._live = live
            try:
                yield
            finally:
                self._live = None

    def preparing(self, number: int, work: Preparing) -> None:
        share = "" if work.fraction is None else f" {work.fraction:.0%}"
        self._lines.setdefault(number, _Line()).doing = f"{work.task}{share}"
        self.progress(work)

    def progress(self, work: Preparing) -> None:
        """A plain line at each tenth of a long preparation."""
        tenth = -1 if work.fraction is None else int(work.fraction * 10)
        if self._live is None and self._said.get(work.task, -2) < tenth:
            self._said[work.task] = tenth
            self.say(work.task if work.fraction is None else f"{work.task}: {work.fraction:.0%}")

    def started(self, number: int, point: Point, started: Started) -> None:
        steps = started.facts.get("steps")
        self._steps[number] = steps if isinstance(steps, int) else None
        self._lines[number] = _Line("training", began=time.monotonic())
        resumed = "" if started.resumed_from is None else f", goes on from step {started.resumed_from}"
        if self._live is None or resumed:
            self.say(f"trial {number} starts{resumed}: {words.point(dict(point))}")

    def measured(self, number: int, measurement: Measurement) -> None:
        line, study = self._lines.setdefault(number, _Line("training")), self.spec.study
        line.share = self._share(number, measurement)
        line.first_share = line.first_share or line.share
        line.speed = measurement.metrics.get("tokens_per_second", line.speed)
        if measurement.milestone is not None:
            line.milestone, line.loss = measurement.milestone, measurement.metrics[study.metric]

    def _share(self, number: int, measurement: Measurement) -> float:
        steps = self._steps.get(number)
        if steps is None:
            return min(1.0, measurement.spent.seconds / self.spec.trial.budget.amount)
        return measurement.spent.steps / steps

    def ended(self, number: int, outcome: Outcome, value: float | None) -> None:
        line = self._lines.pop(number, _Line())
        if outcome.state not in (State.INTERRUPTED, State.INFEASIBLE):
            self.finished += 1
        if value is not None and (self.best is None or value < self.best[0]):
            self.best = (value, number)
        result = value if value is not None else line.loss
        at = f" at milestone {line.milestone}" if value is None and line.milestone else ""
        shown = f" {self.spec.study.metric} {words.loss(result)}{at}" if result is not None else ""
        why = f": {outcome.reason}" if outcome.state in (State.FAILED, State.DIVERGED, State.INFEASIBLE) else ""
        best = f"  (best {words.loss(self.best[0])}, trial {self.best[1]})" if self.best else ""
        self.say(f"{MARKS[outcome.state]} trial {number} {outcome.state}{shown}{why}{best}")

    def say(self, sentence: str) -> None:
        with suppress(OSError):  # the terminal is gone, or the log's disk is full: the study goes on
            self.console.print(Text(f"[{self._clock()}] {sentence}"), soft_wrap=True)

    def _clock(self) -> str:
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        return f"{minutes:02d}:{seconds:02d}"

    def render(self) -> RenderableType:
        """The live picture, within 80 columns."""
        table = Table(box=None, pad_edge=False, expand=False)
        for title in ("trial", "progress", "milestone", self.spec.study.metric, "tokens/s", "left"):
            table.add_column(title, no_wrap=True)
        for number, line in sorted(self._lines.copy().items()):
            if line.doing != "training":
                table.add_row(str(number), Text(line.doing[:40]))
                continue
            table.add_row(
                str(number),
                ProgressBar(1.0, line.share, width=24),
                f"{line.milestone}/{self.spec.study.milestones}",
                words.loss(line.loss),
                words.count(line.speed) if line.speed else "-",
                self._left(line),
            )
        return Group(self._head(), table)

    def _left(self, line: _Line) -> str:
        done = line.share - line.first_share
        if done <= 0:
            return "-"
        return words.duration((time.monotonic() - line.began) * (1 - line.share) / line.share)

    def _head(self) -> Text:
        total, passed = self.spec.study.trials, time.monotonic() - self._began
        total = total if self.finished < total else self.spec.study.most  # repeats follow the search
        best = f"best {words.loss(self.best[0])} (trial {self.best[1]})" if self.best else "no trial finished yet"
        new = self.finished - self._first
        left = f", about {words.duration(passed / new * (total - self.finished))} left" if new >= 3 else ""
        return Text(f"{self.spec.name}: {self.finished} of {total} trials, {self._clock()} so far{left}; {best}")
