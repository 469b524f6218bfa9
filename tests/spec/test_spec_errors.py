"""Every mistake in a study's YAML is one sentence with its exact position, the path and the useful words."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tuner.spec.errors import SpecError
from tuner.spec.load import load, parse

STUDY = """\
name: base
trial:
  data: {source: stdlib, tokenizer: {kind: bpe, vocab: 1024}, context: 128}
  model: {depth: 4, width: 128, heads: auto}
  optim: {kind: adamw, lr: 1e-3, warmup: 0.05}
  batch: 16
  budget: 1M tokens
space:
  optim.lr: {float: [1e-4, 3e-2], log: true}
  optim.warmup: {float: [0.0, 0.2]}
  batch: {choice: [8, 16, 32]}
  model.depth: {int: [2, 8]}
  model.width: {int: [64, 256], step: 32}
forbid:
  - model.depth > 6 and batch > 16
study:
  trials: 24
  sampler: tpe
  workers: auto
"""

# what to replace, by what, position, words that must be there
CASES = {
    # values
    "not a number": ("lr: 1e-3", "lr: fast", "5:28", "trial.optim.lr", "a number above 0, got 'fast'"),
    "below the bound": ("lr: 1e-3", "lr: -1e-3", "5:28", "trial.optim.lr", "above 0, got -1e-3"),
    "not finite": ("lr: 1e-3", "lr: .inf", "5:28", "trial.optim.lr", "got '.inf'"),
    "too high": ("warmup: 0.05", "warmup: 1", "5:42", "trial.optim.warmup", "from 0 to below 1, got 1"),
    "not whole": ("batch: 16\n", "batch: 16.5\n", "6:10", "trial.batch", "a whole number from 1, got 16.5"),
    "endless digits": ("batch: 16\n", f"batch: {'9' * 5000}\n", "6:10", "trial.batch", "a whole number from 1"),
    "wrong word": ("kind: adamw", "kind: admw", "5:17", "trial.optim.kind", "Did you mean 'adamw'?"),
    "union once": ("heads: auto", "heads: many", "4:40", "trial.model.heads", "'auto' or a whole number from 1"),
    "union bound": ("heads: auto", "heads: 0", "4:40", "trial.model.heads", "'auto' or a whole number from 1, got 0"),
    "not a boolean": ("heads: auto", "qk_norm: 7", "4:42", "trial.model.qk_norm", "true or false, got 7"),
    "list for a value": ("lr: 1e-3", "lr: [1e-3]", "5:28", "trial.optim.lr", "a number above 0, got a list of 1"),
    "nothing": ("batch: 16\n", "batch:\n", "6:9", "trial.batch", "a whole number from 1, got nothing"),
    "short list": ("context: 128", "split: [0.9, 0.1]", "3:70", "trial.data.split", "a list of 3", "got a list of 2"),
    "long list": ("context: 128", "split: [1, 0, 0, 0]", "3:70", "trial.data.split", "got a list of 4"),
    "value in a list": ("context: 128", "split: [1, x, 0]", "3:74", "trial.data.split[1]", "got 'x'"),
    "no unit": ("1M tokens", "1000000", "7:11", "trial.budget", "no unit"),
    "unknown unit": ("1M tokens", "1M toks", "7:11", "trial.budget", "the unit 'toks'"),
    "recipe list": ("batch: 16\n", "recipe: [x]\n", "6:11", "trial.recipe", "'classic'", "a list of 1"),
    "budget list": ("1M tokens", "[1]", "7:11", "trial.budget", "an amount with a unit", "a list of 1"),
    "section is a value": ("data: {source: stdlib, tokenizer: {kind: bpe, vocab: 1024}, context: 128}", "data: x",
                           "3:9", "trial.data", "expected settings (key: value), got 'x'"),
    "contradiction": ("width: 128", "width: 131", "4:28", "trial.model.width", "must be even, got 131"),
    "source without path": ("source: stdlib", "source: text", "3:18", "trial.data.source", "needs path"),
    "vocab of a byte tokenizer": ("kind: bpe", "kind: byte", "3:57", "trial.data.tokenizer.vocab", "remove it"),
    # keys
    "unknown key": ("warmup: 0.05", "warm_up: 0.05", "5:34", "unknown key 'warm_up'", "Did you mean 'warmup'?"),
    "key of another section": ("  batch: 16\n", "  lr: 16\n", "6:3", "unknown key 'lr'", "'trial.optim.lr'"),
    "unknown top key": ("study:\n", "studdy:\n", "16:1", "unknown key 'studdy'", "Did you mean 'study'?"),
    "missing name": ("name: base\n", "", "1:1", "name is missing"),
    "duplicate key": ("  budget", "  batch: 8\n  budget", "7:3", "'batch' is here twice", "base.yaml:6:3"),
    "key is a list": ("  batch: 16\n", "  [a]: 16\n", "6:3", "text as a key, got a list"),
    "key is nothing": ("  batch: 16\n", "  ~: 16\n", "6:3", "text as a key, got nothing"),
    # the name
    "path as name": ("name: base", "name: ../../x", "1:7", "letters, digits, '.', '_' and '-'", "'../../x'"),
    "dots in a name": ("name: base", "name: a..b", "1:7", "no '..'"),
    "long name": ("name: base", f"name: {'a' * 101}", "1:7", "at most 100 characters"),
    "blank in a name": ("name: base", "name: a b", "1:7", "letters, digits"),
    # the space
    "unknown path": ("optim.lr:", "optim.lrr:", "9:3", "space.optim.lrr", "Did you mean 'optim.lr'?"),
    "path with trial": ("optim.lr:", "trial.optim.lr:", "9:3", "Did you mean 'optim.lr'?"),
    "section": ("optim.lr:", "optim:", "9:3", "space.optim", "is a section"),
    "low above high": ("[1e-4, 3e-2]", "[3e-2, 1e-4]", "9:21", "space.optim.lr.float", "0.03 is above", "swap"),
    "low equals high": ("[1e-4, 3e-2]", "[1e-3, 1e-3]", "9:21", "space.optim.lr.float", "both ends are 0.001"),
    "log with 0": ("[1e-4, 3e-2]", "[0, 3e-2]", "9:22", "space.optim.lr.float[0]", "above 0, got 0"),
    "log and step": ("log: true", "log: true, step: 1e-3", "9:52", "space.optim.lr.step", "exclude each other"),
    "step of 0": ("step: 32", "step: 0", "13:39", "space.model.width.step", "a whole number from 1 or null, got 0"),
    "step does not divide": ("step: 32", "step: 50", "13:22", "space.model.width.int", "would become 214"),
    "step too large": ("step: 32", "step: 500", "13:39", "space.model.width.step", "larger than 64 to 256"),
    "step too small": ("[0.0, 0.2]}", "[0.0, 0.2], step: 1e-30}", "10:43", "space.optim.warmup.step", "more than"),
    "end out of bounds": ("[0.0, 0.2]", "[0.0, 1.5]", "10:31", "space.optim.warmup.float[1]", "below 1, got 1.5"),
    "end is text": ("[0.0, 0.2]", "[0.0, lots]", "10:31", "space.optim.warmup.float[1]", "a number, got 'lots'"),
    "one end": ("[0.0, 0.2]", "[0.2]", "10:25", "space.optim.warmup.float", "a pair [low, high]", "a list of 1"),
    "huge end": ("[64, 256], step: 32", f"[64, {'9' * 400}]", "13:27", "space.model.width.int[1]", "whole number"),
    "float for whole": ("{choice: [8, 16, 32]}", "{float: [8, 32]}", "11:11", "space.batch.float", "use int"),
    "range for words": ("  batch: {choice: [8, 16, 32]}", "  optim.kind: {int: [1, 2]}", "11:16",
                        "space.optim.kind.int", "use choice"),
    "choice type": ("[8, 16, 32]", "[8, 16, big]", "11:27", "space.batch.choice[2]", "a whole number", "'big'"),
    "choice bound": ("[8, 16, 32]", "[8, 16, 0]", "11:27", "space.batch.choice[2]", "from 1, got 0"),
    "choice twice": ("[8, 16, 32]", "[8, 16, 16.0]", "11:27", "space.batch.choice[2]", "listed twice"),
    "choice empty": ("[8, 16, 32]", "[]", "11:19", "space.batch.choice", "nothing to choose from"),
    "choice of lists": ("[8, 16, 32]", "[8, [16]]", "11:23", "space.batch.choice[1]", "a single value, got a list"),
    "choice no list": ("[8, 16, 32]", "8", "11:19", "space.batch.choice", "a list such as", "got 8"),
    "no kind": ("{choice: [8, 16, 32]}", "{from: 8, to: 16}", "11:10", "space.batch", "exactly one of", "from, to"),
    "two kinds": ("[8, 16, 32]}", "[8, 16], int: [8, 32]}", "11:10", "space.batch", "exactly one of", "choice, int"),
    "dimension is a list": ("{choice: [8, 16, 32]}", "[8, 16]", "11:10", "space.batch", "got a list of 2"),
    "unknown key of a dimension": ("log: true", "lgo: true", "9:35", "space.optim.lr.lgo", "Did you mean 'log'?"),
    "log of a choice": ("[8, 16, 32]", "[8, 16], log: true", "11:28", "unknown key 'log'", "choice, when"),
    "budget searched": ("  batch: {", "  budget: {", "11:3", "space.budget", "may not be searched", "same budget"),
    "data searched": ("  batch: {", "  data.path: {", "11:3", "space.data.path", "no longer be comparable"),
    "pair searched": ("  batch: {", "  data.split: {", "11:3", "space.data.split", "no longer be comparable"),
    "tokenizer searched": ("  batch: {choice: [8, 16, 32]}", "  data.tokenizer.vocab: {choice: [512, 1024]}", "11:3",
                           "space.data.tokenizer.vocab", "study.metric must be val_bpb", "bits a byte"),
    # conditions
    "when on an unknown path": ("[8, 16, 32]", "[8, 16], when: {optim.knd: muon}", "11:35",
                                "space.batch.when.optim.knd", "Did you mean 'optim.kind'?"),
    "when with a wrong word": ("[8, 16, 32]", "[8, 16], when: {optim.kind: muno}", "11:47", "Did you mean 'muon'?"),
    "when out of range": ("[8, 16, 32]", "[8, 16], when: {model.depth: 9}", "11:48", "never takes 9", "2 to 8"),
    "when off the step": ("[8, 16, 32]", "[8, 16], when: {model.width: 65}", "11:48", "never takes 65"),
    "when on a fixed field": ("[8, 16, 32]", "[8, 16], when: {optim.kind: muon}", "11:47", "fixed at 'adamw'"),
    "when on itself": ("[8, 16, 32]", "[8, 16], when: {batch: 8}", "11:35", "cannot depend on itself"),
    "when nothing": ("[8, 16, 32]", "[8, 16], when: {model.depth: []}", "11:48", "no value listed"),
    "circle": ("[8, 16, 32]}\n  model.depth: {int: [2, 8]}",
               "[8, 16], when: {model.depth: 2}}\n  model.depth: {int: [2, 8], when: {batch: 8}}",
               "11:34", "batch -> model.depth -> batch"),
    # rules
    "rule: unknown path": ("model.depth > 6", "model.dept > 6", "15:5", "forbid[0]", "Did you mean 'model.depth'?"),
    "rule: syntax": ("model.depth > 6", "(model.depth > 6", "15:5", "forbid[0]", "cannot be read"),
    "rule: call": ("model.depth > 6", "abs(model.depth) > 6", "15:5", "forbid[0]", "calls such as `abs(model.depth)`"),
    "rule: power": ("model.depth > 6", "model.depth ** 2 > 6", "15:5", "forbid[0]", "powers"),
    "rule: text and number": ("model.depth > 6", "optim.kind > 6", "15:5", "forbid[0]", "`optim.kind` is text"),
    "rules are no list": ("forbid:\n  -", "forbid:", "14:9", "forbid", "expected a list"),
    # how to search
    "setting": ("trials: 24", "trials: lots", "17:11", "study.trials", "a whole number from 1, got 'lots'"),
    "setting key": ("trials: 24", "trails: 24", "17:3", "study.trails", "Did you mean 'trials'?"),
    "sampler": ("sampler: tpe", "sampler: tpee", "18:12", "study.sampler", "Did you mean 'tpe'?"),
    "workers": ("workers: auto", "workers: all", "19:12", "study.workers", "'auto' or a whole number from 1"),
    "disk": ("workers: auto", "disk: 5 XB", "19:9", "study.disk", "a size such as '5 GB'", "'5 XB'"),
    "huge disk": ("workers: auto", "disk: 1e290 GB", "19:9", "study.disk", "a size such as '5 GB'"),
    "storage": ("workers: auto", "storage: tuner.db", "19:12", "study.storage", "a URL such as sqlite:///tuner.db"),
    "grid": ("sampler: tpe", "sampler: grid", "9:13", "space.optim.lr", "needs a step", "(and 1 more mistake)"),
    # YAML
    "bracket": ("[8, 16, 32]}", "[8, 16, 32}", "11:29", "this is not YAML"),
    "tab": ("  batch: 16\n", "\tbatch: 16\n", "6:1", "this is not YAML"),
    "indentation": ("  batch: 16\n", " batch: 16\n", "6:2", "this is not YAML"),
    "merge key": ("  batch: 16\n", "  <<: {batch: 16}\n", "6:3", "merge keys"),
    "tag": ("batch: 16\n", "batch: !!python/object/apply:os.system [ls]\n", "6:10", "!!python/object/apply:os.system"),
    "alias without anchor": ("batch: 16\n", "batch: *lots\n", "6:10", "'*lots' has no anchor"),
    "alias in itself": ("[8, 16, 32]", "&a [8, *a]", "11:26", "'*a' contains itself"),
    "second document": ("study:\n", "---\nstudy:\n", "16:1", "one document"),
    "control character": ("batch: 16\n", "batch: 1\x006\n", "6:11", "U+0000"),
    "escaped control character": ("batch: 16\n", 'batch: "\\a"\n', "6:10", "U+0007"),
    "deep": ("batch: 16\n", f"batch: {'[' * 60}{']' * 60}\n", "6:58", "deeper than 50"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_mistake_is_named_at_its_place(case: str) -> None:
    old, new, place, *words = CASES[case]
    assert STUDY.count(old) == 1
    with pytest.raises(SpecError) as caught:
        parse(STUDY.replace(old, new), "base.yaml")
    message = str(caught.value)
    assert message.startswith(f"base.yaml:{place}: "), message
    for word in words:
        assert word in message, message
    assert "\n" not in message
    assert len(message) < 400


def test_the_study_of_these_tests_is_right() -> None:
    assert parse(STUDY).name == "base"


def test_the_first_mistake_in_file_order_speaks_for_all() -> None:
    text = STUDY.replace("trials: 24", "trials: x").replace("lr: 1e-3", "lr: x").replace("depth: 4", "depht: 4")
    with pytest.raises(SpecError, match=r"^<text>:4:11: .*'depht'.*\(and 2 more mistakes\)$"):
        parse(text)


def test_two_wrong_choices_are_two_mistakes() -> None:
    with pytest.raises(SpecError, match=r"choice.1.: batch takes .* got 'x'\. \(and 1 more mistake\)$"):
        parse(STUDY.replace("[8, 16, 32]", "[8, x, y]"))


@pytest.mark.parametrize("text", ["", "# only a comment\n", "\ufeff"], ids=["nothing", "comment", "mark"])
def test_an_empty_file(text: str) -> None:
    with pytest.raises(SpecError, match=r"^a.yaml:1:1: the file is empty"):
        parse(text, "a.yaml")


@pytest.mark.parametrize(("text", "came"), [("[1, 2]", "a list of 2"), ("base", "'base'"), ("~", "nothing")])
def test_a_top_level_that_is_no_mapping(text: str, came: str) -> None:
    with pytest.raises(SpecError, match=f"^a.yaml:1:1: expected settings .* got {came}"):
        parse(text, "a.yaml")


def test_an_anchor_bomb_ends_at_once() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]" for k in range(1, 10)]
    with pytest.raises(SpecError, match=r"^a.yaml:\d+:\d+: expected at most 20,000 values"):
        parse("\n".join(lines), "a.yaml")


def test_more_values_than_a_study_can_have() -> None:
    with pytest.raises(SpecError, match=r"^a.yaml:1:\d+: expected at most 20,000 values"):
        parse(f"a: [{'x, ' * 50_000}]", "a.yaml")


def test_anchors_themselves_are_welcome() -> None:
    spec = parse(STUDY.replace("[1e-4, 3e-2]", "&rates [1e-4, 3e-2]").replace("[0.0, 0.2]", "*rates"))
    assert spec.space["optim.warmup"].grid() == ()
    with pytest.raises(SpecError, match=r"^a:9:35: space.optim.warmup.float.1.: .*got 2"):
        parse(STUDY.replace("[1e-4, 3e-2]", "&rates [1e-4, 2]").replace("[0.0, 0.2]", "*rates"), "a")


# overrides


def test_overrides_change_any_field() -> None:
    spec = parse(
        STUDY,
        overrides=[
            "trial.budget=200k tokens",
            "study.trials=4",
            "space.optim.lr={float: [1e-4, 1e-2], log: true}",
            "name=foo",
            "trial.optim.muon.lr=3e-4",
            "trial.optim.clip=null",
            "study.storage=postgresql+psycopg://me:secret@host/db?options=-csearch_path%3Dmlflow",
            "trial.budget=300k tokens",
        ],
    )
    assert (str(spec.trial.budget), spec.study.trials, spec.name) == ("300k tokens", 4, "foo")
    assert spec.trial.optim.muon.lr == 3e-4
    assert spec.trial.optim.clip is None
    assert spec.space["optim.lr"].model_dump(include={"float", "log"}) == {"float": (1e-4, 1e-2), "log": True}
    assert parse("name: a", overrides=["trial.model.depth=2"]).trial.model.depth == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("trial.budget=200k", "--set trial.budget: expected a unit of tokens, flops"),
        ("trial.optim.muon=5", "--set trial.optim.muon: expected settings (key: value), got 5."),
        ("trial.batch.x=5", "--set trial.batch.x: trial.batch is 16, it has no keys to set."),
        ("trial.optim.lrr=5", "--set trial.optim.lrr: unknown key 'lrr'. Did you mean 'lr'?"),
        ("trial.optim.lr=1e-3", "--set trial.optim.lr: optim.lr is searched (base.yaml:9:3)"),
        ("trials", "--set trials: expected PATH=VALUE"),
        ("=4", "--set =4: expected PATH=VALUE"),
        ("trial..lr=4", "--set trial..lr=4: expected PATH=VALUE"),
        ("name=[", "--set name: this is not YAML"),
        ("name=*x", "--set name: the alias '*x' has no anchor"),
        ("name=a\x1b", "--set name: expected printable text, got the control character U+001B"),
        ("space.optim.lr={float: [1, 1]}", "--set space.optim.lr: space.optim.lr.float: both ends are 1"),
        ("space.optim.lr={float: [1, 2, 3]}", "--set space.optim.lr: space.optim.lr.float: expected a pair"),
        ("study=", "--set study: expected settings (key: value), got nothing."),
    ],
)
def test_a_wrong_override_names_itself(change: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(STUDY, "base.yaml", [change])
    assert str(caught.value).startswith(message)


# files


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(STUDY)
    with pytest.raises(SpecError, match=r"bass.yaml: there is no such file. Did you mean '.*base.yaml'\?"):
        load(tmp_path / "bass.yaml")
    with pytest.raises(SpecError, match="expected a YAML file, got a folder"):
        load(tmp_path)
    with pytest.raises(SpecError, match="cannot be read: embedded null byte"):
        load("a\x00b")
    (tmp_path / "big.yaml").write_text(STUDY + "#" * 10_000_000)
    with pytest.raises(SpecError, match="at most 1 MB, got a larger file"):
        load(tmp_path / "big.yaml")
    (tmp_path / "latin.yaml").write_bytes("name: x\ntrial: {data: {path: Hölle}}".encode("latin-1"))
    with pytest.raises(SpecError, match=r"latin.yaml:2:23: expected UTF-8 text, got the byte 0xf6"):
        load(tmp_path / "latin.yaml")
    (tmp_path / "wide.yaml").write_text(STUDY, "utf-16")
    with pytest.raises(SpecError, match=r"wide.yaml:1:1: expected UTF-8 text, got the byte 0xff"):
        load(tmp_path / "wide.yaml")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(STUDY)
    (tmp_path / "base.yaml").chmod(0)
    with pytest.raises(SpecError, match="cannot be read: Permission denied"):
        load(tmp_path / "base.yaml")


def test_a_file_is_named_as_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("spaces").mkdir()
    Path("spaces/a.yaml").write_text(STUDY.replace("lr: 1e-3", "lr: fast"))
    with pytest.raises(SpecError, match=re.escape("spaces/a.yaml:5:28: trial.optim.lr: expected a number")):
        load("spaces/a.yaml")
