"""Beginning with a trained model: its weights, what of it is frozen or adapted; an interruption changes nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_fit import MILESTONES, assert_resumes, assert_same_state, train

from tuner.spec.errors import CheckpointError, DataError, UnreadableError
from tuner.spec.parts.model import InitSpec, ModelSpec
from tuner.spec.parts.optim import DistilSpec
from tuner.spec.records import Ancestor, State
from tuner.spec.trial import TrialSpec
from tuner.train import checkpoint
from tuner.train.fit import Place
from tuner.train.model.adapt import adapt, adapters, begin_with, plain
from tuner.train.model.gpt import GPT
from tuner.train.model.module import GPTModule, Setting
from tuner.train.model.slim.distil import Distillation
from tuner.train.model.slim.part import _shallower
from tuner.train.text.tokenizer import load_tokenizer
from tuner.train.use.adopt import keep, load_any
from tuner.train.use.trained import load_checkpoint

MODEL = {"depth": 2, "width": 16, "heads": 2, "dropout": 0.2}


def spec(text: Path, **changes: Any) -> TrialSpec:
    base: dict[str, Any] = {
        "data": {"source": "text", "path": str(text), "tokenizer": {"kind": "char"}, "context": 16},
        "model": MODEL,
        "batch": 8,
        "budget": "5120 tokens",  # 40 steps
    }
    return TrialSpec.model_validate(base | changes)


@pytest.fixture(scope="module")
def ancestor(tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> Ancestor:
    """A trained model, kept."""
    root = tmp_path_factory.mktemp("ancestor")
    place = Place(root / "trial", text_file.parent / "corpora", threads=1)
    train(spec(text_file), place)
    return keep(checkpoint.sound(place.folder)[0].folder, place.corpora, root / "models")


def begun(text: Path, ancestor: Ancestor, init: dict[str, Any], **changes: Any) -> TrialSpec:
    init = {"source": "base/1", "sha256": ancestor.sha256, "folder": ancestor.folder, **init}
    tokenizer = {"kind": "file", "path": f"{ancestor.folder}/{ancestor.tokenizer}"}
    data = {"source": "text", "path": str(text), "tokenizer": tokenizer, "context": 16}
    return spec(text, init=init, data=data, **changes)


def final(place: Place) -> dict[str, torch.Tensor]:
    return checkpoint.sound(place.folder)[0].weights()


INITS: list[dict[str, Any]] = [
    {},
    {"freeze": 1},
    {"freeze": 2},
    {"lora": {"rank": 2}},
    {"lora": {"rank": 4, "alpha": 1, "on": "attention"}, "freeze": 1},
]


@pytest.mark.parametrize("init", INITS, ids=str)
@pytest.mark.parametrize("kind", ["muon", "adamw", "adafactor"])
def test_only_what_is_free_learns(text_file: Path, ancestor: Ancestor, place: Any, init: Any, kind: str) -> None:
    outcome, link = train(begun(text_file, ancestor, init, optim={"kind": kind}), place("a"))
    assert outcome.state is State.COMPLETE
    before, after = load_any(Path(ancestor.folder), Path()).gpt.state_dict(), final(place("a"))
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    frozen = init.get("freeze", 0)
    if "lora" in init:
        said = InitSpec(source="x", **init).lora
        assert moved <= {f"blocks.{layer}.{part}" for layer in range(frozen, 2) for part in MATRICES[said.on]}
        assert len(moved) == (2 - frozen) * len(MATRICES[said.on])
        rank = torch.linalg.matrix_rank(after[min(moved)] - before[min(moved)], atol=1e-5)
        assert rank <= int(said.rank or 0)
    else:
        assert any(name.startswith("head") for name in moved)
        still = (*(f"blocks.{layer}." for layer in range(frozen)), *(["tokens", "smear"] if frozen else []))
        assert not [name for name in moved if name.startswith(still)] or not still
        assert {name for name in before if not name.startswith(still)} == moved or not still
    free = sum(p.numel() for p in adapted(init).parameters() if p.requires_grad)
    assert link.facts[0].facts["trained_parameters"] == free


MATRICES = {
    "attention": [f"attention.{name}.weight" for name in ("query", "key", "value", "out")],
    "all": [f"attention.{n}.weight" for n in ("query", "key", "value", "out")] + ["mlp.up.weight", "mlp.out.weight"],
}


def adapted(init: dict[str, Any], vocab: int | None = None) -> GPT:
    gpt = GPT(ModelSpec.model_validate(MODEL), vocab or VOCAB, 16)
    adapt(gpt, InitSpec(source="x", **init))
    return gpt


VOCAB = 23


def test_it_begins_where_the_other_ended(text_file: Path, ancestor: Ancestor, place: Any) -> None:
    """On the same text it is better after an eighth of the budget than a fresh one."""
    _, fresh = train(spec(text_file), place("fresh"))
    _, going_on = train(begun(text_file, ancestor, {}, budget="640 tokens"), place("on"))
    assert going_on.milestones[1] < fresh.milestones[2]


@pytest.mark.parametrize("init", INITS, ids=str)
def test_an_interrupted_one_ends_bit_identical(text_file: Path, ancestor: Ancestor, place: Any, init: Any) -> None:
    _, rest = assert_resumes(begun(text_file, ancestor, init), place)
    assert 0 < (rest.facts[0].resumed_from or 0) < 40


def test_its_checkpoint_is_a_plain_model(text_file: Path, ancestor: Ancestor, place: Any) -> None:
    """Adapters are in the matrices: evaluated as it is used, it has the loss that was recorded."""
    _, link = train(begun(text_file, ancestor, {"lora": {"rank": 2}}), place("a"))
    best = checkpoint.sound(place("a").folder)[0]
    trained = load_checkpoint(best.folder, place("a").corpora)
    from tuner.train.text.corpus import open_corpus

    corpus = open_corpus(trained.spec.data, place("a").corpora)
    assert trained.part_losses(corpus, "val", None).mean() == pytest.approx(link.milestones[MILESTONES], abs=1e-5)


def test_adapters_begin_as_nothing_and_are_added() -> None:
    torch.manual_seed(1)
    gpt, base = adapted({"lora": {"rank": 3, "alpha": 6}}, 50), GPT(ModelSpec.model_validate(MODEL), 50, 16)
    for parameter in base.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    begin_with(gpt, base.state_dict())
    ids = torch.randint(0, 50, (2, 16))
    gpt.eval(), base.eval()
    assert torch.equal(gpt(ids), base(ids))
    gpt.load_state_dict(gpt.state_dict() | {name: torch.randn_like(one) for name, one in adapters(gpt).items()})
    base.load_state_dict(plain(gpt))
    assert torch.allclose(gpt(ids), base(ids), atol=1e-5)
    name = "blocks.1.mlp.up"
    up, down = (gpt.state_dict()[f"{name}.parametrizations.weight.0.{part}"] for part in ("up", "down"))
    original = gpt.state_dict()[f"{name}.parametrizations.weight.original"]
    assert torch.allclose(base.state_dict()[f"{name}.weight"], original + 2 * up @ down, atol=1e-5)


def test_fewer_positions_are_the_first_ones() -> None:
    fields = {"depth": 1, "width": 16, "positions": "learned"}
    long, short = GPT(ModelSpec.model_validate(fields), 50, 32), GPT(ModelSpec.model_validate(fields), 50, 8)
    begin_with(short, long.state_dict())
    ids = torch.randint(0, 50, (2, 8))
    assert torch.equal(short.eval()(ids), long.eval()(ids))


def test_weights_that_are_gone_or_others_are_a_sentence(
    text_file: Path, ancestor: Ancestor, place: Any, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(ancestor.folder, tmp_path / "copy"))
    trial = begun(text_file, ancestor, {"folder": str(folder)})
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-3] ^= 1
    (folder / "model.safetensors").write_bytes(bytes(data))
    with pytest.raises(UnreadableError, match=r"other weights.*run again, fetches it from base/1"):
        train(trial, place("a"))
    (folder / "model.safetensors").unlink()
    with pytest.raises(UnreadableError, match="cannot be read"):
        train(trial, place("b"))


def test_a_kept_model_is_whole_or_not_there(ancestor: Ancestor, tmp_path: Path, text_file: Path) -> None:
    root = tmp_path / "models"
    (root / ".123.keeping").mkdir(parents=True)
    again = keep(Path(ancestor.folder), Path(), root)
    assert Path(again.folder).name == again.sha256[:16] == ancestor.sha256[:16]
    assert {path.name for path in root.iterdir()} == {again.sha256[:16], "keep.lock"}
    weights = Path(again.folder) / "model.safetensors"
    place = weights.stat().st_ino
    assert keep(Path(ancestor.folder), Path(), root) == again
    assert weights.stat().st_ino == place, "a trial may be reading it"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(CheckpointError):
        keep(Path(again.folder), Path(), root)
    assert keep(Path(ancestor.folder), Path(), root) == again
    assert load_any(Path(again.folder), Path()).tokenizer.vocab == VOCAB


def test_equal_weights_with_another_tokenizer_are_not_taken_for_the_kept_ones(
    ancestor: Ancestor, tmp_path: Path
) -> None:
    root, mended = tmp_path / "models", tmp_path / "mended"
    first = keep(Path(ancestor.folder), Path(), root)
    shutil.copytree(first.folder, mended)
    path = mended / first.tokenizer
    state = json.loads(path.read_text())
    path.write_text(json.dumps({**state, "characters": state["characters"].replace("a", "\u00e1")}))
    record = json.loads((mended / "spec.json").read_text())
    record["facts"]["tokenizer_fingerprint"] = load_tokenizer(mended).fingerprint
    (mended / "spec.json").write_text(json.dumps(record))
    (mended / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match=rf"kept in .*{first.sha256[:16]}.* with another {first.tokenizer}"):
        keep(mended, Path(), root)
    assert keep(Path(ancestor.folder), Path(), root) == first


def test_layers_are_taken_evenly(text_file: Path, ancestor: Ancestor, place: Any) -> None:
    """A study of the first layer alone begins with the first; of both, with both, as with all."""
    before = load_any(Path(ancestor.folder), Path()).gpt.state_dict()
    frozen = {"take": "part", "freeze": 1}
    train(begun(text_file, ancestor, frozen, model={**MODEL, "depth": 1}, budget="640 tokens"), place("a"))
    after = final(place("a"))
    assert {name for name in after if name.startswith("blocks.")} == {n for n in before if n.startswith("blocks.0.")}
    assert all(torch.equal(after[name], before[name]) for name in after if name.startswith(("blocks.", "tokens")))
    _, some = train(begun(text_file, ancestor, {"take": "part"}), place("b"))
    _, every = train(begun(text_file, ancestor, {}), place("c"))
    assert some.milestones == every.milestones


def test_more_layers_than_there_are_is_no_trial(text_file: Path, ancestor: Ancestor, place: Any) -> None:
    with pytest.raises(DataError, match=r"model.depth is 3, and base/1 has 2 layers to take"):
        train(begun(text_file, ancestor, {"take": "part"}, model={**MODEL, "depth": 3}), place("a"))


@given(st.integers(1, 40), st.data())
def test_what_is_kept_of_a_depth(depth: int, data: st.DataObject) -> None:
    kept = data.draw(st.integers(1, depth))
    weights = {f"blocks.{layer}.x": torch.tensor(layer) for layer in range(depth)} | {"norm.weight": torch.tensor(7)}
    found = _shallower(weights, depth, kept)
    order = [int(found[f"blocks.{layer}.x"]) for layer in range(kept)]
    assert len(found) == kept + 1
    assert order == sorted(set(order))
    assert order[0] == 0
    assert kept == 1 or order[-1] == depth - 1
    assert kept != depth or order == list(range(depth))


def test_a_student_learns_what_its_teacher_expects() -> None:
    torch.manual_seed(1)
    student, teacher = (GPT(ModelSpec(depth=1, width=16), 30, 8) for _ in range(2))
    for parameter in (*student.parameters(), *teacher.parameters()):
        torch.nn.init.normal_(parameter, std=0.5)
    ids, targets = torch.randint(0, 30, (2, 8)), torch.randint(0, 30, (2, 8))
    targets[0, :3] = -100
    own, entropy = student.losses(ids, targets, 0.01, 0.1)

    def losses(weight: float, temperature: float, of: GPT = student) -> torch.Tensor:
        how = Distillation(of, teacher, DistilSpec(weight=weight, temperature=temperature))
        loss, told = how.losses(ids, targets, 0.01, 0.1)
        assert of is not student or torch.allclose(told, entropy)
        return loss

    assert torch.allclose(losses(0.0, 3.0), own)
    p, q = (torch.softmax(gpt(ids)[targets >= 0] / 3, -1) for gpt in (teacher, student))
    expected = 9 * (p * (p.log() - q.log())).sum(-1).mean()
    assert torch.allclose(losses(1.0, 3.0), expected, rtol=1e-4)
    assert torch.allclose(losses(0.25, 3.0), 0.75 * own + 0.25 * expected, rtol=1e-4)
    assert abs(losses(1.0, 2.0, of=teacher)) < 1e-6


@pytest.mark.parametrize("init", [{"take": "part"}, {"take": "nothing"}], ids=str)
def test_a_student_s_trial_is_interrupted_without_a_trace(
    text_file: Path, ancestor: Ancestor, place: Any, init: Any
) -> None:
    trial = begun(
        text_file, ancestor, init, model={**MODEL, "depth": 1}, optim={"distil": {"weight": 0.5, "temperature": 3}}
    )
    _, whole = train(trial, place("whole"))
    train(trial, place("cut"), interrupt_after=17)
    train(trial, place("cut"))
    assert_same_state(place("whole"), place("cut"))
    plain_trial = trial.model_copy(update={"optim": trial.optim.model_copy(update={"distil": DistilSpec()})})
    if init["take"] == "part":
        assert whole.milestones != train(plain_trial, place("plain"))[1].milestones
    assert {name.split(".")[0] for name in final(place("whole"))} == {"blocks", "head", "norm", "smear", "tokens"}


def test_a_compiled_student_is_taught_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was compiled before there was a teacher is not used."""
    monkeypatch.setattr(torch, "compile", lambda function, **how: function)
    trial = TrialSpec.model_validate({"model": {"depth": 1, "width": 16}, "data": {"context": 8}, "compile": True})
    module = GPTModule(trial, 30, lambda: 0.0)
    module.learn_from(GPT(trial.model, 30, 8))
    module.adopt(Setting.plain(trial))
    assert isinstance(module._losses.__self__, Distillation)  # type: ignore[attr-defined]


def test_weights_that_lack_something_are_refused() -> None:
    gpt = GPT(ModelSpec.model_validate(MODEL), 50, 16)
    with pytest.raises(RuntimeError, match="Missing key"):
        begin_with(gpt, {name: one for name, one in gpt.state_dict().items() if name != "norm.weight"})
