"""Texts and names made to do harm: none is followed out of the folder, or drawn as markup."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from tuner.promotion.ledger import Entry, Ledger, Stage
from tuner.search import requests
from tuner.search.asktell import Search
from tuner.search.requests import Request, Wish
from tuner.search.store.storage import open_storage
from tuner.spec.errors import DataError, SpecError
from tuner.spec.load import parse
from tuner.spec.parts.data import DataSpec
from tuner.spec.parts.sampling import Sampling
from tuner.spec.records import Outcome, State
from tuner.spec.trial import TrialSpec
from tuner.study.plan import make_plan
from tuner.study.show.preview import print_plan
from tuner.study.show.screen import Screen
from tuner.study.show.summary import print_trial, print_trials
from tuner.tracking.mirror import sync
from tuner.tracking.spool import SPOOL, read_spool
from tuner.tracking.store import create
from tuner.tracking.tracker import Spooler
from tuner.train.model.gpt import GPT
from tuner.train.text.corpus import open_corpus
from tuner.train.text.source import open_source
from tuner.train.text.tokenizer import ByteTokenizer, CharTokenizer
from tuner.train.use.trained import Trained

NAMES = [
    "../x", "..", "a/../../x", "/etc/x", "~", "~nobody/x", ".hidden", "", " ", "a\nb", "a\0b", "<script>x()</script>",
    "[red]x[/blue]", "[/x]", "😀", "\u202etxt.exe", "%2e%2e%2fx", "x" * 10_000, "'; DROP TABLE trials; --", "{0}{{}}%s",
]  # fmt: skip
TEXTS = [*NAMES, "\x1b[2J", "|\\|`$(x)`", "é" * 10_000, "a\ud800b", "<|endoftext|>" * 3]


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, which lies in another that must stay as it is."""
    folder = tmp_path / "outside" / "inside"
    folder.mkdir(parents=True)
    (tmp_path / "outside" / "x").mkdir()
    (tmp_path / "outside" / "x" / "spool.jsonl").touch()
    monkeypatch.chdir(folder)
    return folder


# --- names


@pytest.mark.parametrize("name", NAMES)
def test_a_study_is_never_called_so(name: str) -> None:
    written = "".join(f"\\U{ord(character):08x}" for character in name)
    with pytest.raises(SpecError) as caught:
        parse(f'name: "{written}"')
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500
    with pytest.raises(SpecError):
        parse(f'name: good\npromotion: {{model: "{written}"}}')


def ask_by_name(inside: Path, names: list[str], heavy: bool) -> int:
    """Every command that takes a name says that there is none; how often one was asked."""
    from tuner.cli.main import app

    Search(parse("name: good"), open_storage("sqlite:///tuner.db", create=True)).ask()
    (inside / "runs" / "good").mkdir(parents=True)
    before = files(inside.parent)
    commands: list[list[str]] = [["trials"], ["sync"], ["stop"], ["enqueue"], ["history"]]
    if heavy:
        commands += [["generate"], ["champion"], ["report", "--html", "page.html"], ["promote", "--best", "--dry-run"]]
    for command in commands:
        for name in names:
            result = CliRunner().invoke(app, [*command, "--", name])
            assert result.exit_code > 0, (command, name)
            assert isinstance(result.exception, SystemExit), (command, name[:40], result.exception)
            assert "Traceback" not in result.output
    own = ("inside/tuner.db", "inside/mlflow.db", "inside/.mlflow.db")
    assert {name for name in files(inside.parent) ^ before if not name.startswith(own)} == set()
    return len(commands) * len(names)


def test_a_few_commands_find_no_study_of_such_a_name(inside: Path) -> None:
    ask_by_name(inside, NAMES[::3], heavy=False)


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_no_command_finds_a_study_of_such_a_name(inside: Path, figures: Callable[[str], None]) -> None:
    asked = ask_by_name(inside, TEXTS, heavy=True)
    figures(f"{asked} commands with hostile names: {asked} sentences, no file but MLflow's own store")


@pytest.mark.parametrize("path", [*NAMES, "x/" * 3000])
def test_such_a_path_is_no_text_and_no_tokenizer(path: str, inside: Path) -> None:
    for source in ({"source": "text", "path": path}, {"source": "csv", "path": path, "column": "a"}):
        with pytest.raises(DataError) as caught:
            open_source(DataSpec.model_validate(source))
        assert len(str(caught.value)) < 30_000
    data = {"source": "text", "path": "t.txt", "context": 8, "tokenizer": {"kind": "file", "path": path}}
    (inside / "t.txt").write_text("some words " * 20)
    with pytest.raises(DataError):
        open_corpus(DataSpec.model_validate(data), inside / "corpora")


# --- texts


