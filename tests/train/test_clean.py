"""What is done to a text before it is learned from: cleaned, filtered, masked, watched; and nothing, where nothing is
asked for.
"""

from __future__ import annotations

import csv
import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from tuner.cli.main import app
from tuner.spec.errors import DataError, SpecError
from tuner.spec.load import parse
from tuner.spec.parts.data import CleanSpec, DataSpec
from tuner.spec.parts.scalars import digest
from tuner.spec.trial import TrialSpec
from tuner.train.text.build import FORMAT
from tuner.train.text.corpus import corpus_report, open_corpus
from tuner.train.text.prepare.clean import cleaned, found_in
from tuner.train.text.prepare.watch import require_apart
from tuner.train.text.source import open_source
from tuner.train.text.tokenizer import tokenizer_key

WORDS = ["cat", "sat", "mat", "and", "saw", "every", "bird", "fly", "home", "again", "river", "while", "songs", "sung"]


def sentence(rng: random.Random, count: int = 40) -> str:
    return " ".join(rng.choices(WORDS, k=count)) + "."


def rows(path: Path, texts: list[str], **fields: Any) -> DataSpec:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text"])
        writer.writerows([text] for text in texts)
    data = {"source": "csv", "path": str(path), "column": "text", "context": 16, "tokenizer": {"kind": "byte"}}
    return DataSpec(**{**data, **fields})


def texts_of(data: DataSpec, root: Path) -> dict[str, str]:
    corpus = open_corpus(data, root)
    return {part: corpus.tokenizer().decode(corpus.tokens(part)) for part in ("train", "val", "test")}  # type: ignore[arg-type]


def left_out(data: DataSpec, root: Path) -> dict[str, int]:
    found: dict[str, int] = corpus_report(Path(open_corpus(data, root).info.folder))["left_out"]
    return found


def test_a_text_is_written_in_one_way() -> None:
    clean = CleanSpec(unicode="nfc", whitespace=True)
    mixed = "a\u0301\r\nb\u200b  c \t\n\n\n\n    indented  twice\x00"
    assert cleaned(mixed, clean, ()) == "á\nb c\n\n    indented twice"
    assert cleaned("ﬁ", CleanSpec(unicode="nfkc"), ()) == "fi"
    assert cleaned("ﬁ  \r\n", CleanSpec(), ()) == "ﬁ  \r\n"


@given(st.text())
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    clean = CleanSpec(unicode="nfkc", whitespace=True)
    once = cleaned(text, clean, ("email", "key"))
    assert cleaned(once, clean, ("email", "key")) == once


SECRETS = [
    "AKIA" + "ABCDEFGHIJKLMNOP",
    "ghp_" + "a1B2" * 9,
    "sk-" + "proj-abcDEF123_456" * 2,
    "hf_" + "abcdefgh" * 5,
    "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0NTY3ODkwIn0." + "abcdefghijklm",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIB\nabc\n-----END RSA PRIVATE KEY-----",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_what_looks_like_a_secret_is_found_and_masked(secret: str) -> None:
    text = f"before ({secret}) after"
    assert found_in(text) == {"email": 0, "key": 1}
    assert cleaned(text, CleanSpec(), ("key",)) == "before (<key>) after"
    assert cleaned(text, CleanSpec(), ("email",)) == text


BODY = "MIIEowIBAAKCAQEAr4vQ0h1m5x9Zb7sNw2\n" * 3


def test_half_a_private_key_is_masked_as_well() -> None:
    head, tail = f"a\n-----BEGIN PRIVATE KEY-----\n{BODY}", f"{BODY}-----END PRIVATE KEY-----\nb"
    assert cleaned(head, CleanSpec(), ("key",)) == "a\n<key>"
    assert cleaned(tail, CleanSpec(), ("key",)) == "<key>\nb"
    assert cleaned("prose before\n" + tail, CleanSpec(), ("key",)) == "prose before\n<key>\nb"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("İstanbul. password = 'correct-horse-battery'", "İstanbul. password = '<key>'"),
        ("SECRET_KEY = 'abc123def456ghi'", "SECRET_KEY = '<key>'"),
        ("token = 'AKIAABCDEFGHIJKLMNOP/theremainingpart'", "token = '<key>'"),
        ("'user@example.com' sent secret: 'me@example.com'", "'<email>' sent secret: '<key>'"),
        ("y = W@x.reshape(-1, 3)", "y = W@x.reshape(-1, 3)"),
        # scripts that set no blanks around it
        ("お問い合わせはinfo@example.jpまで", "お問い合わせは<email>まで"),
        ("info@example.kr로 보내주세요", "<email>로 보내주세요"),
        ("联系foo@bar.com。", "联系<email>。"),
        ("ติดต่อ" * 20 + "foo@bar.com", "ติดต่อ" * 20 + "<email>"),
        ("jürgen.groß@straße.de, σοφία@παράδειγμα.gr", "<email>, <email>"),
        ("密钥是sk-abcDEF1234567890abcdef", "密钥是<key>"),
        ("glpat-abcdefghij12345是我的", "<key>是我的"),
    ],
)
def test_secrets_in_odd_places(text: str, masked: str) -> None:
    for order in (("email", "key"), ("key", "email")):
        assert cleaned(text, CleanSpec(), order) == cleaned(text, CleanSpec(), ("email", "key"))
    assert cleaned(text, CleanSpec(), ("key", "email")) in (masked, masked.replace("'<key>'", "'<email>'", 2))


