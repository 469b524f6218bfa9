"""The gates: pure judgements of a candidate on its evidence, each pass, fail or could not run, with a sentence.
They read no file and ask no registry; what blocks, and what can be overridden, is said here too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from tuner.promotion.candidate import Candidate
from tuner.promotion.noise import Seeds, fair_gain, needed
from tuner.search.repeats import deviation
from tuner.spec.budget import size_text
from tuner.spec.parts.promotion import PromotionSettings
from tuner.spec.parts.settings import METRICS
from tuner.spec.records import Evidence, judged_by


class Result(StrEnum):
    PASS = "pass"
    FAIL = "fail"
    COULD_NOT_RUN = "could not run"


@dataclass(frozen=True)
class Answer:
    """What one gate says; anything but PASS blocks."""

    gate: str
    result: Result
    sentence: str


@dataclass(frozen=True)
class Champion:
    """The reigning model: its version and the record it was promoted by (None: made outside this platform)."""

    version: int
    candidate: Candidate | None


@dataclass(frozen=True)
class Case:
    """All that a gate may look at."""

    candidate: Candidate
    evidence: Evidence
    champion: Champion | None
    settings: PromotionSettings


Said = tuple[Result, str]
PASS, FAIL, COULD_NOT_RUN = Result.PASS, Result.FAIL, Result.COULD_NOT_RUN


def judge(case: Case) -> list[Answer]:
    """Every gate's answer, in order."""
    return [Answer(name, *gate(case)) for name, gate in GATES.items()]


def blocking(answers: list[Answer], overridden: bool) -> list[Answer]:
    """What stands in the way; an override opens every gate but those that a broken model would pass by."""
    closed = [answer for answer in answers if answer.result is not Result.PASS]
    return [answer for answer in closed if not overridden or answer.gate in ABSOLUTE]


def _complete(case: Case) -> Said:
    one = case.candidate
    if one.state != "complete":
        return FAIL, f"trial {one.trial} is {one.state}; only a trial that spent its whole budget is promoted"
    if one.value is None or not math.isfinite(one.value):
        return FAIL, f"trial {one.trial} ended with {one.metric} {one.value}, no finite value"
    if one.run is None:
        return COULD_NOT_RUN, f"trial {one.trial} has no MLflow run yet; run `tuner sync {one.study}`"
    return PASS, f"trial {one.trial} spent {one.spent}, {one.metric} {one.value:.4g}"


def _checkpoint(case: Case) -> Said:
    one, seen = case.candidate, case.evidence
    if one.checkpoint is None or one.sha256 is None:
        return FAIL, f"trial {one.trial} has no checkpoint (kept are the best, see study.keep)"
    if sentence := seen.failures.get("checkpoint"):
        return FAIL, sentence
    if seen.sha256 != one.sha256:
        return FAIL, f"the weights' sha256 is {_short(seen.sha256)}, the trial recorded {_short(one.sha256)}"
    return PASS, f"every file matches its checksum; weights {_short(one.sha256)}"


def _loads(case: Case) -> Said:
    if sentence := case.evidence.failures.get("loads"):
        return FAIL, sentence
    if case.evidence.parameters is None:
        return COULD_NOT_RUN, "without a sound checkpoint there is nothing to load"
    return PASS, f"{case.evidence.parameters:,} parameters, without pickle"


def _reproduces(case: Case) -> Said:
    seen, tolerance = case.evidence, case.settings.tolerance
    if seen.val_loss is None or seen.recorded is None:
        return COULD_NOT_RUN, seen.failures.get("reproduces", "the checkpoint could not be evaluated again")
    off = abs(seen.val_loss - seen.recorded)
    said = f"validation loss {seen.val_loss:.5f} again, {seen.recorded:.5f} recorded"
    if not off <= tolerance:
        return FAIL, f"{said}: {off:.2g} apart, at most {tolerance:g} is allowed"
    return PASS, said


def _comparable(case: Case) -> Said:
    if case.champion is None:
        return PASS, "there is no champion yet"
    other, version = case.champion.candidate, case.champion.version
    if other is None:
        return COULD_NOT_RUN, f"version {version} was not promoted by tuner: its data and budget are unknown"
    mine, theirs = _terms(case.candidate), _terms(other)
    differing = [f"{name} ({mine[name]}, champion {theirs[name]})" for name in mine if mine[name] != theirs[name]]
    if differing:
        return FAIL, f"not comparable with version {version}: another {', another '.join(differing)}"
    return PASS, f"same data, tokenizer and budget as version {version}"


def _terms(candidate: Candidate) -> dict[str, object]:
    return {
        "text": judged_by(candidate.facts),
        "tokenizer": candidate.facts.get("tokenizer_fingerprint"),
        "budget": candidate.budget,
    }


