"""``tuner compress``: a study of what a trained model can be made into, and the table of before and after.
The search is that of any study; how small a model is, is measured by the trainer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import cast

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tuner.analysis import words
from tuner.run.folder import pins
from tuner.run.hands.link import WeighJob
from tuner.run.hands.once import call
from tuner.search.history import StudyRecord, read_study
from tuner.search.store.storage import open_storage
from tuner.search.store.url import storage_url
from tuner.spec.errors import PromotionError, SpecError, StoreError, TunerError
from tuner.spec.load import load, parse
from tuner.spec.records import Weighed
from tuner.spec.study import StudySpec
from tuner.spec.trial import TrialSpec
from tuner.study.command import RUNS, run_study
from tuner.study.compress.space import compress_yaml
from tuner.study.prepare import ancestry

SHOWN = 400
"""Characters of what a model has written, or of a text and what it took that for."""


def compress(model: str, file: Path | None, overrides: list[str], storage: str | None, dry_run: bool) -> int:
    """Search what ``model`` can be made into, as ``file`` says, or as a file says that is written for it; the exit code
    of the study.

    Raises:
        TunerError: with a sentence and its own exit code.
    """
    console = Console()
    overrides = [*overrides, f"trial.init.source={json.dumps(model)}"]
    if file is None:
        file = _written(console, model, storage, dry_run)
    spec = load(file, overrides)
    _require_unchanged(spec, model, storage)
    if spec.trial.task == "classify":
        _require_classifier(spec, storage)
    code = run_study(file, overrides, storage, dry_run)
    if code == 0 and not dry_run:
        record = read_study(open_storage(storage_url(storage, spec.study.storage)), spec.name)
        print_compressed(console, record, spec)
    return code


def _written(console: Console, model: str, storage: str | None, dry_run: bool) -> Path:
    """The YAML of the study of this model, which is not written again where it is there; a dry run keeps no copy of the
    model.
    """
    name = "compress-" + re.sub(r"[^A-Za-z0-9]+", "-", model.removeprefix("models:/")).strip("-").lower()[:40]
    file = Path(f"{name}.yaml")
    if not file.exists():
        asked = parse(f"name: {name}\ntrial: {{init: {{source: {json.dumps(model)}}}}}")
        ancestor = ancestry(RUNS, storage, keep=not dry_run)(asked)
        record = json.loads((Path(ancestor.folder) / "spec.json").read_text(encoding="utf-8"))
        if "data_fingerprint" not in record["facts"]:
            raise SpecError(
                f"{model} was trained elsewhere, on a text not known here; write a YAML, give it as --yaml."
            )
        file.write_text(compress_yaml(name, model, TrialSpec.model_validate(record["trial"])), encoding="utf-8")
        console.print(Text(f"the study is written to {file}"))
    return file


def _require_unchanged(spec: StudySpec, model: str, storage: str | None) -> None:
    """What is compressed is what ``model`` means now, not the champion of when the study of this name began."""
    began = pins(RUNS / spec.name).get(model)
    if began is None:
        return
    with suppress(PromotionError, StoreError):  # where nobody can say what it means now, it is as it was
        if ancestry(RUNS, storage, keep=False, pinned=False)(spec).sha256 != began:
            raise SpecError(
                f"{model} is another model than when the study '{spec.name}' began; for the present one begin another: "
                f"--set name={spec.name}-2."
            )


def _require_classifier(spec: StudySpec, storage: str | None) -> None:
    if not ancestry(RUNS, storage, keep=False)(spec).classes:
        source = spec.trial.init.source
        raise SpecError(
            f"{source} goes on with texts, so there is no classifier to make smaller; remove task: classify."
        )


def print_compressed(console: Console, record: StudyRecord, spec: StudySpec) -> None:
    """The model as it was, and the trials that are beaten by none in loss and in what the study weighs, or bytes: all
    measured here, one after the other, by what their files hold.

    Raises:
        TunerError: the model as it was cannot be measured.
    """
    trial = TrialSpec.model_validate(record.spec["trial"])
    folders = {"before": Path(trial.init.folder or "")}
    for number in record.front(spec.study.against or "bytes"):
        folders[f"trial {number}"] = Path(str(record.find(number).facts.get("checkpoint")))
    gone = [name for name, folder in folders.items() if name != "before" and not folder.is_dir()]
    here = {name: folder for name, folder in folders.items() if name not in gone}
    answer = call(WeighJob(tuple(here.values()), trial.data, RUNS / ".corpora", spec.promotion.test_tokens))
    if isinstance(answer, TunerError):
        raise answer
    answers = dict(zip(here, cast(tuple[Weighed | TunerError, ...], answer), strict=True))
    if isinstance(before := answers["before"], TunerError):
        raise before
    weighed = {name: one for name, one in answers.items() if isinstance(one, Weighed)}
    console.print(table_of(record.metric, weighed))
    for name, one in answers.items():
        said = str(one) if isinstance(one, TunerError) else one.sample
        if said:
            console.print(Text(f"{name}: {' '.join(words.printable(said).split())[:SHOWN]}"), soft_wrap=True)
    if gone:
        console.print(Text(f"without a checkpoint, so not measured: {', '.join(gone)}"))
    if len(weighed) > 1:
        console.print(Text(f"promote one of them as any other: tuner promote {record.name} TRIAL"))


def table_of(metric: str, weighed: Mapping[str, Weighed]) -> Table:
    """Models by name, the first of which the others are held against."""
    before, *_ = weighed.values()
    table = Table(title="before and after", title_justify="left", box=None, pad_edge=False)
    tested = any(one.test_loss is not None for one in weighed.values())
    shown = ("", metric, "gap", *(("test",) if tested else ()), "file", "share", "params", "zeros", "tokens/s")
    for name in shown:
        table.add_column(name, justify="left" if not name else "right")
    for name, one in weighed.items():
        test = [] if not tested else ["" if one.test_loss is None else words.loss(one.test_loss)]
        table.add_row(
            name,
            words.loss(one.metrics[metric]),
            f"{one.metrics[metric] - before.metrics[metric]:+.3f}",
            *test,
            f"{one.bytes / 1e6:.2f} MB",
            f"{one.bytes / before.bytes:.0%}",
            words.count(one.parameters),
            f"{one.sparsity:.0%}",
            f"{1000 / one.latency_ms:,.0f}",
        )
    return table
