"""What damage to checkpoints, packages, corpora and tokenizers comes to: found or harmless."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from damaging import Dose, Told, damaged, measurement
from safetensors.torch import save_file

from tuner.promotion.package.folder import describe
from tuner.spec.errors import CheckpointError, DataError
from tuner.spec.parts.data import DataSpec
from tuner.spec.trial import TrialSpec
from tuner.train import checkpoint
from tuner.train.model.gpt import GPT
from tuner.train.text.corpus import open_corpus, read_corpus
from tuner.train.text.split import PARTS
from tuner.train.text.tokenizer import ByteTokenizer, load_tokenizer
from tuner.train.use.trained import load_model

SPEC = TrialSpec.model_validate({"model": {"depth": 1, "width": 16}, "data": {"context": 8}, "batch": 4})


def saved(folder: Path, step: int) -> checkpoint.Saved:
    """A checkpoint whose every number follows from its step."""
    torch.manual_seed(step)
    weights = {"a.weight": torch.randn(16, 8), "b.weight": torch.randn(8)}
    state = {"moments": [torch.randn(16, 8), torch.randn(8)], "rng": torch.get_rng_state(), "rows": step}
    reached = measurement(step, step)
    return checkpoint.save(folder, weights, state, {"trial": {}, "facts": {}}, reached.spent, step, reached)


def same(one: Any, other: Any) -> bool:
    match one:
        case torch.Tensor():
            return torch.equal(one, other)
        case dict():
            return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
        case list():
            return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def checkpoints(folder: Path, dose: Dose) -> Told:
    """The newest checkpoint is damaged: the one before it is used, or the newest as it was written."""
    older, newest = saved(folder, 1), saved(folder, 2)
    originals = {one.folder: checkpoint.load(one) for one in (older, newest)}
    told: Told = Counter()
    for name in (checkpoint.WEIGHTS, checkpoint.STATE, checkpoint.SPEC, checkpoint.MANIFEST):
        path = newest.folder / name
        whole = path.read_bytes()
        for data in damaged(whole, dose):
            path.write_bytes(data)
            heard: list[str] = []
            found = checkpoint.sound(folder, heard.append)
            assert found in ([older], [newest, older]), (name, data)
            assert [str(newest.folder) in sentence for sentence in heard] == [True] * (2 - len(found))
            assert same(list(checkpoint.load(found[0])), list(originals[found[0].folder]))
            assert len(found) == 1 or name == checkpoint.MANIFEST, "only a manifest has bytes that say nothing"
            told["found" if len(found) == 1 else "harmless"] += 1
        path.write_bytes(whole)
    return told


def package(folder: Path, dose: Dose) -> Told:
    """A model that was exported: loaded as it was written, or refused."""
    torch.manual_seed(1)
    model = folder / "model"
    model.mkdir()
    weights = GPT(SPEC.model, 257, 8).state_dict()
    save_file(weights, model / checkpoint.WEIGHTS)
    facts = {"vocab": 257, "tokenizer_fingerprint": ByteTokenizer().fingerprint}
    (model / checkpoint.SPEC).write_text(json.dumps({"trial": SPEC.as_data(), "facts": facts}))
    ByteTokenizer().save(model)
    describe(model, "# card\n", ["to be"], {"why": "a test"})
    told: Told = Counter()
    for path in [*sorted(model.glob("*.json")), model / checkpoint.WEIGHTS]:
        if path.name == "promotion.json":
            continue
        whole = path.read_bytes()
        for data in damaged(whole, dose):
            path.write_bytes(data)
            try:
                loaded = load_model(model)
            except (CheckpointError, DataError):
                told["found"] += 1
                continue
            assert path.name == "manifest.json", "every other byte has a checksum"
            assert same(dict(loaded.gpt.state_dict()), dict(weights))
            assert (loaded.spec, loaded.facts) == (SPEC, facts)
            told["harmless"] += 1
        path.write_bytes(whole)
    return told


def corpus(folder: Path, dose: Dose) -> Told:
    """What is damaged is made again from the text: whoever opens the corpus gets the tokens that were there."""
    words = random.Random(3).choices(["the", "cat", "größer", "漢字", "home"], k=400)
    (folder / "text.txt").write_text(" ".join(words))
    told: Told = Counter()
    for kind in ("char", "bpe"):
        tokenizer = {"kind": kind, "vocab": 300} if kind == "bpe" else {"kind": kind}
        data = DataSpec.model_validate(
            {"source": "text", "path": str(folder / "text.txt"), "context": 8, "tokenizer": tokenizer}
        )
        root = folder / kind
        first = open_corpus(data, root)
        place = Path(first.info.folder)
        originals = {part: np.array(first.tokens(part)) for part in PARTS}
        for path in sorted(place.iterdir()):
            whole = path.read_bytes()
            small = dose if kind == "char" else Dose(dose.cuts // 4, dose.flips // 8)  # a BPE is trained each time
            for damage in damaged(whole, small):
                path.write_bytes(damage)
                told["harmless" if read_corpus(place, whole=True) else "found"] += 1
                again = open_corpus(data, root)
                assert again == first
                for part in PARTS:
                    assert np.array_equal(again.tokens(part), originals[part]), (path.name, part)
                assert again.tokenizer().fingerprint == first.info.tokenizer_fingerprint
                path.write_bytes(whole)
    assert told["harmless"] <= told["found"] / 10, "blanks between the metadata's words at most"
    return told


def tokenizer(folder: Path, dose: Dose) -> Told:
    """A tokenizer without its corpus's checksums, as a checkpoint in use reads it: known by its fingerprint."""
    told: Told = Counter()
    (folder / "text.txt").write_text("the cat sat on the mat, and a bird flew home. " * 30)
    for kind in ("byte", "char", "bpe"):
        spec = {"kind": kind, "vocab": 270} if kind == "bpe" else {"kind": kind}
        data = DataSpec.model_validate(
            {"source": "text", "path": str(folder / "text.txt"), "context": 8, "tokenizer": spec}
        )
        info = open_corpus(data, folder / "corpora").info
        for path in sorted(Path(info.folder).glob("tokenizer*.json")):
            whole = path.read_bytes()
            for damage in damaged(whole, dose):
                path.write_bytes(damage)
                try:
                    found = load_tokenizer(Path(info.folder)).fingerprint != info.tokenizer_fingerprint
                except DataError:
                    found = True
                told["found" if found else "harmless"] += 1
            path.write_bytes(whole)
    return told
