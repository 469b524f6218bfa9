"""Studies that begin with a trained model, from the YAML to the card: commands as a person types them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import small_study
from commands import STUDY, TUNER, run

pytestmark = pytest.mark.long

YAML = """
name: {name}
trial:
  init: {init}
  data: {{source: text, path: "{text}", val_tokens: 2048}}
  batch: 8
  budget: 4k tokens
space:
  optim.lr: {{choice: [0.001, 0.003]}}
  init.lora.rank: {{choice: [null, 2]}}
study: {{trials: 2, milestones: 2, sampler: random, pruner: none, workers: 2, samples: 0}}
"""


@pytest.fixture(scope="module")
def crowned(tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> Path:
    """A folder with the study ``small``, and the champion of its model ``tiny``."""
    folder = small_study.finished(tmp_path_factory.mktemp("begun"), text_file)
    ended = run(folder, *TUNER, "promote", "small", "--best", "--reason", "first")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return folder


def write(folder: Path, name: str, init: str, text: Path) -> str:
    (folder / f"{name}.yaml").write_text(YAML.format(name=name, init=init, text=text))
    return f"{name}.yaml"


def study(folder: Path, yaml: str, *words: str) -> tuple[int, str]:
    ended = run(folder, *STUDY[:-1], yaml, *words)
    return ended.returncode, " ".join((ended.stdout + ended.stderr).split())


def test_a_study_begins_with_the_champion_and_says_so_on_the_card(
    crowned: Path, text_file: Path, tmp_path: Path
) -> None:
    yaml = write(crowned, "more", "models:/tiny@champion", text_file)
    code, said = study(crowned, yaml, "--dry-run")
    assert code == 0, said
    assert "1 x 32" in said
    assert "begins with models:/tiny@champion, weights" in said
    assert not (crowned / "runs" / ".models").exists()
    code, said = study(crowned, yaml)
    assert code == 0, said
    trials = json.loads(run(crowned, *TUNER, "trials", "more", "--json").stdout)
    first = json.loads(run(crowned, *TUNER, "trials", "small", "--json").stdout)
    assert max(trial["value"] for trial in trials) < max(trial["value"] for trial in first)
    ended = run(crowned, *TUNER, "export", f"more/{trials[0]['number']}", tmp_path / "out")
    assert ended.returncode == 0, ended.stderr
    spec = json.loads((tmp_path / "out" / "spec.json").read_text())["trial"]
    assert spec["init"]["source"] == "models:/tiny@champion"
    assert (spec["model"]["width"], spec["data"]["context"]) == (32, 32)
    ended = run(crowned, *TUNER, "promote", "more", "--best", "--reason", "second")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert run(crowned, *TUNER, "export", "more", tmp_path / "card").returncode == 0
    card = (tmp_path / "card" / "README.md").read_text()
    assert "## Lineage" in card
    assert f"| its weights sha256 | {spec['init']['sha256']} |" in card


def test_a_study_goes_on_with_the_weights_it_began_with(crowned: Path, text_file: Path, tmp_path: Path) -> None:
    """Whoever is champion since, and even where the copy was lost."""
    folder = Path(shutil.copytree(crowned, tmp_path / "copy", symlinks=True))
    yaml = write(folder, "pinned", "tiny", text_file)
    assert study(folder, yaml)[0] == 0
    other = json.loads(run(folder, *TUNER, "trials", "small", "--json").stdout)[-1]["number"]
    words = ["promote", "small", str(other), "--override", "--reason", "another"]
    assert run(folder, *TUNER, *words).returncode == 0
    code, said = study(folder, yaml, "--set", "study.trials=3")
    assert code == 0, said
    assert len(json.loads(run(folder, *TUNER, "trials", "pinned", "--json").stdout)) == 3
    (copy,) = [path for path in (folder / "runs" / ".models").iterdir() if path.is_dir()]
    shutil.rmtree(copy)
    code, said = study(folder, yaml, "--set", "study.trials=4")
    assert code == 3, said
    assert "init.sha256" in said
    assert "before" in said


WRONG = [
    ("nobody@champion", (), 6, "no registered model 'nobody@champion'"),
    ("small/99", (), 3, "99"),
    ("small/0", ("--set", "trial.model.width=64"), 2, "width is decided by the weights of small/0, where it is 32"),
    ("small/0", ("--set", "trial.data.tokenizer.kind=byte"), 2, "tokenizer is decided by the weights of small/0"),
    ("small/0", ("--set", "space.model.depth={int: [1, 2]}"), 2, "begin with small/0, which decides it"),
    (
        "small/0",
        ("--set", "trial.init={source: small/0, freeze: 2}"),
        2,
        "init.freeze is 2, and the model has 1 layers",
    ),
    ("small/0", ("--set", "trial.init={freeze: 1}"), 2, "source is missing"),
    (
        "small/0",
        ("--set", f"trial.init={{source: small/0, sha256: {'0' * 64}}}"),
        2,
        "sha256 is decided by the weights",
    ),
    ("small/0", ("--set", "trial.init={source: small/0, lora: {rank: 0}}"), 2, "rank"),
    ("small/0", ("--set", "trial.init={source: small/0, lora: {alpha: -1}}"), 2, "alpha"),
    (
        "small/0",
        ("--set", "trial.init={source: small/0, take: part}", "--set", "trial.model.depth=2"),
        2,
        "1 layers to",
    ),
    (
        "small/0",
        ("--set", "trial.init={source: small/0, take: part}", "--set", "space.model.depth={int: [1, 2]}"),
        2,
        "is up to 2",
    ),
    ("small/0", ("--set", "trial.init={source: small/0, freeze: 1, lora: {rank: 2}}"), 2, "none to adapt"),
    ("small/0", ("--set", "trial.init={source: small/0, take: nothing}"), 2, "would change nothing"),
    ("small/0", ("--set", "trial.init={source: small/0, take: nothing, freeze: 1}"), 2, "no weights to freeze"),
    ("small/0", ("--set", "trial.optim.distil.weight=1.5"), 2, "distil.weight"),
    ("small/0", ("--set", "space.init.source={choice: [small/0, small/1]}"), 2, "begin with one model"),
]


@pytest.mark.parametrize(("init", "words", "code", "sentence"), WRONG, ids=[row[3][:40] for row in WRONG])
def test_what_contradicts_the_weights_is_said_before_training(
    crowned: Path, text_file: Path, init: str, words: tuple[str, ...], code: int, sentence: str
) -> None:
    got, said = study(crowned, write(crowned, "wrong", init, text_file), *words)
    assert sentence in said
    assert got == code
    assert "Traceback" not in said
    assert not (crowned / "runs" / "wrong").exists()
