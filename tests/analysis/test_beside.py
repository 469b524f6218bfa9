"""Trials beside each other: differences, deltas, whether they compare; curves and samples from real spools."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from analysis_helpers import YAML, study, trial

from tuner.analysis.study.frame import frame
from tuner.analysis.trials.compare import comparable, deltas, differences
from tuner.analysis.trials.curves import MOST, curves, samples
from tuner.spec.errors import StoreError
from tuner.spec.records import Measurement, Spent
from tuner.tracking.spool import Spool, Start

RECORD = study(
    trial(0, 2.0, facts={"parameters": 1000, "code_version": "a"}),
    trial(1, 1.9, batch=16, facts={"parameters": 1000, "code_version": "a"}),
    trial(2, state="pruned", milestones={1: 2.5}, facts={"parameters": 2000}, **{"model.width": 256}),
)


def test_only_what_differs_is_shown_base_first() -> None:
    table = differences(RECORD, [0, 1], base=1)
    assert list(table.columns) == ["path", "1", "0"]
    assert table.to_dict("records") == [{"path": "batch", "1": 16, "0": 8}]
    three = differences(RECORD, [0, 1, 2], base=0).set_index("path")
    assert list(three.index) == [
        "batch", "model.width", "state", "parameters", "tokens", "flops", "seconds", "code_version",
    ]  # fmt: skip
    assert three.loc["code_version"].to_list() == ["a", "a", None]
    assert differences(RECORD, [0], base=0).empty
    with pytest.raises(StoreError, match="no trial 7"):
        differences(RECORD, [7], base=0)


def test_deltas_are_against_the_base_at_each_milestone() -> None:
    table = deltas(frame(RECORD), base=0).set_index("number")
    assert table.loc[1, "value"] == pytest.approx(-0.1)
    assert table.loc[2, "m.1"] == pytest.approx(0.2)
    assert np.isnan(table.loc[2, "m.2"])
    assert (table.loc[0] == 0).all()
    with pytest.raises(StoreError, match="trial 9 is not among"):
        deltas(frame(RECORD), base=9)


def test_losses_on_other_data_do_not_compare() -> None:
    def marked(number: int, data: str, tokenizer: str) -> object:
        return trial(number, 2.0, facts={"data_fingerprint": data, "tokenizer_fingerprint": tokenizer})

    trials = [marked(0, "d1", "t1"), marked(1, "d1", "t1"), marked(2, "d2", "t1"), marked(3, "d3", "t2"), trial(4, 2.0)]
    record = study(*trials)  # type: ignore[arg-type]
    assert comparable(record, [0, 1, 4]) == comparable(record, []) == ""
    assert "trials 0 and 2 do not compare: they were trained on other data (d1 and d2)" in comparable(record, [0, 1, 2])
    assert "other tokenizers (t1 and t2)" in comparable(record, [0, 3])
    bytes_ = study(*trials, text=YAML.replace("milestones: 4", "milestones: 4, metric: val_bpb"))  # type: ignore[arg-type]
    assert comparable(bytes_, [0, 3]) == ""
    assert "other data" in comparable(bytes_, [0, 2])


def write(folder: Path, number: int, steps: int) -> None:
    """A real spool: a train loss each step, a validation and a text at every quarter."""
    spool = Spool(folder / "hand" / str(number) / "spool.jsonl")
    spool.append(Start(1, {}, {}, {}), durable=False)
    for step in range(1, steps + 1):
        spent = Spent(step, 10 * step, 1e6 * step, 0.5 * step)
        quarter = 4 * step // steps if 4 * step % steps == 0 else None
        losses = {"train_loss": 3.0 - step / steps} | ({"val_loss": 3.1 - step / steps} if quarter else {})
        texts = ("<b>to be</b>", "or not") if quarter else ()
        spool.append(Measurement(spent, losses, quarter, step, texts), durable=False)
    spool.close()


def test_curves_are_thinned_but_keep_validations_and_ends(tmp_path: Path) -> None:
    write(tmp_path, 0, 2000)
    table = curves(RECORD, [0, 0], tmp_path)
    assert len(table) == MOST
    assert table["step"].is_monotonic_increasing
    assert (table["step"].iloc[0], table["step"].iloc[-1]) == (1, 2000)
    assert table["val_loss"].notna().sum() == 4
    assert table["milestone"].dropna().to_list() == [1, 2, 3, 4]
    assert table["tokens"].iloc[-1] == 20_000


def test_without_a_spool_the_milestones_are_the_curve(tmp_path: Path) -> None:
    table = curves(RECORD, [2, 0], tmp_path)
    assert table["number"].to_list() == [2, 0, 0, 0, 0]
    assert table["val_loss"].to_list() == pytest.approx([2.5, 2.3, 2.2, 2.1, 2.0])
    assert table["tokens"].to_list() == [100_000, 100_000, 200_000, 300_000, 400_000]
    assert table["train_loss"].isna().all()
    assert curves(RECORD, [], tmp_path).empty
    with pytest.raises(StoreError, match="no trial 9"):
        curves(RECORD, [9], tmp_path)


def test_samples_come_as_they_were_written(tmp_path: Path) -> None:
    write(tmp_path, 1, 40)
    table = samples(RECORD, 1, tmp_path)
    assert table["milestone"].to_list() == [1, 1, 2, 2, 3, 3, 4, 4]
    assert table["index"].to_list() == [0, 1] * 4
    assert table["text"][0] == "<b>to be</b>"
    assert samples(RECORD, 0, tmp_path).empty
