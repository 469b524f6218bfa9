"""The report: every state of a study gives a page in words, with pictures, without scripts, requests or live markup."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import conftest_app
import pytest
from conftest_app import Make
from typer.testing import CliRunner

from app.report.html import tag
from app.report.page import page
from app.report.read import read
from tuner.cli.main import app
from tuner.search.asktell import Search
from tuner.search.store.url import DEFAULT_URL
from tuner.spec.records import Measurement, Outcome, Spent, State
from tuner.tracking.spool import SPOOL, Spool

EVIL = "<script>alert(1)</script><img src=http://evil.example/x onerror=alert(1)> & \"quoted\" 'too'"
NO_SPACE = "name: seen\nstudy: {trials: 3, milestones: 4, sampler: random, pruner: none}"


class _Page(HTMLParser):
    """What a browser would see: elements with their attributes, and the texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, name: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((name, dict(attrs)))
        if name not in ("meta", "br"):
            self.open.append(name)

    def handle_startendtag(self, name: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((name, dict(attrs)))

    def handle_endtag(self, name: str) -> None:
        assert self.open.pop() == name

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words += data + " "

    def count(self, name: str) -> int:
        return sum(1 for tag_, _ in self.tags if tag_ == name)


def seen(name: str = "seen") -> _Page:
    return checked(page(read(DEFAULT_URL, name, Path("runs"))))


def checked(text: str) -> _Page:
    """The page, once nothing in it can run or ask for anything."""
    found = _Page(text)
    assert not found.open
    assert found.count("script") == found.count("img") == found.count("link") == found.count("iframe") == 0
    for _, attrs in found.tags:
        assert not any(name.startswith("on") for name in attrs)
        assert not any("//" in (value or "") for value in attrs.values()), attrs
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    # the figure says what a picture shows; a thousand marks with a role and no name say nothing
    assert not any("role" in attrs for name, attrs in found.tags if name in ("svg", "g", "path", "text"))
    names = [attrs["id"] for _, attrs in found.tags if "id" in attrs]
    assert len(names) == len(set(names))
    return found


def test_a_full_study_answers_every_question(make: Make) -> None:
    make(["complete"] * 12 + ["pruned"] * 4 + ["failed", "diverged", "running"])
    found = seen()
    said = found.words
    for title in ("Overview", "Trials", "Parameters", "Loss against cost", "The best trial", "Failures", "Origin"):
        assert f" {title} " in said
    assert "Best @ 400k tokens 2.000 trial 0" in said
    assert "PED-ANOVA over 12 complete trials" in said
    assert "tie for the lead, from 2.000 on at 400k tokens" in said
    assert "7 hidden: 4 never reached 400k tokens, 1 diverged, 1 failed, 1 running" in said
    assert "space:  # of a new study: give it another name" in said
    assert "trial # ended so" in said
    assert "sqlite:///tuner.db" in said
    assert found.count("svg") == 2 * (2 + 2 + 0 + 1)  # history, funnel, importance, slices, the curve; wide and narrow
    assert all(attrs.get("aria-label") for _, attrs in found.tags if attrs.get("role") == "img")
    assert "Simulated" not in said


@pytest.mark.parametrize(
    ("ends", "words"),
    [
        ([], "No trial has started yet."),
        (["waiting", "waiting"], "No trial has reached its first milestone yet: 2 running."),
        (["failed"] * 3, "All trials ended without a result: 3 failed. The causes stand below."),
        (["running"], "No trial has ended yet"),
        (["pruned"] * 3, "No trial has finished the full budget of 400k tokens yet."),
        (["complete"], "Importance is hidden: it needs 10 complete trials, this study has 1."),
        (["complete"] * 2, "There are no two complete trials that differ in what they cost."),
    ],
)
def test_every_state_has_its_words(ends: list[str], words: str, make: Make) -> None:
    make(ends)
    assert words in seen().words


def test_a_study_without_a_space(make: Make) -> None:
    make(["complete"] * 3, text=NO_SPACE)
    said = seen().words
    assert "This study searches nothing" in said
    assert "# nothing: no space" in said


def told(search: Search, position: int, **facts: object) -> None:
    """One more complete trial that knows what it cost."""
    asked = search.ask()
    for k in range(1, 5):
        spent = Spent(k * 100, k * 100_000, k * 1e9, k * 5.0 + position)
        search.report(asked.number, Measurement(spent, {"val_loss": 2 + position / 100 + (4 - k) * 0.3}, k))
    search.note(asked.number, facts)
    search.tell(asked.number, Outcome(State.COMPLETE), 2 + position / 100)


def test_what_a_loss_costs_is_drawn_and_said(make: Make) -> None:
    search = make([])
    for position, parameters in enumerate((9_000_000, 3_000_000, 3_500_000)):
        told(search, position, parameters=parameters, seconds=20.0 + position)
    found = seen()
    assert "Trial 1 is as good as the best, trial 0, at a third of its parameters." in found.words
    assert "Against parameters" in found.words
    assert "Against training time" in found.words


def test_simulated_trials_are_called_so(make: Make) -> None:
    search = make([])
    told(search, 0, device_kind="simulated")
    assert "Simulated. Nothing here was trained: the losses were made up." in seen().words
    told(search, 1, device_kind="cpu")
    assert "Simulated. 1 of 2 trials were not trained: the losses were made up." in seen().words


def test_texts_of_trials_are_never_markup(make: Make, tmp_path: Path) -> None:
    make(["complete", "failed"], reason=EVIL)
    folder = tmp_path / "runs" / "seen" / "0"
    folder.mkdir(parents=True)
    spool = Spool(folder / SPOOL)
    spool.append(Measurement(Spent(400, 400_000, 4e9, 20.0), {"val_loss": 2.0}, 4, samples=(EVIL,)), durable=False)
    spool.close()
    said = seen().words
    assert said.count("<script>alert(") == 3  # the reason of the best trial, its sample, the cause of the failure


def test_an_element_escapes_text_and_attributes() -> None:
    assert tag("p", EVIL, title=EVIL).count("<") == 2
    assert tag("p", tag("b", "<"), "<") == "<p><b>&lt;</b>&lt;</p>"


def command(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["report", *words])
    return result.exit_code, result.output


def test_the_command_writes_the_file_and_names_it(make: Make, tmp_path: Path) -> None:
    make(["complete"] * 2)
    Path("old.html").write_text("old")
    assert command("seen", "--html", "old.html") == (0, "report of seen: old.html\n")
    checked(Path("old.html").read_text())
    assert sorted(path.name for path in tmp_path.glob("*html*")) == ["old.html"]


def test_mistakes_are_sentences(make: Make, tmp_path: Path) -> None:
    make(["complete"])
    code, said = command("sen", "--html", "x.html")
    assert code == 3
    assert "no study 'sen' in the store. Did you mean 'seen'?" in said
    code, said = command("seen", "--html", "absent/x.html")
    assert code == 1
    assert "absent/x.html: the report cannot be written here: No such file or directory" in said
    Path("folder").mkdir()
    code, said = command("seen", "--html", "folder")
    assert code == 1
    assert "folder: the report cannot be written here: Is a directory" in said
    code, said = command("seen", "--html", "x.html", "--storage", "sqlite:///other.db")
    assert code == 3
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix in (".tmp", ".html")) == []


def test_a_report_needs_no_dashboard() -> None:
    code = "import app.report.page, sys; print({'streamlit', 'mlflow', 'torch'} & set(sys.modules))"
    root = conftest_app.ROOT
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
