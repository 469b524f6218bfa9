"""Promotion as a person does it: a real small study, its best checkpoint judged, crowned, used and rolled back."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from commands import STUDY, TUNER, run
from small_study import finished

from tuner.tracking.store import connect

PROMPT = "the cat "


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> Path:
    """A folder with a finished study and no champion."""
    return finished(tmp_path_factory.mktemp("study"), text_file)


@pytest.fixture(scope="module")
def crowned(done: Path) -> Path:
    """The same folder with its best trial promoted."""
    ended = run(done, *TUNER, "promote", "small", "--best", "--reason", "first", TUNER_ACTOR="ann@desk")
    assert ended.returncode == 0, ended.stderr
    assert "tiny version 1 is champion now" in ended.stdout
    return done


def worst(folder: Path) -> int:
    listed = json.loads(run(folder, *TUNER, "trials", "small", "--json").stdout)
    return int(max(listed, key=lambda trial: trial["value"])["number"])


@pytest.mark.long
def test_a_dry_run_judges_and_writes_nothing(done: Path) -> None:
    ended = run(done, *TUNER, "promote", "small", str(worst(done)), "--dry-run")
    assert ended.returncode == 0, ended.stderr
    assert "test loss" in ended.stdout
    assert "nothing was written" in ended.stdout
    assert run(done, *TUNER, "history", "tiny").returncode == 6
    assert not list((done / "runs" / "small").glob("*/promoted"))


@pytest.mark.long
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["small", "--best"], "never moved without a reason"),
        (["small", "--reason", "x"], "exactly one of: a TRIAL, --best"),
        (["small", "1", "--best", "--reason", "x"], "exactly one of: a TRIAL, --best"),
        (["small", "99", "--reason", "x"], "no trial 99"),
        (["smal", "--best", "--reason", "x"], "Did you mean 'small'?"),
    ],
)
def test_mistakes_are_sentences(done: Path, words: list[str], said: str) -> None:
    ended = run(done, *TUNER, "promote", *words)
    assert ended.returncode in (2, 3, 6)
    assert said in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr


@pytest.mark.long
def test_the_champion_generates_and_scores_in_a_fresh_process_without_pickle(crowned: Path) -> None:
    code = f"""
