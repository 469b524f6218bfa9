"""Several labels on one trunk: what is read, minimised, measured and answered; a text may lack an auxiliary one."""

from __future__ import annotations

import csv
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from labelled_helpers import CLASSES, WORDS, data
from test_classify import labelled
from test_fit import assert_resumes, train

from tuner.spec.errors import DataError
from tuner.spec.parts.data import AugmentSpec, DataSpec
from tuner.spec.parts.model import ModelSpec
from tuner.spec.records import UNTOLD, judged_by
from tuner.spec.trial import TrialSpec
from tuner.train import checkpoint
from tuner.train.examples import class_counts, evaluation, training
from tuner.train.model.classify import Classifier, Tally
from tuner.train.model.module import GPTModule, Setting
from tuner.train.text.corpus import open_corpus
from tuner.train.text.labelled.documents import AugmentedDocuments, Documents
from tuner.train.use.trained import load_checkpoint

AUXILIARY = {"size": {"label": "Size (cm)", "weight": 0.5}, "type": {"label": "type"}}
SIZES = ("big", "small")


@pytest.fixture(scope="module")
def sized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Words give away kind and size; every third text is not told to be big or small; all are of one of two types."""
    file, rng = tmp_path_factory.mktemp("sized") / "texts.csv", np.random.default_rng(2)
    rows = []
    for n in range(120):
        kind, size = CLASSES[int(rng.integers(3))], SIZES[int(rng.integers(2))]
        words = [size, *rng.choice(WORDS[kind].split(), size=3)]
        rows.append((kind, "" if n % 3 == 0 else size, "even" if n % 2 else "odd", " ".join(words)))
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([("kind", "Size (cm)", "type", "text"), *rows])
    return file


def told(table: Path, **changes: Any) -> dict[str, Any]:
    return data(table, **{"auxiliary": AUXILIARY, **changes})


def test_each_text_has_all_its_labels(sized: Path) -> None:
    spec = DataSpec.model_validate(told(sized))
    assert spec.labels == ("kind", "Size (cm)", "type")
    corpus = open_corpus(spec, sized.parent / "corpora")
    assert corpus.info.classes == CLASSES
    assert corpus.info.auxiliary == {"size": SIZES, "type": ("even", "odd")}
    with sized.open() as stream:
        rows = {row["text"] + row["type"] + row["Size (cm)"] for row in csv.DictReader(stream)}
    tokenizer = corpus.tokenizer()
    for part in ("train", "val", "test"):
        tokens, labels = corpus.tokens(part), corpus.labels(part)
        assert labels[-1].tolist() == [len(tokens), -1, UNTOLD, UNTOLD]
        for (begin, _, size, kind), (end, *_) in pairwise(labels):
            said = "" if size == UNTOLD else SIZES[size]
            assert tokenizer.decode(tokens[begin : end - 1]) + ("even", "odd")[kind] + said in rows
        assert (labels[:-1, 2] == UNTOLD).any()


def test_the_columns_make_another_corpus_and_the_weights_none(sized: Path) -> None:
    def folder(**changes: Any) -> str:
        return open_corpus(DataSpec.model_validate(data(sized, **changes)), sized.parent / "corpora").info.folder

    one = folder(auxiliary={"size": {"label": "type"}})
    assert one == folder(auxiliary={"size": {"label": "type", "weight": 3}})
    assert len({one, folder(), folder(auxiliary={"size": {"label": "Size (cm)"}})}) == 3


def test_disturbed_texts_keep_all_their_labels(sized: Path) -> None:
    spec = DataSpec.model_validate(told(sized))
    corpus = open_corpus(spec, sized.parent / "corpora")
    documents = Documents(corpus.tokens("train"), corpus.labels("train"), 16, 1)
    rows = documents.batch(0, 9)
    assert rows.shape == (9, 16 + 3)
    disturbed = AugmentedDocuments(documents, AugmentSpec(delete=0.3, mask=0.3), 1).batch(0, 9)
    assert (disturbed[:, 16:] == rows[:, 16:]).all()
    assert not (disturbed[:, :16] == rows[:, :16]).all()


def test_what_is_minimised_is_the_sum_by_weight(sized: Path) -> None:
    spec = DataSpec.model_validate(told(sized))
    corpus = open_corpus(spec, sized.parent / "corpora")
    torch.manual_seed(1)
    gpt = Classifier(ModelSpec(depth=1, width=16, zero_init=False), 257, 16, [3, 2, 2], "mean", [0.5, 2.0]).eval()
    ids, said = gpt.asked(torch.from_numpy(training(corpus, spec, 1).batch(0, 12)))
    minimised, loss = gpt.losses(ids, said, 0.0)
    logits = gpt(ids)
    size, kind = logits[:, 3:5], logits[:, 5:]
    known = said[:, 1] != UNTOLD
    assert 0 < known.sum() < 12
    by_hand = F.cross_entropy(logits[:, :3], said[:, 0])
    assert loss.item() == pytest.approx(by_hand.item())
    by_hand = by_hand + 0.5 * F.cross_entropy(size[known], said[known, 1]) * known.sum() / 12
    by_hand = by_hand + 2.0 * F.cross_entropy(kind, said[:, 2])
    assert minimised.item() == pytest.approx(by_hand.item(), rel=1e-6)
    nothing, alone = gpt.losses(ids[~known], said[~known], 0.0)
    kind_alone = 2.0 * F.cross_entropy(gpt(ids[~known])[:, 5:], said[~known, 2])
    assert nothing.item() == pytest.approx((alone + kind_alone).item(), rel=1e-6)


def test_micro_batches_have_the_gradient_of_the_whole(sized: Path) -> None:
    model = {"depth": 1, "width": 16}
    spec = labelled(sized, data=told(sized), model=model, batch=12, optim={"clip": None})
    corpus = open_corpus(spec.data, sized.parent / "corpora")
    rows, gradients = torch.from_numpy(training(corpus, spec.data, 1).batch(0, 12)), []
    for parts in (1, 4):
        torch.manual_seed(1)
        module = GPTModule(spec, corpus.info.vocab, lambda: 0.5, classes=[3, 2, 2])
        module.adopt(Setting("fp32", False, parts))
        module.stepping = []  # the gradients stay
        module.training_step(rows)
        head = module.gpt.head
        assert head is not None
        assert head.weight.grad is not None
        gradients.append(head.weight.grad)
    assert torch.allclose(*gradients, atol=1e-6), (gradients[0] - gradients[1]).abs().max()
    assert gradients[0].abs().max() > 1e-3


def test_the_tally_leaves_out_what_is_not_told() -> None:
    tally = Tally(("a", "b"), torch.device("cpu"), {"size": SIZES})
    said, right = torch.tensor([0, 0, 1, 1]), torch.tensor([[0, 0], [0, 1], [1, UNTOLD], [0, 1]])
    tally.hear(torch.cat([torch.eye(2)[said], torch.eye(2)[torch.tensor([0, 1, 0, 0])]], 1), right)
    metrics, confusion = tally.reckon()
    assert metrics["val_accuracy"] == 0.75
    assert confusion == ((2, 1), (0, 1))
    assert metrics["val_accuracy/size"] == pytest.approx(2 / 3)
    assert metrics["val_f1/size"] == pytest.approx((2 / 3 + 2 / 3) / 2)
    nothing = Tally(("a", "b"), torch.device("cpu"), {"size": SIZES})
    nothing.hear(torch.ones(1, 4), torch.tensor([[0, UNTOLD]]))
    assert "val_accuracy/size" not in nothing.reckon()[0]


def test_rows_need_not_have_an_auxiliary_column(tmp_path: Path) -> None:
    rows = [{"text": f"text {n}", "kind": n % 2, **({"size": n % 3} if n % 4 else {})} for n in range(40)]
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    auxiliary = {"size": {"label": "size"}}
    spec = DataSpec.model_validate(data(tmp_path / "t.jsonl", source="json", auxiliary=auxiliary))
    corpus = open_corpus(spec, tmp_path / "corpora")
    assert corpus.info.auxiliary == {"size": ("0", "1", "2")}
    said = np.concatenate([corpus.labels(part)[:-1, 2] for part in ("train", "val", "test")])
    assert (said == UNTOLD).sum() == 10
    counts = class_counts(corpus, spec)
    assert sum(counts["kind"].values()) == corpus.info.documents[0]
    assert list(counts["size"]) == ["0", "1", "2"]


def test_it_is_learned_judged_by_its_label_alone_and_resumed(sized: Path, place: Any) -> None:
    trial = labelled(sized, data=told(sized, auxiliary={"size": AUXILIARY["size"]}), classify={"pool": "mean"})
    whole, _ = assert_resumes(trial, place)
    last = whole.rows[-1].metrics
    assert last["val_accuracy/size"] > 0.9
    found = checkpoint.sound(place("whole").folder)[0]
    model = load_checkpoint(found.folder, place("whole").corpora)
    assert model.auxiliary == {"size": SIZES}
    corpus = open_corpus(trial.data, place("whole").corpora)
    losses = model.part_losses(corpus, "val", None)
    assert losses.shape == (corpus.info.documents[1],)
    assert losses.mean() == pytest.approx(last["val_loss"], abs=1e-5)
    _, right = next(iter(evaluation(corpus, "val", trial.data, None, 4)))
    assert right.shape == (4, 2)
    assert {logits.shape[1] for logits, _ in model.answers(corpus, "val", None)} == {3}
    (answer,) = model.classify(["small fur milk fur"])
    assert (answer.label, answer.auxiliary["size"].label) == ("mammals", "small")
    assert sum(answer.auxiliary["size"].probabilities.values()) == pytest.approx(1)
    assert json.loads(json.dumps(answer.as_data()))["auxiliary"]["size"]["label"] == "small"


def test_a_trunk_with_other_auxiliary_labels_keeps_its_answers_to_the_first(sized: Path, place: Any) -> None:
    from tuner.train.use.adopt import keep

    first = place("first")
    train(labelled(sized, data=told(sized), budget="512 tokens"), first)
    kept = keep(checkpoint.sound(first.folder)[0].folder, first.corpora, first.folder.parent / "models")
    init = {"source": "x", "sha256": kept.sha256, "folder": kept.folder}
    before = checkpoint.sound(first.folder)[0].weights()["head.weight"]
    renamed = {"big": AUXILIARY["size"], "type": AUXILIARY["type"]}
    for name, auxiliary, rows in (("same", AUXILIARY, 7), ("fewer", {}, 3), ("other", renamed, 7)):
        data = told(sized, auxiliary=auxiliary)
        still = {"optim": {"lr": 1e-9, "muon": {"lr": 1e-9}}, "budget": "128 tokens"}
        _, link = train(labelled(sized, data=data, init=init, **still), place(name))
        weights = checkpoint.sound(place(name).folder)[0].weights()["head.weight"]
        assert len(weights) == rows
        assert torch.allclose(weights[:3], before[:3], atol=1e-5)
        assert torch.allclose(weights[3:], before[3:][: rows - 3], atol=1e-5) is (name != "other")
        assert judged_by(link.facts[0].facts) == judged_by(
            checkpoint.record(checkpoint.sound(first.folder)[0])["facts"]
        )


def test_wrong_columns_are_sentences(tmp_path: Path) -> None:
    def opened(rows: str, **changes: Any) -> None:
        (tmp_path / "t.csv").write_text("text,kind,size\n" + rows)
        label = {"auxiliary": {"size": {"label": "size"}}, "split": [0.5, 0.25, 0.25]}
        spec = DataSpec.model_validate(data(tmp_path / "t.csv", **label | changes))
        open_corpus(spec, tmp_path / "corpora")

    rows = "a,b,{}\na,c,{}\n" * 4
    with pytest.raises(DataError, match=r"data.auxiliary.size.label: .* has no column 'siz'.* Did you mean 'size'"):
        opened(rows, auxiliary={"size": {"label": "siz"}})
    with pytest.raises(DataError, match=r"data.auxiliary.size.label: all texts to learn from are 'x' by column 'size'"):
        opened(rows.replace("{}", "x"))
    with pytest.raises(DataError, match=r"data.auxiliary.size.label: column 'size' says nothing of any text to learn"):
        opened(rows.replace("{}", ""))


def test_wrong_settings_are_sentences(sized: Path) -> None:
    wrong: dict[str, dict[str, Any]] = {
        "auxiliary is for texts with a label": {"label": None},
        "name a column twice: kind, kind": {"auxiliary": {"again": {"label": "kind"}}},
        "label and column are both text": {"auxiliary": {"again": {"label": "text"}}},
        "is no name for it": {"auxiliary": {"A b": {"label": "size"}}},
        "greater than or equal to 0": {"auxiliary": {"size": {"label": "size", "weight": -1}}},
    }
    for sentence, changes in wrong.items():
        with pytest.raises(ValueError, match=sentence):
            DataSpec.model_validate(told(sized, **changes))
    assert "auxiliary" not in TrialSpec.model_validate({"task": "classify", "data": data(sized)}).as_data()["data"]
