"""The ceremony: the order in which registry and ledger are written, under a lock, so that a crash between any two
writes is seen and can be ended either way. It judges nothing: whatever comes here has passed its gates.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.promotion.gates import Answer
from tuner.promotion.ledger import Entry, Ledger, Stage, promotion_lock
from tuner.promotion.package.folder import verify
from tuner.promotion.registry import Registry
from tuner.promotion.truth import CHALLENGER, CHAMPION, Pending, named, replay, unfinished
from tuner.search.store.lock import store_lock
from tuner.spec.errors import PromotionError, TunerError

OVERRIDE, UNDONE = "tuner.override", "tuner.undone"
WAIT = 20.0
"""Seconds to wait for another promotion of the same model: the writes take a few."""

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
    overridden: tuple[str, ...]
    answers: tuple[Answer, ...]
    candidate: Mapping[str, Any]

    def entry(self, stage: Stage, after: int | None, reason: str | None = None) -> Entry:
        whole = stage is Stage.BEGUN
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


def _proposal(pending: Pending, actor: str) -> Proposal:
    """What an interrupted ceremony was about, in the hands of who ends it."""
    row = pending.begun
    return Proposal(
        row.model, row.action, actor, row.reason, row.record, row.before, row.overridden, row.answers, row.candidate
    )


@dataclass(frozen=True)
class Ceremony:
    """The two books and what happens between them. ``step`` hears the label of each write just after it."""

    ledger: Ledger
    registry: Registry
    prove: Prove
    step: Callable[[str], None] = lambda label: None

    def promote(self, proposal: Proposal, mlflow_package: Path) -> int:
        """Register the package and make it champion; returns its version.

        Raises:
            PromotionError: another ceremony is under way or was interrupted, or the champion moved meanwhile.
            CheckpointError: what the registry gives back is not what was promoted.
        """
        with self._locked(proposal.model):
            begun = self._begin(proposal, None)
            with self._stopping(proposal):
                run = str(proposal.candidate["run"])
                version = self.registry.add(proposal.model, run, mlflow_package, proposal.record, begun.seal, self.step)
                self._verify(proposal, version)
            self._crown(proposal, version, announced=False)
            return version

    def rollback(self, proposal: Proposal, version: int) -> None:
        """Make a former version champion again.

        Raises: as ``promote``.
        """
        with self._locked(proposal.model):
            self._begin(proposal, version)
            with self._stopping(proposal, version):
                self._verify(proposal, version)
            self._crown(proposal, version, announced=False)

    def resume(self, model: str, actor: str) -> int | None:
        """End an interrupted ceremony; the version that is champion then, None where nothing was interrupted.

        Raises:
            PromotionError: it had not registered anything yet, so that there is nothing to go on with.
            TunerError: its version does not verify, or not now; it stays as it was, and ``undo`` ends it.
        """
        with self._locked(model):
            pending = self.pending(model)
            if pending is None:
                return None
            version = self._version(pending)
            if version is None:
                raise PromotionError(
                    f"the promotion of '{model}' was interrupted before its version was registered; "
                    f"`tuner promote {model} --undo` closes it, then promote again."
                )
            proposal = _proposal(pending, actor)
            self._verify(proposal, version)  # an alias may have moved: where this fails, it still is to be ended
            self._crown(proposal, version, announced=pending.last.stage is Stage.INTENT)
            return version

    def undo(self, model: str, actor: str, reason: str) -> bool:
        """Take an interrupted ceremony back; False where nothing was interrupted.

        It needs nothing of the package, which may be why the ceremony did not end, and copes with versions that
        somebody deleted: an alias whose version is gone is removed.
        """
        with self._locked(model):
            pending = self.pending(model)
            if pending is None:
                return False
            version, before = self._version(pending), pending.begun.before
            known = {one.number for one in self.registry.versions(model)}
            aliases = self.registry.aliases(model)
            if pending.last.stage is Stage.INTENT and aliases.get(CHAMPION) in (version, None):
                self._return(model, CHAMPION, aliases, before if before in known else None)
                self.step("champion back")
            earlier = replay([row for row in self.ledger.history(model) if row != pending.last]).get(CHALLENGER)
            if version is not None and aliases.get(CHALLENGER) in (version, None):
                self._return(model, CHALLENGER, aliases, earlier if earlier in known else None)
                self.step("challenger back")
            if pending.begun.action == "promote" and version in known and version is not None:
                self.registry.tag(model, version, UNDONE, reason)
                self.step("tagged")
            self.ledger.write(_proposal(pending, actor).entry(Stage.UNDONE, version, reason))
            self.step("undone")
            return True

    def pending(self, model: str) -> Pending | None:
        """The ceremony that has begun and not ended; the ledger alone tells."""
        return unfinished(self.ledger.history(model))

    def under_way(self, model: str) -> bool:
        """Is a ceremony being held right now?"""
        with store_lock(self.ledger.url, promotion_lock(model)) as taken:
            return not taken

    def _begin(self, proposal: Proposal, version: int | None) -> Entry:
        """The first row: from here on a crash is seen."""
        if pending := self.pending(proposal.model):
            raise PromotionError(f"'{proposal.model}': {pending.sentence}.")
        self._unmoved(proposal, version, stop=False)
        begun = self.ledger.write(proposal.entry(Stage.BEGUN, version))
        self.step("begun")
        return begun

    def _crown(self, proposal: Proposal, version: int, announced: bool) -> None:
        """Challenger, intent, look again, champion, read back, done; each at most once per ceremony."""
        model = proposal.model
        if proposal.overridden:
            self.registry.tag(model, version, OVERRIDE, ", ".join(proposal.overridden))
            self.step("marked")
        if self.registry.aliases(model).get(CHALLENGER) != version:
            self.registry.point(model, CHALLENGER, version)
            self.step("challenger")
        if not announced:
            self.ledger.write(proposal.entry(Stage.INTENT, version))
            self.step("intent")
        self._unmoved(proposal, version, stop=True)
        if self.registry.champion(model) != version:
            self.registry.point(model, CHAMPION, version)
            self.step("champion")
        if (seen := self.registry.champion(model)) != version:
            raise PromotionError(
                f"the champion of '{model}' was set to version {version} and reads as {named(seen)}; look at the "
                f"registry, then `tuner promote {model} --resume` or `--undo`."
            )
        self.ledger.write(proposal.entry(Stage.DONE, version))
        self.step("done")

    def _unmoved(self, proposal: Proposal, version: int | None, stop: bool) -> None:
        """The champion is still the one that was judged against, or the new one already."""
        model, now = proposal.model, self.registry.champion(proposal.model)
        if now == proposal.before or (version is not None and now == version):
            return
        if stop:
            self.ledger.write(proposal.entry(Stage.STOPPED, version, f"the champion moved to {named(now)} meanwhile"))
        raise PromotionError(
            f"the champion of '{model}' was {named(proposal.before)} when this was judged and is {named(now)} now: "
            f"{self._mover(model, now)}. Nothing was moved; run the same command again to be judged against it."
        )

    @contextmanager
    def _stopping(self, proposal: Proposal, version: int | None = None) -> Iterator[None]:
        """What fails or is interrupted before any alias moves ends the ceremony by itself, and the ledger says why."""
        try:
            yield
        except (TunerError, OSError, KeyboardInterrupt) as error:
            self.ledger.write(proposal.entry(Stage.STOPPED, version, str(error) or "interrupted"))
            raise

    def _verify(self, proposal: Proposal, version: int) -> None:
        with tempfile.TemporaryDirectory(prefix="tuner-verify-") as folder:
            fetched = self.registry.fetch(proposal.model, version, Path(folder))
            verify(fetched, str(proposal.candidate["sha256"]))
            self.prove(fetched)

    def _version(self, pending: Pending) -> int | None:
        """The version an interrupted ceremony is about; None where it had registered none."""
        if pending.last.after is not None:
            return pending.last.after
        versions = self.registry.versions(pending.begun.model)
        return next((one.number for one in reversed(versions) if one.begun == pending.begun.seal), None)

    def _return(self, model: str, alias: str, aliases: Mapping[str, int], version: int | None) -> None:
        if aliases.get(alias) != version:
            self.registry.point(model, alias, version)

    def _mover(self, model: str, version: int | None) -> str:
        for entry in reversed(self.ledger.history(model)):
            if entry.stage is Stage.DONE and entry.after == version:
                return f"moved by {entry.actor} at {entry.at} ({entry.reason})"
        return "moved outside tuner, the ledger does not know by whom"

    @contextmanager
    def _locked(self, model: str) -> Iterator[None]:
        with store_lock(self.ledger.url, promotion_lock(model), wait=WAIT) as taken:
            if not taken:
                raise PromotionError(f"'{model}' is being promoted by another process; try again when it has ended.")
            yield
