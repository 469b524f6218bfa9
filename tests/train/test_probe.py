"""The probe: what is written is left alone, what is auto is tried once a machine and shape; no number is disturbed."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tuner.spec.records import Measurement, Preparing, Started, State, Verdict
from tuner.spec.trial import TrialSpec
from tuner.train import checkpoint
from tuner.train.fit import Place, fit
from tuner.train.machine.notes import Note
from tuner.train.machine.probe import CAPACITY, FASTER, SHARE, choice, micro_batches, planned, question, settle
from tuner.train.model.memory import memory_bytes
from tuner.train.model.module import Setting

CPU = torch.device("cpu")
VOCAB = 40
LONG = 100_000  # steps


class Heard:
    """A link that keeps what is said, and wants the worker back after so many steps."""

    def __init__(self, leave_after: int = 10**9) -> None:
        self.left, self.said, self.facts = leave_after, list[str](), dict[str, Any]()

    def preparing(self, work: Preparing) -> None:
        self.said.append(work.task)

    def started(self, started: Started) -> None:
        self.facts = dict(started.facts)
        self.spec = started.spec

    def report(self, measurement: Measurement) -> Verdict:
        return Verdict.CONTINUE

    def interrupted(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def spec(text_file: Path) -> Callable[..., TrialSpec]:
    def build(**changes: Any) -> TrialSpec:
        base: dict[str, Any] = {
            "data": {"source": "text", "path": str(text_file), "tokenizer": {"kind": "char"}, "context": 16},
            "model": {"depth": 1, "width": 16},
            "batch": 8,
            "compile": False,
            "budget": "2560 tokens",  # 20 steps
        }
        return TrialSpec.model_validate(base | changes)

    return build


@pytest.fixture
def place(tmp_path: Path, text_file: Path) -> Callable[[str], Place]:
    return lambda name: Place(tmp_path / name, text_file.parent / "corpora", threads=1, notes=tmp_path / "notes")


def noted(spec: TrialSpec, notes: Path, times: dict[str, float], vocab: int = VOCAB) -> Note:
    notes.mkdir(exist_ok=True)
    note = Note(notes, spec, vocab, 1, CPU)
    note.write(times)
    return note


def weights(place: Place) -> dict[str, torch.Tensor]:
    return checkpoint.sound(place.folder)[0].weights()


def test_what_is_written_is_taken_as_it_is(spec: Any, tmp_path: Path) -> None:
    said: list[str] = []
    trial = spec(precision="bf16", accumulate=2)
    noted(trial, tmp_path / "notes", {"fp32": 1.0, "bf16": 9.0})
    setting = settle(trial, VOCAB, LONG, CPU, tmp_path / "notes", said.append)
    assert setting == Setting("bf16", False, 2)
    assert said == []


def test_a_short_trial_is_not_delayed(spec: Any, tmp_path: Path) -> None:
    said: list[str] = []
    setting = settle(spec(compile="auto"), VOCAB, 100, CPU, tmp_path / "notes", said.append)
    assert (setting.precision, setting.compile, setting.accumulate) == ("fp32", False, 1)
    assert said == []
    assert not (tmp_path / "notes").exists()


def test_a_long_trial_is_tried_once_and_its_note_is_reused(spec: Any, tmp_path: Path) -> None:
    said: list[str] = []
    first = settle(spec(), VOCAB, LONG, CPU, tmp_path / "notes", said.append)
    (path,) = (tmp_path / "notes").glob("*.json")
    before = path.read_bytes()
    times = Note(tmp_path / "notes", spec(), VOCAB, 1, CPU).read()
    assert set(times) == {"fp32", "bf16"}
    assert first.precision == ("bf16" if times["fp32"] >= FASTER * times["bf16"] else "fp32")
    again = settle(spec(), VOCAB, LONG, CPU, tmp_path / "notes", said.append)
    assert again == first
    assert said == [first.why, first.why]
    assert path.read_bytes() == before


def test_a_note_decides_for_short_trials_too(spec: Any, tmp_path: Path) -> None:
    noted(spec(), tmp_path / "notes", {"fp32": 1.0, "bf16": 0.5})
    assert settle(spec(), VOCAB, 20, CPU, tmp_path / "notes", lambda why: None).precision == "bf16"
    other = spec(model={"depth": 1, "width": 32})
    assert settle(other, VOCAB, 20, CPU, tmp_path / "notes", lambda why: None).precision == "fp32"


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"seconds": 3}', '{"seconds": {"fp32": -1}}', '{"seconds": {"fp32": NaN}}', "\0\0\0"]
)
def test_a_damaged_note_is_ignored_and_rewritten(spec: Any, tmp_path: Path, damage: str) -> None:
    note = noted(spec(), tmp_path / "notes", {"fp32": 1.0, "bf16": 0.5})
    note.path.write_text(damage)
    assert settle(spec(), VOCAB, 20, CPU, tmp_path / "notes", lambda why: None).precision == "fp32"
    settle(spec(), VOCAB, LONG, CPU, tmp_path / "notes", lambda why: None)
    assert set(note.read()) == {"fp32", "bf16"}


def test_trials_of_one_shape_that_start_together_choose_the_same(spec: Any, tmp_path: Path) -> None:
    found: list[Setting] = []

    def start() -> None:
        found.append(settle(spec(), VOCAB, LONG, CPU, tmp_path / "notes", lambda why: None))

    threads = [threading.Thread(target=start) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert len(set(found)) == 1
    assert not [path for path in (tmp_path / "notes").iterdir() if path.suffix not in (".json", ".lock")]


def test_a_probe_changes_no_number_of_the_trial(spec: Any, place: Any) -> None:
    """Five steps of a trial of 100,000, whose beginning is worth a probe, with dropout."""
    long = {"budget": f"{LONG * 8 * 16} tokens", "model": {"depth": 1, "width": 16, "dropout": 0.2}}
    probed = Heard(leave_after=4)
    assert fit(spec(**long), 4, place("probed"), probed).state is State.INTERRUPTED
    assert any("x" in sentence for sentence in probed.said)
    plain = Heard(leave_after=4)
    concrete = {"precision": probed.facts["precision"], "accumulate": probed.facts["accumulate"]}
    assert fit(spec(**long, **concrete), 4, place("plain"), plain).state is State.INTERRUPTED
    assert not any("x" in sentence for sentence in plain.said)
    before, after = weights(place("plain")), weights(place("probed"))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_resumed_trial_keeps_what_it_began_with(spec: Any, place: Any) -> None:
    began = Heard(leave_after=10)
    fit(spec(), 4, place("fresh"), began)  # to learn the vocabulary
    notes, vocab = place("cut").notes, began.facts["vocab"]
    noted(spec(), notes, {"fp32": 1.0, "bf16": 0.1}, vocab)
    whole, cut, rest = Heard(), Heard(leave_after=10), Heard()
    fit(spec(), 4, place("whole"), whole)
    assert fit(spec(), 4, place("cut"), cut).state is State.INTERRUPTED
    noted(spec(), notes, {"fp32": 0.1, "bf16": 1.0}, vocab)
    assert fit(spec(), 4, place("cut"), rest).state is State.COMPLETE
    assert [heard.facts["precision"] for heard in (began, whole, cut, rest)] == ["fp32", "bf16", "bf16", "bf16"]
    assert rest.spec["precision"] == "auto"
    before, after = weights(place("whole")), weights(place("cut"))
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.fixture
def no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The real torch.compile, which finds no C++ compiler."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    import torch._inductor.config as inductor

    with inductor.patch({"cpp.cxx": ("/nowhere/g++",), "compile_threads": 1}):
        yield


@pytest.mark.usefixtures("no_compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, when it imports its compiler
def test_without_a_compiler_a_trial_runs_plain(spec: Any, tmp_path: Path) -> None:
    trial = spec(precision="fp32", compile="auto")
    noted(trial, tmp_path / "notes", {"fp32": 1.0})  # 100,000 s: compiling would pay
    said: list[str] = []
    assert not settle(trial, VOCAB, LONG, CPU, tmp_path / "notes", said.append).compile
    assert "not compiled" in said[0]
    assert "C++ compiler" in said[0]


@pytest.mark.usefixtures("no_compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_without_a_compiler_a_trial_told_to_compile_fails(spec: Any, place: Any) -> None:
    with pytest.raises(Exception, match="compiler"):
        fit(spec(precision="fp32", compile=True), 4, place("told"), Heard())


times = st.dictionaries(
    st.sampled_from(["fp32", "bf16", "fp32 compiled", "bf16 compiled"]), st.floats(1e-4, 10), max_size=4
)
asked = st.fixed_dictionaries(
    {"precision": st.sampled_from(["auto", "fp32", "bf16"]), "compile": st.sampled_from(["auto", True, False])}
)


@given(asked=asked, known=times)
def test_the_choice_is_never_slower_than_plain_and_never_other_than_written(
    asked: dict[str, Any], known: dict[str, float]
) -> None:
    trial = TrialSpec.model_validate(asked)
    way = choice(trial, known)
    if asked["precision"] != "auto":
        assert way.precision == asked["precision"]
    if asked["compile"] != "auto":
        assert way.compiled is asked["compile"]
    plain = asked["precision"] if asked["precision"] != "auto" else "fp32"
    if asked["compile"] == "auto" and str(way) != plain:
        assert known[str(way)] * FASTER <= known[plain] * (1 + 1e-9)


@given(asked=asked, steps=st.integers(1, 10**6), truth=st.lists(st.floats(1e-4, 10), min_size=4, max_size=4))
def test_questions_end_and_cost_little(asked: dict[str, Any], steps: int, truth: list[float]) -> None:
    names = ["fp32", "bf16", "fp32 compiled", "bf16 compiled"]
    trial, known, comparisons = TrialSpec.model_validate(asked), dict[str, float](), 0
    while ways := question(trial, steps, known):
        before = len(known)
        if len(ways) > 1 and not ways[1].compiled:
            assert SHARE * planned(trial, steps, known) >= 10 * known[str(ways[0])]
        known |= {str(way): truth[names.index(str(way))] for way in ways}
        comparisons += 1
        assert len(known) > before
    assert comparisons <= 3
    if "auto" not in asked.values():
        assert comparisons == 0


@given(batch=st.integers(1, 512), share=st.floats(0.01, 4))
def test_the_fewest_micro_batches_that_fit(batch: int, share: float) -> None:
    trial = TrialSpec.model_validate({"batch": batch, "model": {"depth": 2, "width": 64}})
    free = int(share * memory_bytes(trial, VOCAB))
    parts = micro_batches(trial, VOCAB, free)
    assert all(batch % part == 0 for part in parts)
    assert parts == sorted(parts)

    def fits(part: int) -> bool:
        return memory_bytes(trial.model_copy(update={"accumulate": part}), VOCAB) <= CAPACITY * free

    fewer = [part for part in range(1, parts[0]) if batch % part == 0]
    assert not any(fits(part) for part in fewer)
    assert fits(parts[0]) or parts == [batch]


def test_memory_decides_how_many_micro_batches_a_step_has(spec: Any, tmp_path: Path) -> None:
    """The real question to this machine: a batch whose activations take far more than it has."""
    trial = spec(batch=2**22, model={"depth": 4, "width": 512}, precision="fp32")
    setting = settle(trial, VOCAB, 20, CPU, tmp_path / "notes", lambda why: None)
    assert setting.accumulate > 1
    assert math.log2(setting.accumulate).is_integer()
    assert "micro-batches" in setting.why


def test_settings_compare_by_what_they_do() -> None:
    assert replace(Setting("fp32", False, 1), why="measured") == Setting("fp32", False, 1)
