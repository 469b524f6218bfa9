"""Texts, names and files made to do harm: none is executed, followed out of the folder, or drawn as markup."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import re
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from crashing import TRIAL, Point, run
from mutations import broken
from rich.console import Console
from trial_job import trial
from typer.testing import CliRunner

from tuner.promotion.ledger import Entry, Ledger, Stage
from tuner.search import requests
from tuner.search.asktell import Search
from tuner.search.requests import Request, Wish
from tuner.search.store.storage import open_storage
from tuner.spec.disk import seal, sha256, unseal
from tuner.spec.errors import CheckpointError, DataError, SpecError, TunerError
from tuner.spec.load import load, parse
from tuner.spec.parts.data import DataSpec
from tuner.spec.parts.sampling import Sampling
from tuner.spec.records import Outcome, Spent, State
from tuner.spec.trial import TrialSpec
from tuner.study.plan import make_plan
from tuner.study.show.preview import print_plan
from tuner.study.show.screen import Screen
from tuner.study.show.summary import print_trial, print_trials
from tuner.tracking.mirror import sync
from tuner.tracking.spool import SPOOL, read_spool
from tuner.tracking.store import create
from tuner.tracking.tracker import Spooler
from tuner.train import checkpoint
from tuner.train.model.gpt import GPT
from tuner.train.text.corpus import open_corpus
from tuner.train.text.source import open_source
from tuner.train.text.split import PARTS
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


# --- pickles


class Bomb:
    """Makes the folder ``made`` when it is unpickled."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.made),)


def bombs(made: Path) -> list[bytes]:
    """Pickles old and new, as text and as binary, plain and in torch's own archive; each of which works."""
    found = [pickle.dumps(Bomb(made), protocol) for protocol in (0, 2, 5)]
    found += [pickle.dumps({"state": [Bomb(made)]}, 4)]
    for payload in found:
        pickle.loads(payload)
        made.rmdir()
    archive = io.BytesIO()
    torch.save({"state": Bomb(made)}, archive)
    torch.load(io.BytesIO(archive.getvalue()), weights_only=False)
    made.rmdir()
    return [*found, archive.getvalue()]


def told(folder: str, text: str) -> None:
    """A trial that is to fail: its sentence is in the file ``said``, its exit code 3."""
    try:
        trial(folder, text)
    except TunerError as error:
        (Path(folder) / "said").write_text(str(error))
        os._exit(3)


def put(saved: Path, name: str, payload: bytes) -> None:
    """A file in a checkpoint, with a manifest that vouches for it."""
    (saved / name).write_bytes(payload)
    manifest = unseal(json.loads((saved / checkpoint.MANIFEST).read_text()))
    manifest["files"][name] = sha256(saved / name)
    (saved / checkpoint.MANIFEST).write_text(json.dumps(seal(manifest)))


@pytest.mark.parametrize("name", [checkpoint.STATE, checkpoint.WEIGHTS, checkpoint.SPEC])
def test_a_pickle_in_a_checkpoint_is_not_executed(name: str, tmp_path: Path) -> None:
    made = tmp_path / "made"
    weights = {"a": torch.ones(2)}
    saved = checkpoint.save(tmp_path / "t", weights, {"rows": 1}, {"trial": {}, "facts": {}}, Spent(1), 1, None)
    others = [b"", b"\x80", b"junk" * 50, pickle.dumps(5), pickle.dumps([1])]
    for payload in [*bombs(made), *others]:
        put(saved.folder, name, payload)
        (found,) = checkpoint.sound(tmp_path / "t")
        with pytest.raises(CheckpointError):
            checkpoint.record(found) if name == checkpoint.SPEC else checkpoint.load(found)
        assert not made.exists()


def test_a_manifest_names_no_file_that_cannot_be(tmp_path: Path) -> None:
    saved = checkpoint.save(tmp_path / "t", {"a": torch.ones(2)}, {}, {}, Spent(1), 1, None)
    manifest = unseal(json.loads((saved.folder / checkpoint.MANIFEST).read_text()))
    for name in ("a\0b", "x" * 10_000, "../../../etc", ""):
        told = {**manifest, "files": {**manifest["files"], name: "0" * 64}}
        (saved.folder / checkpoint.MANIFEST).write_text(json.dumps(seal(told)))
        with pytest.raises(CheckpointError):
            checkpoint.verify(saved.folder)


@pytest.mark.faults
@pytest.mark.timeout(120)
def test_a_trial_with_a_pickle_for_its_state_ends_in_a_sentence(
    tmp_path: Path, text_file: Path, figures: Callable[[str], None]
) -> None:
    made, payloads = tmp_path / "made", bombs(tmp_path / "made")
    killed = run(trial, str(tmp_path), str(text_file), points=TRIAL, kill=Point("checkpoint", 2, False))
    assert killed == -signal.SIGKILL
    for payload in payloads:
        put(max((tmp_path / "trial" / "checkpoints").glob("step-*")), checkpoint.STATE, payload)
        assert run(told, str(tmp_path), str(text_file)) == 3
        assert "does not load" in (tmp_path / "said").read_text()
        assert not made.exists()
        assert not (tmp_path / "outcome.json").exists()
    figures(f"{len(payloads)} pickles as state.pt with a true manifest: none executed, the trial fails with a sentence")