HOSTILE = [
    "@",
    "a@",
    "token",
    "eyJ",
    "sk-a1",
    "-----BEGIN ",
    "-----END ",
    " \t",
    "\n",
    "ghp_",
    "a@a.",
    "x ",
    "secret = '",
]


@pytest.mark.parametrize("bit", HOSTILE)
def test_hostile_text_takes_no_longer_than_its_length(bit: str) -> None:
    clean = CleanSpec(unicode="nfkc", whitespace=True)
    text = bit * (60_000 // len(bit))
    began = time.process_time()
    cleaned(text, clean, ("email", "key"))
    found_in(text)
    assert time.process_time() - began < 5  # what is quadratic takes minutes


def test_addresses_and_named_passwords_are_found_and_the_name_stays() -> None:
    text = "Write to Ann.B+c@mail.example.org, not to me@home. password = 'correct-horse-battery'"
    assert found_in(text) == {"email": 1, "key": 1}
    assert cleaned(text, CleanSpec(), ("email", "key")) == "Write to <email>, not to me@home. password = '<key>'"


def test_ordinary_text_holds_no_secret() -> None:
    ordinary = "A token is a word; the secret of the key = 'short'. mask_123, sk-learn, import os  # @decorator a @ b"
    assert found_in(ordinary) == {"email": 0, "key": 0}


def test_filters_leave_training_documents_out_and_no_other(tmp_path: Path) -> None:
    rng = random.Random(0)
    good = [sentence(rng) for _ in range(40)]
    bad = [lambda k: f"x{k}", lambda k: f"{k} 5678 !! ?? 99 -- ++ " * 8, lambda k: f"the same line {k}\n" * 30]
    bad.append(lambda k: sentence(rng, 2000))
    mixed = [text for k, text in enumerate(good) for text in (text, bad[k % 4](k))]
    data = rows(tmp_path / "a.csv", mixed, clean={"shortest": 20, "longest": 4000, "letters": 0.6, "repetition": 0.5})
    plain = texts_of(data.model_copy(update={"clean": CleanSpec()}), tmp_path / "corpora")
    filtered = texts_of(data, tmp_path / "corpora")
    assert set(left_out(data, tmp_path / "corpora")) == {"too short", "too long", "few letters", "repeated lines"}
    assert (filtered["val"], filtered["test"]) == (plain["val"], plain["test"])
    assert len(filtered["train"]) < len(plain["train"])
    assert "the same line" in plain["train"]
    assert "the same line" not in filtered["train"]
    assert all(text in filtered["train"] for text in good if text in plain["train"])


@pytest.mark.parametrize("duplicates", ["exact", "near"])
def test_a_text_is_learned_once_and_never_what_is_judged_by(tmp_path: Path, duplicates: str) -> None:
    rng = random.Random(1)
    good = [sentence(rng, 80) for _ in range(30)]
    copies = [text.upper().replace(" ", "  ") for text in good]
    near = [text.replace("river", "lake", 1) for text in good[:5]]
    mixed = random.Random(2).sample(good + copies + near, 65)
    data = rows(tmp_path / "a.csv", mixed, clean={"duplicates": duplicates})
    plain = open_corpus(data.model_copy(update={"clean": CleanSpec()}), tmp_path / "corpora")
    with pytest.raises(DataError, match="stands in the training part"):
        require_apart(corpus_report(Path(plain.info.folder))["overlap"], data.overlap)
    parts = texts_of(data, tmp_path / "corpora")
    report = corpus_report(Path(open_corpus(data, tmp_path / "corpora").info.folder))
    assert report["overlap"] == {"val": 0.0, "test": 0.0}
    assert report["left_out"]["duplicate"] >= 20
    if duplicates == "near":
        assert 2 <= report["left_out"]["near duplicate"] <= 5
    trained = parts["train"].casefold()
    assert all(" ".join(trained.split()).count(text.casefold()) <= 1 for text in good)


def test_near_duplicates_are_seen_in_scripts_without_blanks(tmp_path: Path) -> None:
    """One character of a hundred is another; each text stands in both forms."""
    rng = random.Random(3)
    whole = ["".join(chr(rng.randrange(0x4E00, 0x6000)) for _ in range(100)) for _ in range(30)]
    texts = [text for one in whole for text in (one, one[:50] + "龜" + one[51:])]
    path = tmp_path / "lines.txt"
    path.write_text("\n".join(texts), encoding="utf-8")
    data = DataSpec.model_validate(
        {"source": "text", "path": str(path), "documents": "line", "context": 16, "split": [0.8, 0.1, 0.1]}
        | {"tokenizer": {"kind": "byte"}, "clean": {"duplicates": "near"}}
    )
    report = corpus_report(Path(open_corpus(data, tmp_path / "corpora").info.folder))
    assert report["left_out"].get("near duplicate", 0) >= 20


def test_one_text_without_documents_says_what_it_needs(tmp_path: Path) -> None:
    rng = random.Random(2)
    path = tmp_path / "book.txt"
    path.write_text("\n\n".join(sentence(rng, 60) for _ in range(60)) + "\n\nshort\n")
    data = DataSpec(source="text", path=str(path), context=16, tokenizer={"kind": "byte"}, clean={"shortest": 10})
    with pytest.raises(DataError, match="paragraph or line"):
        open_corpus(data, tmp_path / "corpora")
    whole = DataSpec.model_validate({**data.model_dump(), "documents": "paragraph"})
    info = open_corpus(whole, tmp_path / "corpora").info
    assert sum(info.documents) + sum(left_out(whole, tmp_path / "corpora").values()) == 61


@pytest.mark.parametrize(("kind", "count"), [("line", 4), ("paragraph", 2)])
def test_paragraphs_and_lines_are_documents(tmp_path: Path, kind: Any, count: int) -> None:
    path = tmp_path / "poem.txt"
    path.write_bytes(b"\n\r\none line of it\r\nand one more line\n\n  \nan indented one\n  and the last of all lines")
    data = DataSpec(
        source="text", path=str(path), documents=kind, context=2, tokenizer={"kind": "byte"}, split=(0.5, 0.5, 0)
    )
    assert sum(open_corpus(data, tmp_path / "corpora").info.documents) == count
    parts = texts_of(data, tmp_path / "corpora")
    assert "one line of it" in parts["train"]
    assert "\r" not in parts["train"] + parts["val"]


def overlap_of(path: Path, text: str) -> dict[str, float]:
    path.write_text(text)
    data = DataSpec(source="text", path=str(path), context=16, tokenizer={"kind": "byte"})
    found: dict[str, float] = corpus_report(Path(open_corpus(data, path.parent / "corpora").info.folder))["overlap"]
    return found


def test_the_same_text_in_two_parts_is_seen_where_there_are_no_documents(tmp_path: Path) -> None:
    rng = random.Random(3)
    paragraphs = [sentence(rng, 60) for _ in range(40)]
    assert overlap_of(tmp_path / "twice.txt", "\n\n".join(paragraphs + paragraphs))["val"] > 0.7
    licence = sentence(rng, 60)
    lines = [sentence(rng, 8) for _ in range(3000)]
    assert 0 < max(overlap_of(tmp_path / "b.txt", "\n\n".join([licence, *lines, licence])).values()) < 0.03


def test_a_study_on_one_text_in_two_parts_is_refused_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = random.Random(6)
    rows(tmp_path / "a.csv", [sentence(rng)] * 40)
    data = "{source: csv, path: a.csv, column: text, context: 16, tokenizer: {kind: byte}}"
    (tmp_path / "s.yaml").write_text(f"name: s\ntrial: {{data: {data}}}\n")
    told = CliRunner().invoke(app, ["data", "s.yaml"])
    assert told.exit_code != 0
    assert "stands in the training part too" in " ".join(told.output.split())
    assert CliRunner().invoke(app, ["data", "s.yaml", "--set", "trial.data.overlap=1"]).exit_code == 0
    refused = CliRunner().invoke(app, ["study", "s.yaml"])
    assert refused.exit_code != 0
    assert "data.clean.duplicates: exact" in " ".join(refused.output.split())


def test_filters_that_leave_nothing_say_so(tmp_path: Path) -> None:
    data = rows(tmp_path / "a.csv", [sentence(random.Random(k)) for k in range(20)], clean={"shortest": 9999})
    with pytest.raises(DataError, match="16 too short"):
        open_corpus(data, tmp_path / "corpora")


def test_letters_of_any_script_are_letters(tmp_path: Path) -> None:
    hindi = "यह हिन्दी में एक साधारण वाक्य है और इसमें कई शब्द हैं "
    data = rows(tmp_path / "a.csv", [hindi * 3 + str(k) for k in range(20)], clean={"letters": 0.9})
    assert left_out(data, tmp_path / "corpora") == {}


def test_where_nothing_is_asked_for_all_is_as_it_was(tmp_path: Path) -> None:
    rng = random.Random(4)
    data = rows(tmp_path / "a.csv", [sentence(rng) for _ in range(30)])
    corpus = open_corpus(data, tmp_path / "corpora")
    before = digest([FORMAT, open_source(data).key, tokenizer_key(data.tokenizer), data.split])[:16]
    assert corpus.info.fingerprint == before  # corpora and trials from before there were these fields stay theirs
    trial = TrialSpec(data=data)
    assert {"clean", "mask", "documents"} & set(trial.as_data()["data"]) == set()
    assert TrialSpec.model_validate(trial.as_data()) == trial
    masked = TrialSpec.model_validate({**trial.as_data(), "data": {**trial.as_data()["data"], "mask": ["email"]}})
    assert masked.hash != trial.hash
    assert TrialSpec.model_validate(masked.as_data()) == masked


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"clean": {"shortest": 9, "longest": 3}}, "no document would be left"),
        ({"clean": {"alike": 0.5}}, "alike is for duplicates: near"),
        ({"clean": {"duplicates": "all"}}, "duplicates"),
        ({"mask": ["name"]}, "mask"),
        ({"mask": ["email", "email"]}, "names something twice"),
        ({"documents": "line"}, "does not belong to source stdlib"),
    ],
)
def test_a_wrong_setting_is_a_sentence(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        parse(json.dumps({"name": "s", "trial": {"data": settings}}))


@pytest.mark.parametrize("path", ["data.clean.duplicates", "data.clean.unicode", "data.clean.letters"])
def test_the_text_is_one_for_all_trials_of_a_study(path: str) -> None:
    choice = {"data.clean.duplicates": "[keep, exact]", "data.clean.unicode": "[keep, nfc]"}.get(path, "[0.1, 0.2]")
    with pytest.raises(SpecError, match="one for all its trials"):
        parse(f"name: s\nspace: {{{path}: {{choice: {choice}}}}}\nstudy: {{metric: val_bpb}}")


def test_the_command_tells_of_a_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = random.Random(5)
    texts = [sentence(rng) for _ in range(30)] + ["write to ann@example.org " + sentence(rng)] * 3
    rows(tmp_path / "a.csv", texts)
    data = "{source: csv, path: a.csv, column: text, context: 16, tokenizer: {kind: byte}, clean: {duplicates: exact}}"
    (tmp_path / "s.yaml").write_text(f"name: s\ntrial: {{data: {data}}}\n")
    told = CliRunner().invoke(app, ["data", "s.yaml"])
    assert told.exit_code == 0, told.output
    assert "training documents left out: " in told.output
    assert "duplicate" in told.output
    assert "data.mask: [email]" in " ".join(told.output.split())
    facts = json.loads(CliRunner().invoke(app, ["data", "s.yaml", "--json"]).output)
    assert facts["parts"]["training"]["documents"] + facts["left_out"]["duplicate"] == 27
    assert facts["overlap"] == {"val": 0.0, "test": 0.0}
    again = CliRunner().invoke(app, ["data", "s.yaml", "--set", "trial.data.mask=[email]"])
    assert "e-mail addresses: masked, 0 left" in again.output