import json, mlflow
model = mlflow.pyfunc.load_model("models:/tiny@champion")
text = model.predict([{{"prompt": "{PROMPT}"}}], params={{"max_tokens": 40, "seed": 5}})[0]["text"]
score = model.predict([{{"text": "the cat sat on a mat."}}])[0]
print(json.dumps([text, score]))
"""
    ended = run(crowned, sys.executable, "-W", "ignore", "-c", code, MLFLOW_ALLOW_PICKLE_DESERIALIZATION="false")
    assert ended.returncode == 0, ended.stderr
    text, score = json.loads(ended.stdout.splitlines()[-1])
    for name in ("tiny", "tiny:1"):
        words = ["generate", name, "--prompt", PROMPT, "--max-tokens", "40", "--seed", "5"]
        assert run(crowned, *TUNER, *words).stdout == PROMPT + text + "\n"
    (crowned / "line.txt").write_bytes(b"the cat\r\nsat.")
    told = json.loads(run(crowned, *TUNER, "evaluate", "tiny", "line.txt", "--json").stdout)
    assert told["bytes"] == 13, "its line ends as they are"
    (crowned / "line.txt").write_text("the cat sat on a mat.")
    told = json.loads(run(crowned, *TUNER, "evaluate", "tiny", "line.txt", "--json").stdout)
    assert told["loss"] == pytest.approx(score["loss"], rel=1e-6)
    assert told["bits_per_byte"] == pytest.approx(score["bits_per_byte"], rel=1e-6)
    assert not list(crowned.glob("mlruns/**/*.pkl")) + list(crowned.glob("mlruns/**/*.pt"))


@pytest.mark.long
def test_an_exported_folder_stands_alone(crowned: Path, tmp_path: Path) -> None:
    ended = run(crowned, *TUNER, "export", "tiny", tmp_path / "out")
    assert ended.returncode == 0, ended.stderr
    card = (tmp_path / "out" / "README.md").read_text()
    for words in (
        "# tiny",
        "12k tokens",
        "Gates",
        "test loss",
        "Limits",
        "grid" if "grid" in card else "optim.muon.lr",
    ):
        assert words in card
    moved = shutil.copytree(tmp_path / "out", tmp_path / "elsewhere" / "model")
    words = ["generate", moved, "--prompt", PROMPT, "--max-tokens", "20"]
    assert run(tmp_path, *TUNER, *words).stdout == run(crowned, *TUNER, "generate", "tiny", *words[2:]).stdout
    assert run(crowned, *TUNER, "export", "tiny", tmp_path / "out").returncode == 6


@pytest.mark.long
def test_the_same_again_writes_nothing(crowned: Path) -> None:
    before = run(crowned, *TUNER, "history", "tiny", "--json").stdout
    ended = run(crowned, *TUNER, "promote", "small", "--best", "--reason", "again")
    assert ended.returncode == 0, ended.stderr
    assert "champion already" in ended.stdout
    assert run(crowned, *TUNER, "history", "tiny", "--json").stdout == before


@pytest.mark.long
def test_a_candidate_within_noise_is_a_tie(crowned: Path) -> None:
    listed = json.loads(run(crowned, *TUNER, "trials", "small", "--json").stdout)
    ended = run(crowned, *TUNER, "promote", "small", str(listed[1]["number"]), "--reason", "why not")
    assert ended.returncode == 6
    assert "a tie" in " ".join(ended.stdout.split())
    assert "closed gates: better" in " ".join(ended.stderr.split())


@pytest.mark.long
def test_a_flipped_byte_is_refused_even_with_an_override(crowned: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(crowned, tmp_path / "copy", symlinks=True))
    number = worst(folder)
    (weights,) = (folder / "runs" / "small" / str(number)).glob("checkpoints/*/model.safetensors")
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(bytes(data))
    ended = run(folder, *TUNER, "promote", "small", str(number), "--reason", "x", "--override")
    assert ended.returncode == 6
    assert "damaged" in ended.stdout
    assert "closed gates: checkpoint" in " ".join(ended.stderr.split())


@pytest.mark.long
def test_an_override_stays_marked_and_a_rollback_returns(crowned: Path, tmp_path: Path) -> None:
    number = worst(crowned)
    assert run(crowned, *TUNER, "promote", "small", str(number), "--override").returncode == 6  # no reason
    ended = run(crowned, *TUNER, "promote", "small", str(number), "--override", "--reason", "a demo", "--as", "bob")
    assert ended.returncode == 0, ended.stderr
    back = run(crowned, *TUNER, "rollback", "tiny", "--reason", "it was a demo")
    assert back.returncode == 0, back.stderr
    assert "version 1 is champion again" in back.stdout
    rows = json.loads(run(crowned, *TUNER, "history", "tiny", "--json").stdout)
    done = [(row["actor"], row["action"], row["after"]) for row in rows if row["stage"] == "done"]
    assert done[0] == ("ann@desk", "promote", 1)
    assert done[1] == ("bob", "promote", 2)
    assert done[2][1:] == ("rollback", 1)
    begun = [row for row in rows if row["stage"] == "begun"]
    assert [row["overridden"] for row in begun] == [[], ["better"], []]
    assert {answer["gate"] for answer in begun[1]["answers"]} >= {"better", "checkpoint", "sample"}
    assert "OVERRIDDEN" in " ".join(run(crowned, *TUNER, "history", "tiny").stdout.split())
    assert "tiny version 1" in run(crowned, *TUNER, "champion", "tiny").stdout
    assert run(crowned, *TUNER, "rollback", "tiny", "--to", "1", "--reason", "x").returncode == 6
    assert run(crowned, *TUNER, "rollback", "tiny", "--to", "9", "--reason", "x").returncode == 6
    assert run(crowned, *TUNER, "promote", "tiny", "--resume").returncode == 0
    again = (*TUNER, "promote", "small", str(number), "--override", "--reason", "once more")
    assert "was champion before, as version 2" in " ".join(run(crowned, *again).stderr.split())
    connect(f"sqlite:///{crowned}/mlflow.db").delete_model_version("tiny", "2")
    assert "version 3 is champion now" in run(crowned, *again).stdout
    assert run(crowned, *TUNER, "rollback", "tiny", "--reason", "enough").returncode == 0


@pytest.mark.long
def test_a_promoted_checkpoint_survives_retention(crowned: Path) -> None:
    held = [path.parent for path in (crowned / "runs" / "small").glob("*/promoted")]
    assert held
    ended = run(crowned, *STUDY, "--set", "study.trials=4", "--set", "study.keep=1", "--set", "study.sampler=random")
    assert ended.returncode == 0, ended.stderr
    kept = {path.parent.parent.parent for path in (crowned / "runs" / "small").glob("*/checkpoints/*/manifest.json")}
    assert set(held) <= kept
    assert len(kept) <= len(held) + 1


@pytest.mark.slow
def test_the_champion_is_served(crowned: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["-m", "mlflow", "models", "serve", "-m", "models:/tiny@champion", "--env-manager", "local"]
    with (crowned / "serve.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, *words, "-h", "127.0.0.1", "-p", str(port)],
            cwd=crowned, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        body = json.dumps({"dataframe_records": [{"prompt": PROMPT}], "params": {"max_tokens": 40, "seed": 5}})
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations", body.encode(), {"Content-Type": "application/json"}
        )
        answer = None
        for _ in range(120):
            try:
                answer = json.loads(urllib.request.urlopen(request, timeout=20).read())
                break
            except OSError:
                time.sleep(0.5)
        assert answer is not None, (crowned / "serve.log").read_text()[-2000:]
    finally:
        os.killpg(server.pid, 15)
        server.wait(30)
    words = ["generate", "tiny", "--prompt", PROMPT, "--max-tokens", "40", "--seed", "5"]
    assert run(crowned, *TUNER, *words).stdout == PROMPT + answer["predictions"][0]["text"] + "\n"
