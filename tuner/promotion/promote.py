"""Promotion from end to end: nominate, look, judge, package, and hand over to the ceremony; rollback likewise.
Commands and pages call these; what needs torch is done by the ``Hands`` they bring, in a process of its own.
"""

from __future__ import annotations

import getpass
import os
import socket
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

from tuner.promotion.candidate import Candidate, choose, nominate
from tuner.promotion.ceremony import Ceremony, Proposal
from tuner.promotion.gates import Answer, Case, Champion, blocking, judge
from tuner.promotion.ledger import Entry, Ledger, Stage
from tuner.promotion.package.card import card
from tuner.promotion.package.folder import as_mlflow, describe, gather, verify
from tuner.promotion.registry import Registry
from tuner.promotion.truth import announced, unfinished
from tuner.search.history import read_study
from tuner.search.store.storage import open_storage
from tuner.spec.disk import hold, release
from tuner.spec.errors import PromotionError, TunerError
from tuner.spec.parts.promotion import PromotionSettings
from tuner.spec.records import Evidence


class Hands(Protocol):
    """What loads models, away from this process."""

    def examine(self, checkpoint: Path, champion: Path | None, test_tokens: int | None) -> Evidence: ...

    def prove(self, folder: Path) -> None:
        """Raises TunerError where the plain model folder does not load or generates nothing."""


@dataclass(frozen=True)
class Desk:
    """Where promotions are written: the trial store, MLflow, the folder of corpora, and who acts."""

    store: str
    mlflow: str
    corpora: Path
    actor: str
    hands: Hands

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.store)

    @property
    def registry(self) -> Registry:
        return Registry(self.mlflow)

    @property
    def ceremony(self) -> Ceremony:
        return Ceremony(self.ledger, self.registry, self.hands.prove)


@dataclass(frozen=True)
class Judged:
    """A candidate with what was found and what the gates say. ``crowned`` is its version where it reigns already."""

    candidate: Candidate
    evidence: Evidence
    answers: list[Answer]
    champion: Champion | None
    crowned: int | None = None

    def blocking(self, overridden: bool = False) -> list[Answer]:
        return blocking(self.answers, overridden)


def actor() -> str:
    """Who acts: TUNER_ACTOR, else user@host."""
    return os.environ.get("TUNER_ACTOR") or f"{_user()}@{socket.gethostname()}"


def consider(desk: Desk, study: str, number: int | None) -> Judged:
    """Nominate a trial (the best where ``number`` is None), look at its checkpoint and judge it.

    Raises:
        StoreError: no such study or trial.
        PromotionError: MLflow cannot be reached.
    """
    record = read_study(open_storage(desk.store), study)
    candidate = nominate(record, choose(record, number))
    champion = reigning(desk, candidate.model)
    if pending := desk.ceremony.pending(candidate.model):
        raise PromotionError(f"'{candidate.model}': {pending.sentence}.")
    if champion is not None and champion.candidate is not None and champion.candidate.record == candidate.record:
        return Judged(candidate, Evidence(), [], champion, champion.version)
    settings = PromotionSettings.model_validate(record.spec.get("promotion", {}))
    with tempfile.TemporaryDirectory(prefix="tuner-champion-") as place:
        fetched, gone = _fetched(desk, candidate.model, champion, Path(place))
        evidence = Evidence()
        if candidate.checkpoint is not None:
            evidence = desk.hands.examine(Path(candidate.checkpoint), fetched, settings.test_tokens)
    evidence = replace(evidence, failures={**gone, **evidence.failures})
    return Judged(candidate, evidence, judge(Case(candidate, evidence, champion, settings)), champion)


def promote(desk: Desk, judged: Judged, reason: str, overridden: bool = False) -> int:
    """Make a judged candidate champion; returns its version.

    Raises:
        PromotionError: a gate is closed, or as Ceremony.promote says.
    """
    if judged.crowned is not None:
        return judged.crowned
    closed, against = judged.blocking(overridden), judged.blocking() if overridden else []
    one = judged.candidate
    if closed or one.checkpoint is None or one.sha256 is None or one.run is None:
        names = ", ".join(answer.gate for answer in closed) or "complete"
        raise PromotionError(f"trial {one.trial} of '{one.study}' is not promoted; closed gates: {names}.")
    if (former := _promoted_as(desk, one)) is not None:
        raise PromotionError(
            f"trial {one.trial} of '{one.study}' was champion before, as version {former}; "
            f"`tuner rollback {one.model} --to {former}` brings it back."
        )
    proposal = Proposal(
        model=one.model,
        action="promote",
        actor=desk.actor,
        reason=required(reason),
        record=one.record,
        before=None if judged.champion is None else judged.champion.version,
        overridden=tuple(answer.gate for answer in against),
        answers=tuple(judged.answers),
        candidate=one.as_data(),
    )
    trial = Path(one.checkpoint).parent.parent
    fresh = hold(trial)
    try:
        with tempfile.TemporaryDirectory(prefix="tuner-package-") as place:
            folder, around = Path(place) / "model", Path(place) / "mlflow"
            gather(Path(one.checkpoint), desk.corpora / str(one.facts.get("data_fingerprint")), folder)
            words = card(one, judged.evidence, judged.answers, proposal.overridden)
            told = {"candidate": one.as_data(), "gates": [asdict(answer) for answer in judged.answers]}
            told |= {"reason": proposal.reason, "overridden": list(proposal.overridden)}
            describe(folder, words, judged.evidence.samples, told)
            as_mlflow(folder, around)
            return desk.ceremony.promote(proposal, around)
    except BaseException:
        with suppress(TunerError):  # without its store nobody knows who needs them
            if fresh and not _needed(desk.ledger, trial):
                release(trial)
        raise


