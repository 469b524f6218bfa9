"""The ceremony: the order in which registry and ledger are written, under a lock, so that a crash between any two
writes is seen and can be ended either way. It judges nothing: whatever comes here has passed its gates.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tuner.promotion.gates import Answer, Result
from tuner.promotion.ledger import Entry, Ledger, Stage
from tuner.promotion.package.folder import verify
from tuner.promotion.registry import CHALLENGER, CHAMPION, Registry
from tuner.search.lock import store_lock
from tuner.spec.errors import PromotionError

OVERRIDE, UNDONE = "tuner.override", "tuner.undone"
WAIT = 20.0
"""Seconds to wait for another promotion of the same model: the writes take about one."""

Prove = Callable[[Path], None]
"""Raises a TunerError where the plain model folder does not load or generates nothing."""


@dataclass(frozen=True)
class Proposal:
    """What is to be written, all known before the first write; ``before`` is the champion it was judged against."""

    model: str
    action: str
    actor: str
    reason: str
    record: str
    before: int | None
    run: str
    sha256: str
    overridden: tuple[str, ...]
    answers: tuple[Answer, ...]
    candidate: Mapping[str, Any]

    def as_data(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Proposal:
        answers = tuple(Answer(one["gate"], Result(one["result"]), one["sentence"]) for one in data["answers"])
        return cls(**{**data, "answers": answers, "overridden": tuple(data["overridden"])})

    def entry(self, stage: Stage, after: int, reason: str | None = None) -> Entry:
        whole = stage is Stage.INTENT
        return Entry(
            actor=self.actor,
            model=self.model,
            action=self.action,
            stage=stage,
            before=self.before,
            after=after,
            record=self.record,
            reason=self.reason if reason is None else reason,
            overridden=self.overridden,
            answers=self.answers if whole else (),
            candidate=self.candidate if whole else {},
        )


@dataclass(frozen=True)
class Pending:
    """A ceremony that a crash has left: the version it made, and its row in the ledger if it came that far."""

    model: str
    version: int
    record: str
    intent: Entry | None

    @property
    def sentence(self) -> str:
        how_far = "registered, not yet announced in the ledger" if self.intent is None else "announced, not ended"
        who = "" if self.intent is None else f" by {self.intent.actor} at {self.intent.at}"
        ends = f"`tuner promote {self.model} --resume` goes on, `--undo` takes it back"
        return f"version {self.version} is {how_far}{who}; {ends}"


@dataclass(frozen=True)
class Ceremony:
    """The two books and what happens between them. ``step`` hears the label of each write just after it."""

    ledger: Ledger
    registry: Registry
    prove: Prove
    step: Callable[[str], None] = lambda label: None

    def promote(self, proposal: Proposal, mlflow_package: Path) -> int:
        """Make the package's version champion; returns the version. The same record again writes nothing.

        Raises:
            PromotionError: another ceremony is under way or was interrupted, or the champion moved meanwhile.
            CheckpointError: what the registry gives back is not what was promoted.
        """
        with self._locked(proposal.model):
            self._refuse_pending(proposal.model, proposal.record)
            version = self._made(proposal.model, proposal.record)
            if version is not None and self.registry.champion(proposal.model) == version:
                self._finish(proposal, version)
                return version
            if version is None:
                version = self.registry.add(proposal.model, proposal.run, mlflow_package, proposal.record, self.step)
            self._crown(proposal, version)
            return version

    def rollback(self, proposal: Proposal, version: int) -> None:
        """Make a former version champion again.

        Raises: as ``promote``.
        """
        with self._locked(proposal.model):
            self._refuse_pending(proposal.model, proposal.record)
            self._crown(proposal, version)

    def resume(self, model: str, actor: str) -> int | None:
        """End an interrupted ceremony; the version that is champion then, None where nothing was interrupted."""
        with self._locked(model):
            pending = self.pending(model)
            if pending is None:
                return None
            self._crown(replace(self._proposal(model, pending), actor=actor), pending.version)
            return pending.version

    def undo(self, model: str, actor: str, reason: str) -> int | None:
        """Take an interrupted ceremony back; the version it was about, None where nothing was interrupted.

        It needs nothing of the package, which may be why the ceremony did not end. An undone version stays in the
        registry, marked, and is never taken up again.
        """
        with self._locked(model):
            pending = self.pending(model)
            if pending is None:
                return None
            told, history = pending.intent, self.ledger.history(model)
            before = told.before if told is not None else replay(history).get(CHAMPION)
            if self.registry.champion(model) == pending.version != before:
                self.registry.point(model, CHAMPION, before)
                self.step("champion back")
            earlier = replay([entry for entry in history if entry != told]).get(CHALLENGER)
            if self.registry.aliases(model).get(CHALLENGER) == pending.version != earlier:
                self.registry.point(model, CHALLENGER, earlier)
                self.step("challenger back")
            action = told.action if told is not None else "promote"
            if action == "promote":
                self.registry.tag(model, pending.version, UNDONE, reason)
            taken = Entry(actor, model, action, Stage.UNDONE, before, pending.version, pending.record, reason)
            self.ledger.write(taken)
            self.step("undone")
            return pending.version

    def pending(self, model: str) -> Pending | None:
        """What a crash has left, seen from both books; None where every ceremony has ended."""
        history = self.ledger.history(model)
        for entry in reversed(history):
            if entry.stage is Stage.INTENT:
                return Pending(model, entry.after, entry.record, entry)
            break
        known = {entry.after for entry in history}
        for version in reversed(self.registry.versions(model)):
            if version.record is not None and version.number not in known and UNDONE not in version.tags:
                return Pending(model, version.number, version.record, None)
        return None

    def _crown(self, proposal: Proposal, version: int) -> None:
        """Verify, challenger, intent, look again, champion, read back, done; each at most once per ceremony."""
        model, before = proposal.model, proposal.before
        self._verify(proposal, version)
        if proposal.overridden:
            self.registry.tag(model, version, OVERRIDE, ", ".join(proposal.overridden))
            self.step("marked")
        if self.registry.aliases(model).get(CHALLENGER) != version:
            self.registry.point(model, CHALLENGER, version)
            self.step("challenger")
        if not self._announced(proposal, version):
            self.ledger.write(proposal.entry(Stage.INTENT, version))
            self.step("intent")
        now = self.registry.champion(model)
        if now not in (before, version):
            self.ledger.write(proposal.entry(Stage.STOPPED, version, f"the champion moved to version {now} meanwhile"))
            raise PromotionError(
                f"the champion of '{model}' was {_version(before)} when this was judged and is {_version(now)} now: "
                f"{self._mover(model, now)}. Nothing was moved; run the same command again to be judged against it."
            )
        if now != version:
            self.registry.point(model, CHAMPION, version)
            self.step("champion")
        if (seen := self.registry.champion(model)) != version:
            raise PromotionError(
                f"the champion of '{model}' was set to version {version} and reads as {_version(seen)}; look at the "
                f"registry, then `tuner promote {model} --resume` or `--undo`."
            )
        self.ledger.write(proposal.entry(Stage.DONE, version))
        self.step("done")

    def _finish(self, proposal: Proposal, version: int) -> None:
        """The champion is this record already: only a crash before the last row leaves something to write."""
        if self._announced(proposal, version):
            self.ledger.write(proposal.entry(Stage.DONE, version))
            self.step("done")

    def _announced(self, proposal: Proposal, version: int) -> bool:
        last = next(iter(reversed(self.ledger.history(proposal.model))), None)
        return last is not None and last.stage is Stage.INTENT and last.after == version

    def _verify(self, proposal: Proposal, version: int) -> None:
        with tempfile.TemporaryDirectory(prefix="tuner-verify-") as folder:
            fetched = self.registry.fetch(proposal.model, version, Path(folder))
            verify(fetched, proposal.sha256)
            self.prove(fetched)

    def _made(self, model: str, record: str) -> int | None:
        versions = self.registry.versions(model)
        found = [one.number for one in versions if one.record == record and UNDONE not in one.tags]
        return found[-1] if found else None

    def _proposal(self, model: str, pending: Pending) -> Proposal:
        """What an interrupted ceremony was about: from the package of its version, and for a rollback its row."""
        with tempfile.TemporaryDirectory(prefix="tuner-verify-") as folder:
            kept = Proposal.read(verify(self.registry.fetch(model, pending.version, Path(folder))))
        if pending.intent is None:
            return kept
        told = pending.intent
        return replace(kept, action=told.action, reason=told.reason, before=told.before, overridden=told.overridden)

    def _refuse_pending(self, model: str, record: str) -> None:
        pending = self.pending(model)
        if pending is not None and pending.record != record:
            raise PromotionError(f"'{model}': a promotion was interrupted. {pending.sentence}.")

    def _mover(self, model: str, version: int | None) -> str:
        for entry in reversed(self.ledger.history(model)):
            if entry.stage is Stage.DONE and entry.after == version:
                return f"moved by {entry.actor} at {entry.at} ({entry.reason})"
        return "moved outside tuner, the ledger does not know by whom"

    @contextmanager
    def _locked(self, model: str) -> Iterator[None]:
        with store_lock(self.ledger.url, f"promotion.{model}", wait=WAIT) as taken:
            if not taken:
                raise PromotionError(f"'{model}' is being promoted by another process; try again when it has ended.")
            yield


def replay(history: list[Entry]) -> dict[str, int]:
    """The aliases as the ledger tells them: champion and challenger, where there is one."""
    champion: int | None = None
    challenger: int | None = None
    earlier: int | None = None  # the challenger before the last intent: an undone one gives way to it
    announced = False
    for entry in history:
        match entry.stage:
            case Stage.INTENT:
                earlier, challenger = challenger, entry.after
            case Stage.DONE:
                champion = entry.after
            case Stage.UNDONE if announced:
                challenger = earlier
        announced = entry.stage is Stage.INTENT
    told = {CHAMPION: champion, CHALLENGER: challenger}
    return {name: version for name, version in told.items() if version is not None}


def _version(number: int | None) -> str:
    return "nobody" if number is None else f"version {number}"
