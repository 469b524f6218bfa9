"""A trained model in use, for real: a small trial's checkpoint writes and scores as the trial did."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.spec.errors import CheckpointError, DataError
from tuner.spec.parts.data import CleanSpec, TokenizerSpec
from tuner.spec.parts.sampling import Sampling
from tuner.spec.records import Measurement, Preparing, Started, Verdict
from tuner.spec.trial import TrialSpec
from tuner.train.checkpoint import SPEC, WEIGHTS, sound
from tuner.train.fit import Place, fit
from tuner.train.model.gpt import GPT
from tuner.train.text.corpus import open_corpus
from tuner.train.text.cursor import evaluation_windows
from tuner.train.text.tokenizer import ByteTokenizer, CharTokenizer, LibraryTokenizer, Tokenizer, build_tokenizer
from tuner.train.use.examine import examine
from tuner.train.use.trained import Trained, load_checkpoint, load_model
from tuner.train.use.words import Words, first_id

CONTEXT = 32
TEXT = "naïve 🦜 parrots say “ça va” — again and again, こんにちは. " * 40


class Quiet:
    """A link that lets a trial be, and keeps its last validation loss."""

    loss = math.nan

    def preparing(self, work: Preparing) -> None: ...

    def started(self, started: Started) -> None: ...

    def report(self, measurement: Measurement) -> Verdict:
        self.loss = measurement.metrics.get("val_loss", self.loss)
        return Verdict.CONTINUE

    def interrupted(self) -> bool:
        return False


@pytest.fixture(scope="module")
def trial(text_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, float]:
    """The checkpoint of a real trial, its corpora, and the validation loss that it reported."""
    root = tmp_path_factory.mktemp("trial")
    own = Path(shutil.copy(text_file, root / "text.txt"))
    spec = TrialSpec.model_validate(
        {
            "data": {
                "source": "text", "path": str(own), "tokenizer": {"kind": "bpe", "vocab": 300},
                "context": CONTEXT, "val_tokens": 1024,
            },
            "model": {"depth": 1, "width": 32}, "batch": 8, "precision": "bf16", "budget": "15k tokens",
        }
    )  # fmt: skip
    link = Quiet()
    fit(spec, 2, Place(root / "trial", root / "corpora", threads=1), link)
    return sound(root / "trial")[0].folder, root / "corpora", link.loss


def test_it_is_examined_on_the_tokens_that_are_kept_whatever_became_of_the_text(
    trial: tuple[Path, Path, float], tmp_path: Path
) -> None:
    checkpoint, corpora, loss = trial
    text = Path(load_checkpoint(checkpoint, corpora).spec.data.path or "")
    words = text.read_text()
    for change in (lambda: text.write_text(words + " more"), text.unlink):
        change()
        seen = examine(checkpoint, corpora, None, 1024)
        bare = Path(shutil.copytree(corpora, tmp_path / f"corpora-{text.exists()}"))
        for tokens in bare.glob("*/*.bin"):
            tokens.unlink()  # what is left tells of the tokenizer alone
        missing = examine(checkpoint, bare, None, 1024)
        text.write_text(words)
        assert seen.failures == {}
        package = [checkpoint / WEIGHTS, *corpora.glob("*/tokenizer*.json")]
        assert seen.bytes == sum(path.stat().st_size for path in package)
        assert seen.val_loss == pytest.approx(loss, abs=0.01)  # it was trained in bf16
        assert "text" in missing.failures["reproduces"]


@pytest.fixture(scope="module")
def trained(trial: tuple[Path, Path, float]) -> Trained:
    return load_checkpoint(*trial[:2])


@pytest.fixture
def package(trial: tuple[Path, Path, float], trained: Trained, tmp_path: Path) -> Path:
    """A packaged folder, which needs no corpus."""
    folder = tmp_path / "package"
    folder.mkdir()
    for name in (WEIGHTS, SPEC):
        shutil.copy(trial[0] / name, folder)
    trained.tokenizer.save(folder)
    return folder


def untrained(tokenizer: Tokenizer) -> Trained:
    """Every id is about as likely as another: broken characters wherever they can be."""
    spec = TrialSpec.model_validate({"model": {"depth": 1, "width": 16}, "data": {"context": CONTEXT}})
    torch.manual_seed(2)
    return Trained(GPT(spec.model, tokenizer.vocab, CONTEXT), tokenizer, spec, {})


def tokenizers() -> list[Tokenizer]:
    bpe = build_tokenizer(TokenizerSpec.model_validate({"kind": "bpe", "vocab": 280}), [TEXT], True)
    return [ByteTokenizer(), bpe, CharTokenizer("".join(sorted(set(TEXT))), documents=False)]


TOKENIZERS = tokenizers()


def test_the_recorded_validation_loss_comes_back(trial: tuple[Path, Path, float], trained: Trained) -> None:
    corpus = open_corpus(trained.spec.data, trial[1])
    tokens, each = corpus.tokens("val"), trained.part_losses(corpus, "val", 1024)
    assert trained.precision == "bf16"
    assert (each.shape, each.dtype) == ((1024,), np.float64)
    assert each.mean() == pytest.approx(trial[2], abs=1e-3)
    assert trained.window_losses(tokens, 1024, "bf16").mean() == pytest.approx(each.mean(), rel=1e-6)
    losses = trained.window_losses(tokens, 1024)
    assert (losses.shape, losses.dtype) == ((32,), np.float64)
    assert losses.mean() == pytest.approx(trial[2], abs=0.02)
    inputs, targets = next(iter(evaluation_windows(tokens, CONTEXT, 1024)))
    with torch.no_grad():
        third = trained.gpt.loss(torch.from_numpy(inputs[2:3]), torch.from_numpy(targets[2:3]))
    assert losses[2] == pytest.approx(float(third), rel=1e-5)


@pytest.mark.parametrize(("count", "windows"), [(0, 0), (1, 0), (32, 0), (33, 1), (64, 1), (65, 2), (700, 21)])
def test_only_whole_windows_have_a_loss(trained: Trained, count: int, windows: int) -> None:
    assert trained.window_losses(np.arange(count, dtype=np.uint16) % 200, None).shape == (windows,)


def test_a_package_writes_and_scores_as_its_checkpoint_does(package: Path, trained: Trained) -> None:
    packaged, sampling = load_model(package), Sampling(max_tokens=50, seed=3)
    assert packaged.generate("the cat", sampling) == trained.generate("the cat", sampling)
    assert packaged.score("the cat sat on a mat.") == trained.score("the cat sat on a mat.")
    assert not any(parameter.requires_grad for parameter in packaged.gpt.parameters())


def test_loading_leaves_the_global_random_state_alone(package: Path) -> None:
    state = torch.get_rng_state()
    load_model(package)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_score_is_the_mean_over_every_token_but_the_first(trained: Trained) -> None:
    likely, unlikely = trained.score("the cat sat on a mat."), trained.score("tac eht zq xq vv")
    assert likely.loss < unlikely.loss
    assert likely.bytes == 21
    assert likely.bits_per_byte == pytest.approx(likely.loss / math.log(2) * likely.tokens / 21)
    long = "every bird saw a mat and fly home again " * 9
    (ids,) = trained.tokenizer.encode([long])
    assert len(ids) > 2 * CONTEXT
    nats = 0.0
    for start in range(0, len(ids) - 1, CONTEXT):
        part = torch.from_numpy(ids[start : start + CONTEXT + 1].astype(np.int64))[None]
        with torch.no_grad():
            nats += float(trained.gpt.loss(part[:, :-1], part[:, 1:], reduction="sum"))
    assert trained.score(long).loss == pytest.approx(nats / (len(ids) - 1), rel=1e-5)
    with pytest.raises(DataError, match=r"has 0 tokens; expected 2"):
        trained.score("")


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("prompt", ["", "ça va 🦜"])
def test_pieces_are_whole_characters_and_together_the_whole(tokenizer: Tokenizer, prompt: str) -> None:
    model, sampling = untrained(tokenizer), Sampling(max_tokens=120, temperature=1.5, seed=7)
    pieces = list(model.stream(prompt, sampling))
    assert all(pieces)
    assert "".join(pieces) == model.generate(prompt, sampling)
    assert len("".join(pieces)) > 40


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=lambda one: type(one).__name__)
@settings(max_examples=60)
@given(st.data())
def test_words_say_what_decoding_all_at_once_says(tokenizer: Tokenizer, data: st.DataObject) -> None:
    """Any ids: those of a text, cut anywhere, and ids that no text has."""
    text = data.draw(st.text(st.sampled_from(TEXT), max_size=40))
    (spelt,) = tokenizer.encode([text])
    wild = st.lists(st.integers(0, tokenizer.vocab - 1).filter(lambda i: i != tokenizer.end), max_size=30)
    cut = data.draw(st.integers(0, len(spelt)))
    ids = [*map(int, spelt[:cut]), *data.draw(wild), *map(int, spelt[cut:])]
    before = data.draw(st.sampled_from([[first_id(tokenizer, 2)], [int(i) for i in tokenizer.encode([TEXT[:60]])[0]]]))
    words = Words(tokenizer, before)
    pieces = [words.add(i) for i in ids]
    whole = tokenizer.decode([*before, *ids])[len(tokenizer.decode(before)) :]
    assert "".join(pieces) + words.rest() == whole


def test_a_character_of_several_tokens_comes_whole() -> None:
    tokenizer = ByteTokenizer()
    words = Words(tokenizer, [tokenizer.end or 0])
    assert [words.add(byte) for byte in "a🦜é".encode()] == ["a", "", "", "", "🦜", "", "é"]
    assert words.rest() == ""
    words.add(0xF0)
    assert words.rest() == "\ufffd"


def test_characters_that_a_vocabulary_spells_in_bytes_come_whole(tmp_path: Path) -> None:
    """As Llama 2's and Mistral's do: the decoder has one U+FFFD for each byte of a run that is not whole yet."""
    from tokenizers import Tokenizer as Library
    from tokenizers import decoders, models

    known = {f"<0x{byte:02X}>": byte for byte in range(256)} | {letter: 256 + n for n, letter in enumerate("abc d")}
    library = Library(models.BPE(known, [], byte_fallback=True))
    library.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokenizer = LibraryTokenizer(library.to_str())
    text = "a 字b" + "漢字かな交じり文🦜" * 5 + " c漢d"
    (ids,) = tokenizer.encode([text])
    assert len(ids) > len(text)
    for cut in (1, 2, 9, 10, 11, 40):
        before = [int(i) for i in ids[:cut]]
        words = Words(tokenizer, before)
        pieces = [words.add(int(i)) for i in ids[cut:]]
        said = "".join(pieces) + words.rest()
        assert said.lstrip("\ufffd") == text[len(text) - len(said.lstrip("\ufffd")) :]
        assert said.count("\ufffd") <= 2  # what is left of a character that the prompt tore


def test_a_text_ends_at_its_end() -> None:
    """The head is made to like one id best: an x for ever, then the end."""
    model = untrained(ByteTokenizer())
    sampling = Sampling(max_tokens=40, temperature=0)
    for liked, text in ((ord("x"), "x" * 40), (256, "")):
        with torch.no_grad():
            model.gpt.tokens.weight.fill_(1.0)
            model.gpt.get_parameter("head.weight").zero_()[liked] = 1.0
        assert model.generate("a", sampling) == text
        assert model.samples(["a", "b", "abc"], sampling) == [text] * 3


def test_a_prompt_with_undecodable_bytes_is_read_with_question_marks() -> None:
    for tokenizer in TOKENIZERS:
        model, sampling = untrained(tokenizer), Sampling(max_tokens=5)
        assert model.generate("a\udcffb", sampling) == model.generate("a?b", sampling)
        assert model.score("a\udcffb") == model.score("a?b")


def test_samples_are_drawn_together_where_prompts_are_of_one_length(trained: Trained) -> None:
    sampling = Sampling(max_tokens=20, temperature=0)
    prompts = ["the cat", "every bird", "the mat", "", "the cat"]
    texts = trained.samples(prompts, sampling)
    assert texts == [trained.generate(prompt, sampling) for prompt in prompts]
    warm = trained.samples(["", ""], Sampling(max_tokens=20))
    assert warm[0] != warm[1]
    assert trained.samples(["", ""], Sampling(max_tokens=20)) == warm
    assert trained.samples([], sampling) == []


def test_the_first_id_is_the_end_of_a_text_or_a_newline() -> None:
    assert first_id(ByteTokenizer(), 2) == 256
    assert [first_id(ByteTokenizer(), documents) for documents in (0, 1)] == [10, 10]  # it has seen no end
    assert first_id(CharTokenizer("\nabc", documents=False), 0) == 0
    assert first_id(CharTokenizer("\tab\n", documents=False), 0) == 3
    assert first_id(CharTokenizer("abc", documents=False), 0) == 0


def test_a_prompt_is_cleaned_as_the_text_was(trained: Trained) -> None:
    tidy = trained.spec.data.model_copy(update={"clean": CleanSpec(whitespace=True), "mask": ("email",)})
    tidying = replace(trained, spec=trained.spec.model_copy(update={"data": tidy}))
    sampling = Sampling(max_tokens=8)
    for raw, learned in (("the    cat\r\nsat", "the cat\nsat"), ("ask a@b.org now", "ask <email> now")):
        assert tidying.generate(raw, sampling) == trained.generate(learned, sampling)
        assert tidying._ids(raw) != trained._ids(raw)


def test_a_flipped_byte_and_a_missing_corpus_are_sentences(trial: tuple[Path, Path, float], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trial[0], tmp_path / "step-1"))
    with pytest.raises(DataError, match=r"is gone, and its tokenizer with it; run the study's command again"):
        load_checkpoint(folder, tmp_path / "nowhere")
    weights = folder / WEIGHTS
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"model.safetensors: damaged; its sha256"):
        load_checkpoint(folder, trial[1])
    with pytest.raises(CheckpointError, match="no checkpoint"):
        load_checkpoint(tmp_path / "nothing", trial[1])


def change(path: Path, **facts: Any) -> None:
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "facts": record["facts"] | facts}))


def test_a_package_whose_files_do_not_belong_together_is_refused(package: Path) -> None:
    ByteTokenizer().save(package)
    with pytest.raises(CheckpointError, match=r"another tokenizer \(vocab \d+, here 257\)"):
        load_model(package)
    change(package / SPEC, vocab=257)
    with pytest.raises(CheckpointError, match=r"another tokenizer \(tokenizer_fingerprint [0-9a-f]{16}, here"):
        load_model(package)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        (WEIGHTS, b"\x80\x04.", "does not load"),  # a pickle, which is never opened
        (WEIGHTS, None, "does not load"),
        (SPEC, b"[1]", "expected the spec of a trial"),
        (SPEC, b'{"trial": {"depth": 1}, "facts": {}}', "expected the spec of a trial"),
        (SPEC, None, "expected the spec of a trial"),
    ],
)
def test_a_damaged_package_is_a_sentence(package: Path, name: str, content: bytes | None, sentence: str) -> None:
    (package / name).unlink()
    if content is not None:
        (package / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=sentence):
        load_model(package)


def test_weights_of_another_shape_are_refused(package: Path) -> None:
    record = json.loads((package / SPEC).read_text())
    record["trial"]["model"]["depth"] = 2
    (package / SPEC).write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match="Missing key"):
        load_model(package)


def test_facts_without_a_precision_are_fp32(trained: Trained) -> None:
    assert replace(trained, facts={}).precision == "fp32"


def test_use_loads_neither_lightning_nor_mlflow_nor_optuna(package: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from tuner.spec.parts.sampling import Sampling\n"
        "from tuner.train.use.trained import load_model\n"
        f"print(len(load_model(Path({str(package)!r})).generate('the', Sampling(max_tokens=5))))\n"
        "print('LOADED', *sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split("LOADED")[1].split())
    assert not loaded & {"lightning", "mlflow", "optuna", "datasets", "pandas", "sqlalchemy"}


def test_a_packaged_model_loads_with_what_its_requirements_name() -> None:
    """The rest of the platform's packages may be absent where it is served."""
    from tuner.promotion.package.folder import REQUIREMENTS

    absent = ["psutil", "lightning", "optuna", "datasets", "datasketch", "streamlit", "fsspec.implementations", "rich"]
    absent += ["typer", "scipy", "sklearn", "ray", "torchmetrics", "psycopg"]
    assert not {name.split(">")[0] for name in REQUIREMENTS} & set(absent)
    script = f"import sys\nsys.modules.update(dict.fromkeys({absent}))\nimport tuner.train.use.trained"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