@dataclass(frozen=True)
class Return:
    """A way back: from the champion ``now`` to the former one ``to``, and the row that once announced it."""

    model: str
    now: int | None
    to: int
    told: Entry


def take_back(desk: Desk, model: str, reason: str) -> bool:
    """Take an interrupted ceremony back, and let its trial's checkpoints go where nobody else needs them; False where
    nothing was interrupted.
    """
    pending = desk.ceremony.pending(model)
    undone = desk.ceremony.undo(model, desk.actor, reason)
    if undone and pending is not None and (trial := _trial(pending.begun)) and not _needed(desk.ledger, trial):
        release(trial)
    return undone


def _needed(ledger: Ledger, trial: Path) -> bool:
    """Was a champion of any model made of the checkpoints in this folder, or is one being made?"""
    for model in ledger.models():
        history = ledger.history(model)
        made = [announced(history, e.after) for e in history if e.stage is Stage.DONE and e.after is not None]
        if (pending := unfinished(history)) is not None:
            made.append(pending.begun)
        if any(one is not None and _trial(one) == trial for one in made):
            return True
    return False


def _trial(row: Entry) -> Path | None:
    """The folder of the trial whose checkpoint a row is about."""
    checkpoint = row.candidate.get("checkpoint")
    return None if checkpoint is None else Path(str(checkpoint)).parent.parent


def way_back(desk: Desk, model: str, to: int | None) -> Return:
    """The former champion that a rollback would bring back, the last one before the present where ``to`` is None.

    Raises:
        PromotionError: there is no such former champion, it reigns already, or a ceremony has not ended.
    """
    now, history = desk.registry.champion(model), desk.ledger.history(model)
    if pending := desk.ceremony.pending(model):
        raise PromotionError(f"'{model}': {pending.sentence}.")
    done = (entry.after for entry in reversed(history) if entry.stage is Stage.DONE)
    there = {one.number: one.record for one in desk.registry.versions(model)}
    former = list(dict.fromkeys(version for version in done if version is not None))
    others = [one for one in former if one != now and _is_there(there, one, announced(history, one))]
    version = to if to is not None else next(iter(others), None)
    if version is None or version not in (now, *others):
        known = ", ".join(map(str, sorted(others))) or "none"
        gone = f"; version {to} was deleted in MLflow's registry" if to in former else ""
        raise PromotionError(
            f"'{model}' has no former champion{'' if to is None else f' {to}'}{gone}; there is: {known}."
        )
    if version == now:
        raise PromotionError(f"version {version} of '{model}' is the champion already.")
    told = announced(history, version)
    assert told is not None  # it was champion, so it was begun
    return Return(model, now, version, told)


def _is_there(there: Mapping[int, str | None], version: int, told: Entry | None) -> bool:
    """Is the version in the registry, and the one that was announced? A model made anew counts from 1 again."""
    return version in there and told is not None and there[version] in (None, told.record)


def rollback(desk: Desk, back: Return, reason: str) -> None:
    """Make a former champion champion again.

    Raises:
        PromotionError: the champion moved since ``back`` was planned, or as Ceremony.rollback says.
        CheckpointError: its package does not verify.
    """
    proposal = Proposal(
        model=back.model,
        action="rollback",
        actor=desk.actor,
        reason=required(reason),
        record=back.told.record,
        before=back.now,
        overridden=back.told.overridden,
        answers=(),
        candidate=back.told.candidate,
    )
    desk.ceremony.rollback(proposal, back.to)


def _fetched(desk: Desk, model: str, champion: Champion | None, place: Path) -> tuple[Path | None, dict[str, str]]:
    """The champion's plain folder, or why there is none: a champion that cannot be read blocks one gate, not all."""
    if champion is None:
        return None, {}
    try:
        folder = desk.registry.fetch(model, champion.version, place)
        verify(folder)
        return folder, {}
    except TunerError as error:
        return None, {"champion": f"version {champion.version} cannot be read: {error}"}


def _promoted_as(desk: Desk, candidate: Candidate) -> int | None:
    """The version under which this very record was champion before; None where it never was, or that is deleted."""
    history = desk.ledger.history(candidate.model)
    done = [e.after for e in reversed(history) if e.stage is Stage.DONE and e.record == candidate.record]
    versions = desk.registry.versions(candidate.model) if done else []
    there = {one.number for one in versions if one.record in (None, candidate.record)}
    return next((version for version in done if version in there), None)


def reigning(desk: Desk, model: str) -> Champion | None:
    """The champion as the registry has it, with its record from the ledger."""
    version = desk.registry.champion(model)
    if version is None:
        return None
    told = announced(desk.ledger.history(model), version)
    return Champion(version, Candidate.read(told.candidate) if told is not None and told.candidate else None)


def required(reason: str) -> str:
    """A reason that says something.

    Raises:
        PromotionError: it is empty.
    """
    if not reason.strip():
        raise PromotionError("a champion is never moved without a reason; say why with --reason.")
    return reason.strip()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return f"uid {os.getuid()}"
