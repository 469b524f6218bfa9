"""A study of classifiers, from the YAML to the registered model: commands as a person types them, and its page."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest
import small_study
from commands import STUDY, TUNER, run

from tuner.spec.errors import SpecError
from tuner.spec.load import parse

YAML = """
name: kinds
trial:
  task: classify
  init: {init}
  data: {{source: csv, path: texts.csv, column: text, label: kind, split: [0.6, 0.2, 0.2], overlap: 1,
    auxiliary: {{number: {{label: even}}}}}}
  batch: 8
  budget: 10k tokens
space:
  optim.lr: {{choice: [0.001, 0.003]}}
  classify.weights: {{choice: [none, balanced]}}
  data.auxiliary.number.weight: {{choice: [0.1, 1.0]}}
study: {{trials: 2, milestones: 2, metric: val_error, sampler: random, pruner: none, workers: 2}}
promotion: {{model: kinds}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> Path:
    """With the text model ``small/1``, and a classifier's study that began with it."""
    folder = small_study.finished(tmp_path_factory.mktemp("kinds"), text_file)
    with (folder / "texts.csv").open("w", newline="") as file:
        kinds = (("a", "cat sat"), ("b", "bird flies"))
        rows = [(kind, f"the {word} {n}", n % 2 == 0) for n in range(60) for kind, word in kinds]
        csv.writer(file).writerows([("kind", "text", "even"), *rows])
    (folder / "kinds.yaml").write_text(YAML.format(init="small/1"))
    ended = run(folder, *STUDY[:-1], "kinds.yaml")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "val_error" in ended.stdout
    return folder


@pytest.mark.long
def test_it_is_promoted_and_names_texts(folder: Path) -> None:
    ended = run(folder, *TUNER, "promote", "kinds", "--best", "--reason", "first")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    ended = run(folder, *TUNER, "classify", "kinds", "the cat sat 3", "the bird flies 7", "--json")
    told = json.loads(ended.stdout)
    assert [one["label"] for one in told] == ["a", "b"]
    assert all(one["auxiliary"]["number"]["probabilities"].keys() == {"False", "True"} for one in told)
    shown = run(folder, *TUNER, "classify", "kinds", "the cat sat 3").stdout
    assert shown.startswith("the cat sat 3: a ")
    assert "; number " in shown
    told = " ".join(run(folder, *TUNER, "data", "kinds.yaml").stdout.split())
    assert "kind, 2 classes in training: a 36, b 36" in told
    assert "even, 2 classes in training" in told
    assert run(folder, *TUNER, "generate", "kinds").stderr.count("is a classifier") == 1
    assert run(folder, *TUNER, "export", "kinds", "card").returncode == 0
    card = (folder / "card" / "README.md").read_text()
    for words in (
        "| classes | a, b |",
        "also told: number | False, True",
        "accuracy on the test part",
        "Losses (nats a text)",
        "-> a (",
        "label kind",
    ):
        assert words in card
    predict = (
        "import mlflow; model = mlflow.pyfunc.load_model('models:/kinds@champion');"
        "told = model.predict([{'text': 'the bird flies 5'}])[0];"
        "print(told['auxiliary']['number']['label'] in ('True', 'False'), told['label'])"
    )
    (folder / "predict.py").write_text(predict)
    ended = run(folder, sys.executable, "predict.py", MLFLOW_TRACKING_URI="sqlite:///mlflow.db")
    assert ended.stdout.split()[-2:] == ["True", "b"], ended.stderr
    (folder / "back.yaml").write_text("name: back\ntrial: {init: kinds/0, data: {source: stdlib}}")
    ended = run(folder, *STUDY[:-1], "back.yaml", "--dry-run")
    assert ended.returncode == 2
    assert "kinds/0 is a classifier and cannot go on with a text" in " ".join(ended.stderr.split())


@pytest.mark.long
def test_its_page_shows_what_was_taken_for_what(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from streamlit.testing.v1 import AppTest

    monkeypatch.chdir(folder)
    app = AppTest.from_file(str(Path(__file__).parents[2] / "app" / "main.py"), default_timeout=30).run()
    app.query_params["study"], app.query_params["trial"] = "kinds", "0"
    app.switch_page("views/trial.py").run()
    assert not app.exception
    said = " ".join(one.value for one in [*app.subheader, *app.caption])
    assert "What it took for what" in said
    assert "validation texts are known" in said
    assert "How it does on each class" in said
    assert "How it does on its auxiliary labels" in said
    assert "What it wrote" not in said


@pytest.mark.long
def test_its_report_tells_each_class(folder: Path) -> None:
    ended = run(folder, *TUNER, "report", "kinds", "--html", "kinds.html")
    assert ended.returncode == 0, ended.stderr
    written = (folder / "kinds.html").read_text()
    for words in ("How it does on each class", "validation texts are known at 10k tokens", "<th", "number: accuracy "):
        assert words in written
    assert "What it wrote" not in written


def test_wrong_yamls_are_sentences() -> None:
    good = YAML.format(init="small/1")
    wrong = {
        "task classify needs data.label": (
            "label: kind, split: [0.6, 0.2, 0.2], overlap: 1,\n    auxiliary: {number: {label: even}}",
            "split: [0.6, 0.2, 0.2]",
        ),
        "data.label is kind, and task generate has no use for it": ("  task: classify\n", ""),
        "label does not belong to source text": ("csv, path: texts.csv, column: text", "text, path: texts.csv"),
        "label and column are both kind": ("column: text", "column: kind"),
        "task classify has no val_bpb; it is one of val_loss, val_error": ("metric: val_error", "metric: val_bpb"),
        "task classify with strategy fsdp is not supported": ("batch: 8", "batch: 8\n  devices: 2\n  strategy: fsdp"),
        "task classify with optim.distil is not supported": ("batch: 8", "batch: 8\n  optim: {distil: {weight: 0.5}}"),
        "windows: random is for a text that is cut": ("label: kind", "label: kind, windows: random"),
        "data.auxiliary.numbr.weight means nothing here: trial.data.auxiliary has number": ("number.w", "numbr.w"),
        "auxiliary is for texts with a label": ("label: kind, ", ""),
        "task may not be searched": ("classify.weights: {choice: [none, balanced]}", "task: {choice: [classify]}"),
        "'balanced', got 'balancd'. Did you mean 'balanced'?": ("balanced]", "balancd]"),
    }
    for sentence, (old, new) in wrong.items():
        with pytest.raises(SpecError) as caught:
            parse(good.replace(old, new))
        assert sentence in str(caught.value)
    with pytest.raises(SpecError, match="classify is for task: classify"):
        parse("name: a\ntrial: {classify: {pool: mean}}")
    with pytest.raises(SpecError, match="task generate has no val_error"):
        parse("name: a\nstudy: {metric: val_error}")