def test_texts_come_back_from_the_store_as_they_were_and_are_drawn_as_text(tmp_path: Path) -> None:
    spec = parse("name: good\nstudy: {sampler: random, trials: 100}\nspace: {optim.lr: {float: [1e-3, 1e-2]}}")
    storage = open_storage("sqlite:///tuner.db", create=True)
    search = Search(spec, storage)
    screen_text = io.StringIO()
    screen = Screen(spec, Console(file=screen_text, width=80), 0, None)
    for text in TEXTS:
        number = search.ask().number
        search.note(number, {"enqueued_by": text, "device": text})
        search.tell(number, Outcome(State.FAILED, text))
        screen.ended(number, Outcome(State.FAILED, text), None)
        post = requests.post(storage, "good", Request(Wish.STOP, text, text))
        assert post in search.requests()
    record = search.record()
    for trial_record, text in zip(record.trials, TEXTS, strict=True):
        assert trial_record.reason == trial_record.facts["enqueued_by"] == text
        shown = io.TextIOWrapper(io.BytesIO(), errors="replace", write_through=True)
        print_trial(Console(file=shown, width=80), record, trial_record)
        assert "enqueued_by" in shown.buffer.getvalue().decode()  # type: ignore[attr-defined]
    shown = io.TextIOWrapper(io.BytesIO(), errors="replace", write_through=True)
    print_trials(Console(file=shown, width=80), record)
    for markup in ("[red]x[/blue]", "[/x]"):
        assert markup in shown.buffer.getvalue().decode()  # type: ignore[attr-defined]
        assert markup in screen_text.getvalue()


def test_a_path_is_drawn_as_text(tmp_path: Path) -> None:
    spec = parse('name: good\ntrial: {data: {source: text, path: "[/x].txt"}}')
    Path("[").mkdir()
    Path("[/x].txt").write_text("words " * 400)
    shown = io.StringIO()
    print_plan(Console(file=shown, width=100), spec, make_plan(spec, Path("runs"), []), "sqlite:///s", "sqlite:///[/x]")
    assert shown.getvalue().count("[/x]") == 2


def spool_texts(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "good"
    spooler = Spooler(folder, lambda sentence: None)
    for number, text in enumerate(TEXTS):
        spooler.start(number, {"data.path": text}, {"who": text}, {"data": {"path": text}})
        spooler.finish(number, Outcome(State.FAILED, text), {"tuner.reason": text})
    spooler.close()
    return folder


def test_texts_come_back_from_the_spool_as_they_were(tmp_path: Path) -> None:
    folder = spool_texts(tmp_path)
    assert {path.name for path in folder.iterdir()} == {str(number) for number in range(len(TEXTS))}
    for number, text in enumerate(TEXTS):
        content = read_spool(folder / str(number) / SPOOL)
        assert content.finish is not None
        assert content.start is not None
        assert (content.finish.outcome.reason, content.start.params["data.path"], content.damaged) == (text, text, 0)


@pytest.mark.faults
@pytest.mark.timeout(120)
def test_texts_reach_mlflow(tmp_path: Path, figures: Callable[[str], None]) -> None:
    folder = spool_texts(tmp_path)
    create(tmp_path / "mlflow.db")
    report = sync(folder, f"sqlite:///{tmp_path}/mlflow.db")
    assert (report.trials, report.damaged) == (len(TEXTS), 0)
    again = sync(folder, f"sqlite:///{tmp_path}/mlflow.db")
    assert again.points == 0
    outside = {path.name for path in tmp_path.iterdir()} - {"mlflow.db", ".mlflow.db.lock", "runs", "mlruns"}
    assert not outside
    figures(f"{len(TEXTS)} hostile texts as parameter, tag and reason: spooled, stored and mirrored, none followed")


def test_reasons_come_back_from_the_ledger_as_they_were(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/tuner.db"
    open_storage(url, create=True)
    ledger = Ledger(url)
    entries = [
        Entry(text, "model", "promote", Stage.INTENT, None, 1, "r", text, candidate={"point": text})
        for text in TEXTS
        if "\ud800" not in text
    ]
    written = [ledger.write(entry) for entry in entries]
    assert [replace(entry, id=0, at="", seal="") for entry in written] == entries
    assert Ledger(url).history("model") == written
    assert Ledger(url).broken("model") is None


@pytest.mark.parametrize("kind", ["byte", "char"])
def test_a_model_goes_on_with_any_prompt(kind: str) -> None:
    tokenizer = ByteTokenizer() if kind == "byte" else CharTokenizer("abc <>", documents=False)
    spec = TrialSpec.model_validate({"model": {"depth": 1, "width": 16}, "data": {"context": 16}})
    torch.manual_seed(1)
    model = Trained(GPT(spec.model, tokenizer.vocab, 16).eval(), tokenizer, spec, {})
    for text in TEXTS:
        assert isinstance(model.generate(text, Sampling(max_tokens=3)), str)
        if len(text) > 1:
            assert model.score(text).loss > 0
    assert len(model.samples(TEXTS, Sampling(max_tokens=2))) == len(TEXTS)