def _better(case: Case) -> Said:
    one, seen, confidence = case.candidate, case.evidence, case.settings.confidence
    if seen.test_loss is None or seen.test_error is None:
        return COULD_NOT_RUN, seen.failures.get("test", "the test part could not be evaluated")
    if not math.isfinite(seen.test_loss):
        return FAIL, f"the test loss is {seen.test_loss}, no finite value"
    if not math.isfinite(seen.test_error):
        return COULD_NOT_RUN, f"the test part has {seen.test_windows} window, too few to tell how far its loss scatters"
    own = f"test loss {seen.test_loss:.4f} ± {1.96 * seen.test_error:.4f} on {seen.test_windows} windows"
    if seen.test_accuracy is not None:
        own = f"accuracy {seen.test_accuracy:.1%}, {own.replace('windows', 'texts')}"
    if case.champion is None:
        return PASS, f"{own}; there is no champion to beat"
    if seen.gain is None or seen.gain_error is None:
        return COULD_NOT_RUN, seen.failures.get("champion", "the champion could not be evaluated")
    seeds = _seeds(case)
    least = needed(seeds, seen.gain_error, confidence)
    gain = fair_gain(seen.gain, one.value or math.nan, _others(one))
    interval = f"{seen.gain:+.4f} ± {1.96 * seen.gain_error:.4f} nats against version {case.champion.version}"
    luck = f"seeds deviate by {seeds.deviation:.4f}" + (f", best of {seeds.looked_at}" if seeds.candidate == 1 else "")
    if gain >= least:
        return PASS, f"{own}: {interval}, more than the {least:.4f} that luck explains ({luck})"
    if gain <= -least:
        return FAIL, f"{own}: {interval}, it is worse than the champion"
    return FAIL, (
        f"a tie. {own}: {interval}, and luck alone explains {least:.4f} ({luck}); "
        "repeat it with other seeds, or let the champion stand"
    )


def _seeds(case: Case) -> Seeds:
    one = case.candidate
    set_ = None if case.settings.noise == "auto" else case.settings.noise
    loss = case.evidence.test_loss or 0.0
    known = one.noise if one.metric in METRICS["generate"] else None  # a share's noise says nothing of a loss
    scale = loss / one.value if one.value and known is not None else 1.0  # noise is in the study's metric
    spread = deviation(set_, None if known is None else known * scale, one.repeats, loss)
    return Seeds(spread, 1 + len(_others(one)), one.looked_at)


def _others(one: Candidate) -> list[float]:
    """The losses of the seeds for which it was not chosen."""
    if one.metric != "val_loss":
        return []
    if one.others is None:
        return [value for seed, value in one.values.items() if seed != str(one.spec.get("seed"))]
    return list(one.others.values())


def _seed_count(case: Case) -> Said:
    have, want = len(case.candidate.values), case.settings.seeds
    seeds = "1 seed" if have == 1 else f"{have} seeds"
    if have < want:
        return FAIL, f"{seeds} of these settings, promotion.seeds asks for {want}; run it again with other seeds"
    return PASS, f"{seeds}, {want} asked for"


def _size(case: Case) -> Said:
    seen, settings = case.evidence, case.settings
    if seen.parameters is None or seen.bytes is None:
        return COULD_NOT_RUN, "the model could not be loaded"
    if settings.max_parameters is not None and seen.parameters > settings.max_parameters:
        return FAIL, f"{seen.parameters:,} parameters, at most {settings.max_parameters:,} are allowed"
    if settings.max_size is not None and seen.bytes > settings.max_size:
        return FAIL, f"{seen.bytes / 1e6:.1f} MB, at most {size_text(settings.max_size)} are allowed"
    limited = settings.max_parameters is not None or settings.max_size is not None
    return PASS, f"{seen.bytes / 1e6:.1f} MB" + ("" if limited else ", no limit set")


def _latency(case: Case) -> Said:
    seen, limit = case.evidence.latency_ms, case.settings.max_latency
    if seen is None or not math.isfinite(seen):
        return COULD_NOT_RUN, case.evidence.failures.get("sample", "no text could be generated")
    if limit is not None and seen > limit:
        return FAIL, f"{seen:.2g} ms a {_what(case)}, at most {limit:g} are allowed"
    return PASS, f"{seen:.2g} ms a {_what(case)}" + (", no limit set" if limit is None else "")


def _what(case: Case) -> str:
    return "text" if case.candidate.spec.get("task") == "classify" else "generated token"


def _sample(case: Case) -> Said:
    if not any(text.strip() for text in case.evidence.samples):
        return COULD_NOT_RUN, case.evidence.failures.get("sample", "the model generated no text")
    return PASS, f"{len(case.evidence.samples)} texts are kept with the model"


def _short(sha256: str | None) -> str:
    return "unknown" if sha256 is None else sha256[:12]


GATES: Mapping[str, Callable[[Case], Said]] = {
    "complete": _complete,
    "checkpoint": _checkpoint,
    "loads": _loads,
    "reproduces": _reproduces,
    "comparable": _comparable,
    "better": _better,
    "seeds": _seed_count,
    "size": _size,
    "latency": _latency,
    "sample": _sample,
}
"""Name -> gate, in the order they are told."""

ABSOLUTE = frozenset({"checkpoint", "loads"})
"""No reason opens these: a champion that does not load serves nobody. Nor ``complete`` where no run exists."""