def test_a_pickle_in_a_corpus_is_not_executed_and_not_a_token(tmp_path: Path) -> None:
    made = tmp_path / "made"
    (tmp_path / "t.txt").write_text("the cat sat on a mat. " * 60)
    data = DataSpec.model_validate(
        {"source": "text", "path": str(tmp_path / "t.txt"), "context": 8, "tokenizer": {"kind": "char"}}
    )
    first = open_corpus(data, tmp_path / "c")
    tokens = {part: np.array(first.tokens(part)) for part in PARTS}
    for payload in bombs(made):
        for path in sorted(Path(first.info.folder).iterdir()):
            size = path.stat().st_size
            path.write_bytes(payload.ljust(size, b"\0")[:size] if path.suffix == ".bin" else payload)
            again = open_corpus(data, tmp_path / "c")
            assert all(np.array_equal(again.tokens(part), tokens[part]) for part in PARTS), path.name
            assert again.tokenizer().fingerprint == first.info.tokenizer_fingerprint
    assert not made.exists()


@pytest.mark.parametrize("source", ["text", "csv", "json", "parquet", "hf"])
def test_a_pickle_as_a_text_is_not_executed(source: str, tmp_path: Path) -> None:
    made = tmp_path / "made"
    folder = tmp_path / "data"
    folder.mkdir()
    for number, payload in enumerate(bombs(made)):
        where: dict[str, Any] = {"path": str(folder / f"{number}.{source}"), "column": "text"}
        if source == "text":
            del where["column"]
        if source == "hf":
            where = {"name": str(folder), "column": "text"}
            (folder / "data.pkl").write_bytes(payload)
            (folder / "data.py").write_text(f"import os\nos.mkdir({str(made)!r})\n")
        else:
            head = b"text\n" if source == "csv" and number % 2 else b""
            Path(where["path"]).write_bytes(head + payload)
        data = DataSpec.model_validate({"source": source, "context": 8, "tokenizer": {"kind": "byte"}, **where})
        try:
            open_corpus(data, tmp_path / "c")
        except DataError:
            continue
        assert source == "text"
        assert payload.isascii(), "a pickle of the oldest kind is a text like any other"
    assert not made.exists()


def test_a_pickle_as_a_tokenizer_is_not_executed(tmp_path: Path) -> None:
    made, path = tmp_path / "made", tmp_path / "tokenizer.json"
    (tmp_path / "t.txt").write_text("the cat sat on a mat. " * 60)
    tokenizer = {"kind": "file", "path": str(path)}
    data = DataSpec.model_validate({"source": "text", "path": str(tmp_path / "t.txt"), "tokenizer": tokenizer})
    for payload in bombs(made):
        path.write_bytes(payload)
        with pytest.raises(DataError):
            open_corpus(data, tmp_path / "c")
    assert not made.exists()


def test_a_pickle_is_no_study(tmp_path: Path) -> None:
    for payload in bombs(tmp_path / "made"):
        (tmp_path / "study.yaml").write_bytes(payload)
        with pytest.raises(SpecError):
            load(tmp_path / "study.yaml")
    assert not (tmp_path / "made").exists()


# --- YAML


TAGGED = [
    "name: !!python/object/apply:os.mkdir [made]",
    "!!python/object/apply:os.mkdir [made]",
    "name: a\ntrial: !!python/object/new:os.mkdir {args: [made]}",
    "name: a\nforbid: [!!python/object/apply:os.system ['mkdir made']]",
    "name: a\nforbid: [\"__import__('os').mkdir('made') == 1\"]",
    "name: a\nforbid: [\"(lambda: 0).__globals__['os'].mkdir('made')\"]",
    "? !!python/name:os.mkdir\n: made",
    "!!python/module:os",
    'name: a\ntrial: {data: {source: text, path: "$(mkdir made)"}}',
]


def refused(text: str) -> str:
    """Why a YAML text is no study; empty where it is one. Anything else that is raised is what is looked for."""
    try:
        parse(text, "fuzz.yaml")
    except TunerError as error:
        return str(error)
    return ""


def fuzz(cases: int) -> Counter[str]:
    rng, told = random.Random(20), Counter[str]()
    before = set(Path().iterdir())
    for number in range(cases):
        text = broken(rng)
        sentence = refused(text)
        assert re.match(r"(fuzz\.yaml:\d+:\d+: \S.*)?$", sentence), (number, text)
        assert sentence.isprintable()
        told["refused" if sentence else "read"] += 1
    assert set(Path().iterdir()) == before
    return told


@pytest.mark.parametrize("text", TAGGED)
def test_a_tag_or_a_rule_executes_nothing(text: str) -> None:
    assert refused(text) or "$(" in text, "a path may look like that"
    assert not Path("made").exists()


def test_a_few_hundred_broken_files_are_read_or_refused_in_a_sentence() -> None:
    told = fuzz(300)
    assert min(told["read"], told["refused"]) > 20


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_ten_thousand_broken_files_are_read_or_refused_in_a_sentence(figures: Callable[[str], None]) -> None:
    told = fuzz(10_000)
    figures(f"10,000 broken YAML files: {told['read']} read, {told['refused']} refused in a sentence, none executed")
