"""Classifying: the head, what is measured, what a trained one answers; an interruption changes nothing."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cases import few
from labelled_helpers import CLASSES, data
from test_adapt import MODEL
from test_adapt import spec as text_spec
from test_fit import MILESTONES, Recorder, assert_resumes, train

from tuner.spec.errors import CheckpointError, DataError
from tuner.spec.parts.data import CleanSpec, DataSpec
from tuner.spec.parts.model import ModelSpec
from tuner.spec.records import Ancestor, State
from tuner.spec.trial import TrialSpec
from tuner.train import checkpoint
from tuner.train.examples import class_weights, evaluation, training
from tuner.train.fit import Place, fit
from tuner.train.model.classify import Classifier, Tally
from tuner.train.model.gpt import GPT
from tuner.train.model.shape import shape
from tuner.train.text.corpus import Corpus
from tuner.train.text.labelled.documents import PAD
from tuner.train.use.adopt import keep
from tuner.train.use.examine import examine, prove, weigh
from tuner.train.use.gpt2 import write_gpt2
from tuner.train.use.trained import Trained, load_checkpoint


def labelled(table: Path, **changes: Any) -> TrialSpec:
    base: dict[str, Any] = {
        "task": "classify",
        "data": data(table),
        "model": MODEL,
        "batch": 8,
        "budget": "5120 tokens",  # 40 steps
    }
    return TrialSpec.model_validate(base | changes)


@pytest.mark.parametrize("pool", ["last", "mean"])
@pytest.mark.parametrize("positions", ["rotary", "learned"])
def test_what_stands_after_a_text_changes_nothing(pool: str, positions: str) -> None:
    torch.manual_seed(1)
    model = ModelSpec(depth=2, width=16, positions=positions, zero_init=False)
    gpt = Classifier(model, 50, 12, [3], pool).eval()
    text = torch.randint(50, (1, 5))
    padded = torch.cat([torch.cat([text, torch.full((1, 7), PAD)], 1), torch.randint(50, (1, 12))])
    assert torch.allclose(gpt(text), gpt(padded)[:1], atol=1e-6)
    assert not torch.allclose(gpt(text), gpt(text[:, :4]), atol=1e-3)


@pytest.mark.parametrize("head", ["tied", "untied"])
def test_its_parameters_are_those_foretold(head: str) -> None:
    model = ModelSpec(depth=2, width=16, head=head)
    gpt = Classifier(model, 50, 12, [3])
    assert sum(one.numel() for one in gpt.parameters()) == shape(model, 50, 12, 3).parameters


def test_a_trial_learns_what_texts_are(table: Path, place: Any, corpus: Corpus) -> None:
    outcome, link = train(labelled(table), place("a"))
    assert outcome.state is State.COMPLETE
    first, last = (row for row in link.rows if row.milestone in (1, MILESTONES))
    assert last.metrics["val_loss"] < first.metrics["val_loss"] < 1.2
    assert last.metrics["val_accuracy"] > 0.9
    assert last.metrics["val_error"] == pytest.approx(1 - last.metrics["val_accuracy"])
    assert np.array(last.confusion).sum() == corpus.info.documents[1] == 21
    assert np.array(last.confusion).sum(1).tolist() == np.bincount(corpus.labels("val")[:-1, 1]).tolist()
    assert {"val_f1/0 birds", "val_f1/1 fish", "val_f1/2 mammals"} <= last.metrics.keys()
    assert json.loads(str(link.facts[0].facts["classes"])) == list(CLASSES)
    assert not last.samples
    assert last.metrics["latency_ms"] > 0


def test_the_checkpoint_of_the_lowest_metric_is_kept(table: Path, place: Any) -> None:
    link = Recorder()
    outcome = fit(labelled(table), MILESTONES, place("a"), link, metric="val_f1_error")
    told = {f"step-{row.spent.steps:08d}": row.metrics["val_f1_error"] for row in link.rows if row.milestone}
    assert told[str(outcome.checkpoint)] == min(told.values())


def test_the_metrics_are_those_of_the_textbook() -> None:
    tally = Tally(("a", "b/c", "never"), torch.device("cpu"))
    truth, said = [0] * 6 + [1] * 4, [0, 0, 0, 0, 1, 1, 1, 1, 1, 0]
    for begin in (0, 4):
        part = slice(begin, begin + 6 if begin else 4)
        tally.hear(torch.eye(3)[said[part]], torch.tensor(truth[part]))
    metrics, confusion = tally.reckon()
    assert confusion == ((4, 2, 0), (1, 3, 0), (0, 0, 0))
    a, b = 2 * 4 / (6 + 5), 2 * 3 / (4 + 5)
    told = {"val_accuracy": 0.7, "val_error": 0.3, "val_f1": (a + b) / 2, "val_f1_weighted": 0.6 * a + 0.4 * b}
    told |= {"val_precision": (4 / 5 + 3 / 5) / 2, "val_recall": (4 / 6 + 3 / 4) / 2, "val_f1/1 b_c": b}
    assert {name: metrics[name] for name in told} == pytest.approx(told)
    assert metrics["val_recall_error"] == pytest.approx(1 - metrics["val_recall"])


CHANGES: list[dict[str, Any]] = [
    {},
    {"classify": {"pool": "mean", "weights": "balanced"}, "accumulate": 2},
    {"optim": {"label_smoothing": 0.1, "z_loss": 1e-4}, "compress": {"sparsity": 0.4, "bits": 8}},
]


@pytest.mark.parametrize("changes", few(*CHANGES, mark=pytest.mark.long), ids=str)
def test_an_interrupted_one_ends_bit_identical(table: Path, place: Any, changes: dict[str, Any]) -> None:
    trial = labelled(table, data=data(table, augment={"mask": 0.1, "delete": 0.1}), **changes)
    whole, second = assert_resumes(trial, place)
    assert second.rows[-1].confusion == whole.rows[-1].confusion


def test_balanced_classes_weigh_alike(corpus: Corpus) -> None:
    weights, counts = class_weights(corpus), np.bincount(corpus.labels("train")[:-1, 1])
    assert np.ptp(weights * counts) == pytest.approx(0)
    assert (weights * counts).sum() == pytest.approx(counts.sum())
    torch.manual_seed(1)
    gpt = Classifier(ModelSpec(depth=1, width=16), 257, 16, [3]).eval()
    rows = torch.from_numpy(training(corpus, DataSpec.model_validate(data(Path())), 1).batch(0, 8))
    ids, said = gpt.asked(rows)
    plain, loss = gpt.losses(ids, said, 0.0)
    assert plain is loss
    gpt.weights = torch.tensor(weights)
    weighed, again = gpt.losses(ids, said, 0.0)
    each = torch.nn.functional.cross_entropy(gpt(ids), said, reduction="none").detach()
    assert torch.equal(again, loss)
    assert weighed.item() == pytest.approx(float((each * gpt.weights[said]).mean()), rel=1e-6)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, text_file: Path, table: Path) -> dict[str, Ancestor]:
    """A text model and a classifier, kept."""
    root = tmp_path_factory.mktemp("models")
    found = {}
    for name, trial in (("text", text_spec(text_file, data=_bytes(text_file))), ("classifier", labelled(table))):
        place = Place(root / name, table.parent / "corpora", threads=1)
        train(trial, place)
        found[name] = keep(checkpoint.sound(place.folder)[0].folder, place.corpora, root / "models")
    return found


def _bytes(text_file: Path) -> dict[str, Any]:
    return {"source": "text", "path": str(text_file), "tokenizer": {"kind": "byte"}, "context": 16}


def descended(table: Path, ancestor: Ancestor, init: dict[str, Any] | None = None, **changes: Any) -> TrialSpec:
    told = {"source": "x", "sha256": ancestor.sha256, "folder": ancestor.folder, **(init or {})}
    return labelled(table, init=told, **changes)


@pytest.mark.parametrize("init", few({"freeze": 1}, {}, {"lora": {"rank": 2}}, mark=pytest.mark.long), ids=str)
def test_it_begins_with_a_trunk(table: Path, place: Any, models: dict[str, Ancestor], init: dict[str, Any]) -> None:
    """The head is its own, and learned even where only adapters are; an interruption changes nothing of it."""
    assert_resumes(descended(table, models["text"], init), place)
    weights = checkpoint.sound(place("whole").folder)[0].weights()
    before = checkpoint.read_weights(Path(models["text"].folder) / checkpoint.WEIGHTS)
    assert weights["head.weight"].shape == (3, 16)
    assert weights.keys() == before.keys() | {"head.bias"}
    if init:
        assert torch.equal(weights["tokens.weight"], before["tokens.weight"])
    assert not torch.equal(weights["blocks.1.mlp.up.weight"], before["blocks.1.mlp.up.weight"])


def test_a_classifier_of_the_same_classes_keeps_its_head(
    table: Path, place: Any, models: dict[str, Ancestor], tmp_path: Path
) -> None:
    _, link = train(descended(table, models["classifier"], budget="512 tokens"), place("on"))
    assert link.rows[-1].metrics["val_accuracy"] > 0.9
    other = tmp_path / "other.csv"
    other.write_text(table.read_text().replace("mammals", "beasts"))
    _, link = train(descended(other, models["classifier"], budget="512 tokens"), place("anew"))
    assert link.rows[0].metrics["train_loss"] > 0.8


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, table: Path) -> tuple[Place, Path, float]:
    """Where a trial ran, its checkpoint, and the loss that it recorded."""
    place = Place(tmp_path_factory.mktemp("ended") / "trial", table.parent / "corpora", threads=1)
    _, link = train(labelled(table), place)
    saved = checkpoint.sound(place.folder)[0]
    return place, saved.folder, link.milestones[MILESTONES]


@pytest.fixture
def trained(ended: tuple[Place, Path, float]) -> Trained:
    return load_checkpoint(ended[1], ended[0].corpora)


def test_its_checkpoint_says_what_texts_are(ended: Any, trained: Trained, corpus: Corpus) -> None:
    assert trained.part_losses(corpus, "val", None).mean() == pytest.approx(ended[2], rel=1e-5)
    answers = trained.classify(["wing egg wing fly", "sea fin", "milk", ""])
    assert [one.label for one in answers[:3]] == list(CLASSES)
    assert all(sum(one.probabilities.values()) == pytest.approx(1) for one in answers)
    tidy = trained.spec.data.model_copy(update={"clean": CleanSpec(whitespace=True)})
    tidying = dataclasses.replace(trained, spec=trained.spec.model_copy(update={"data": tidy}))
    assert tidying.classify(["wing    egg  fly"]) == tidying.classify(["wing egg fly"])
    assert tidying.classify(["wing    egg  fly"]) != trained.classify(["wing    egg  fly"])
    ((rows, kinds),) = evaluation(corpus, "val", trained.spec.data, None, 100)
    ((logits, said),) = trained.answers(corpus, "val", None)
    assert said.tolist() == kinds.tolist()
    assert torch.allclose(logits, trained.gpt(torch.from_numpy(rows)), atol=1e-6)


def test_it_is_examined_as_what_it_is(ended: Any, corpus: Corpus) -> None:
    place, folder, loss = ended
    seen = examine(folder, place.corpora, None, None)
    assert not seen.failures
    assert seen.val_loss == pytest.approx(loss, rel=1e-5)
    assert seen.recorded == loss
    assert seen.test_windows == corpus.info.documents[2]
    assert 0.9 < (seen.test_accuracy or 0) <= 1
    assert len(seen.samples) == 3
    for text in seen.samples:
        words, _, answer = text.partition("\n-> ")
        (said,) = load_checkpoint(folder, place.corpora).classify([words])
        assert answer.startswith(f"{said.label} ({said.probabilities[said.label]:.0%}); it is ")


def test_it_is_packaged_and_compared(ended: Any, models: dict[str, Ancestor], table: Path) -> None:
    place, folder, _ = ended
    package = Path(models["classifier"].folder)
    prove(package)
    seen = examine(folder, place.corpora, package, None)
    assert seen.gain == pytest.approx(0, abs=1e-6)
    (weighed,) = weigh([package], DataSpec.model_validate(data(table)), place.corpora, None)
    assert weighed.test_loss == pytest.approx(seen.test_loss, rel=1e-5)
    assert " -> " in " ".join(weighed.sample.split())
    assert weighed.metrics["val_loss"] == pytest.approx(seen.val_loss, rel=1e-5)
    assert weighed.metrics["val_error"] < 0.1


def test_what_it_cannot_do_is_a_sentence(trained: Trained, models: dict[str, Ancestor], tmp_path: Path) -> None:
    from tuner.spec.parts.sampling import Sampling

    with pytest.raises(DataError, match="is a classifier"):
        trained.generate("a", Sampling())
    with pytest.raises(DataError, match="is a classifier"):
        trained.score("a text")
    with pytest.raises(CheckpointError, match="a classifier cannot be written as a GPT-2"):
        write_gpt2(Path(models["classifier"].folder), tmp_path)
    words = Trained(GPT(ModelSpec(depth=1, width=16), 257, 8), trained.tokenizer, TrialSpec(), {})
    with pytest.raises(DataError, match="knows no classes"):
        words.classify(["a"])
