"""The visit: store, studies, models and MLflow examined in turn, what may be mended is mended, and looked at again.
Order, locks and patience; what is a fault is said in the rooms beside this one.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tuner.doctor.findings import Case, Chapter, Finding, Place
from tuner.doctor.mend import mend
from tuner.doctor.places import books, checkpoints, folder, promotions
from tuner.doctor.places.mirrored import Away, mirrored, silent
from tuner.run.folder import RECORD, is_mirrored, tracking_of
from tuner.search.history import read_study, study_names
from tuner.search.store import address
from tuner.search.store import storage as stores
from tuner.search.store.lock import store_lock, study_lock
from tuner.search.store.reader import Head, engine_of, read_head, read_trials
from tuner.spec.errors import StoreError, StudyLockedError, TunerError, nearest
from tuner.tracking import store as tracking

PAUSE = 2.0
"""Seconds between two looks at what changes: a driver and its mirror are done with a change by then."""

BROKEN = (TunerError, OSError, ValueError, KeyError, TypeError)
"""What reading a study raises whose rows or files are not as this platform writes them."""


class Visit:
    """One examination of the store at ``url`` and the folders below ``runs``; with ``fix`` what is safe is mended."""

    def __init__(self, url: str, runs: Path, fix: bool) -> None:
        self.url, self.runs, self.fix = url, runs, fix
        self._away: Away = {}
        self._places: Mapping[Place, Callable[[Case], Iterable[Finding]]] = {
            Place.STORE: books.told,
            Place.FOLDER: folder.folder,
            Place.SPOOL: folder.spools,
            Place.CHECKPOINT: checkpoints.whole,
            Place.RETENTION: checkpoints.beyond,
            Place.LEFTOVER: checkpoints.leftovers,
            Place.MLFLOW: lambda case: mirrored(case, self._away),
        }

    def chapters(self, names: Sequence[str]) -> Iterator[Chapter]:
        """What is told of the store, of the studies ``names`` (all where there are none), and of their models.

        Raises:
            StoreError: ``names`` has a study that the store does not have, or the URL is none.
        """
        ruined, opened = books.file_of(self.url), None
        notes: tuple[str, ...] = ()
        if ruined and self.fix:  # what it says is no ground to delete anything
            self.fix, notes = False, ("nothing is mended on the word of a damaged store",)
        try:
            opened = stores.open_storage(self.url)
            with address.store_errors(self.url):
                known = study_names(opened)
        except StoreError as error:
            if not ruined:
                where, _, what = str(error).rstrip(".").partition("; ")
                ruined.append(Finding(Place.STORE, "the store", where, what or "name another with --storage"))
            opened, known = None, []
        if opened is not None and (strange := [name for name in names if name not in known]):
            raise StoreError(f"no study '{strange[0]}' in the store.{nearest(strange[0], known) or ' It is empty.'}")
        yield self._store(ruined, known, notes)
        if opened is None:
            return
        for name in dict.fromkeys(names or known):
            yield self._study(opened, name)
        if not names and (orphans := [*self._orphans(opened), *folder.models(self.runs)]):
            yield Chapter(f"folder {self.runs}", left=tuple(orphans))
        yield from self._models(opened, names, known)
        if self._away:
            yield Chapter("MLflow", left=tuple(silent(self._away)))

    def _store(self, ruined: list[Finding], known: Sequence[str], notes: tuple[str, ...]) -> Chapter:
        """The store's file and what its creation, or that of MLflow's, left behind."""
        told = [None, *(tracking_of(path) for path in self.runs.glob("[!.]*"))]
        uris = list(dict.fromkeys(tracking.location(uri) for uri in told))
        left = books.leftovers(self.url, uris)
        mended: list[Finding] = []
        if self.fix and left:
            if (path := address.sqlite_file(self.url)) is not None:
                stores.sweep(path)
            for uri in uris:
                if (path := tracking.sqlite_path(uri)) is not None:
                    tracking.sweep(path)
            found, left = left, books.leftovers(self.url, uris)
            mended = [finding for finding in found if finding not in left]
        counted = "1 study" if len(known) == 1 else f"{len(known)} studies"
        return Chapter(f"store {tracking.shown(self.url)}", counted, (*ruined, *left), tuple(mended), notes)

    def _study(self, storage: stores.Storage, name: str) -> Chapter:
        """One study, under its lock where it is to be mended."""
        with contextlib.ExitStack() as held:
            driven = self._driven(name, held if self.fix else None)
            try:
                try:
                    return self._examined(storage, name, driven)
                except BROKEN:
                    if not driven:
                        raise
                    time.sleep(PAUSE)  # it may have been in the making
                    return self._examined(storage, name, driven)
            except BROKEN as error:
                hint = "nothing else of it was looked at"
                return Chapter(f"study {name}", "", (Finding(Place.STORE, f"study {name}", _words(error), hint),))

    def _examined(self, storage: stores.Storage, name: str, driven: bool) -> Chapter:
        case = self._case(storage, name, driven)
        found, mended, notes = self._found(case), list[Finding](), list[str]()
        if found and (driven or not self.fix):
            found = self._lasting(storage, case, found)
        if driven:
            notes.append("a driver is running it: what changes was passed over, and nothing is mended meanwhile")
        elif self.fix and any(finding.mend for finding in found):
            notes += mend(case, found, storage, self._away)
            mended, found = self._again(storage, case, found)
        weights = checkpoints.counted(case)
        looked = f"{books.counted(case)}, {weights} {'checkpoint' if weights == 1 else 'checkpoints'}"
        return Chapter(f"study {name}", looked, tuple(found), tuple(mended), tuple(notes))

    def _driven(self, name: str, held: contextlib.ExitStack | None) -> bool:
        """Is a driver running it? Its lock is taken for that: for a moment, or kept in ``held``."""
        place = self.runs / name
        try:
            with contextlib.ExitStack() as moment:
                if not place.is_dir():  # it did not run here: make no folder of it
                    return not moment.enter_context(store_lock(self.url, f"study.{name}"))
                (held or moment).enter_context(study_lock(self.url, name, place))
        except StudyLockedError:
            return True
        except StoreError:  # a folder that cannot be written: nobody runs anything there
            return False
        return False

    def _case(self, storage: stores.Storage, name: str, driven: bool) -> Case:
        """The study as it is now.

        Raises:
            StoreError: it is gone, or was not made by this platform.
        """
        place, engine, head = self.runs / name, engine_of(storage), None
        with address.store_errors(self.url):
            if engine is not None:
                with engine.connect() as connection:
                    head = read_head(connection, name)
                    if head and "spec" not in head.attributes and not read_trials(connection, head.study_id):
                        raise StoreError("its driver died before it had noted what the study is; its command goes on")
            record = read_study(storage, name)
        uri = None
        if is_mirrored(place):
            uri = tracking.location(tracking_of(place) or record.spec["study"].get("tracking"))
        return Case(self.url, record, (head or Head(0, {})).attributes, place, uri, driven)

    def _found(self, case: Case) -> list[Finding]:
        return [finding for look in self._places.values() for finding in look(case)]

    def _lasting(self, storage: stores.Storage, case: Case, found: list[Finding]) -> list[Finding]:
        """Of what was found while others may write, what is still there after a while."""
        if not (case.driven or self._driven(case.name, None) or self._case(storage, case.name, False) != case):
            return found
        time.sleep(PAUSE)
        again = self._found(self._case(storage, case.name, True))
        return [finding for finding in found if finding in again]

    def _again(self, storage: stores.Storage, case: Case, found: list[Finding]) -> tuple[list[Finding], list[Finding]]:
        """What is mended and what is left, in the places where something was to be mended."""
        touched = {finding.place for finding in found if finding.mend is not None}
        case = self._case(storage, case.name, False)
        left = [finding for finding in found if finding.place not in touched]
        left += [finding for place in self._places if place in touched for finding in self._places[place](case)]
        mended = [finding for finding in found if finding.mend is not None and finding not in left]
        return mended, left

    def _orphans(self, storage: stores.Storage) -> list[Finding]:
        """Folders of studies that this store does not have."""
        paths = [path for path in sorted(self.runs.glob("[!.]*")) if (path / RECORD).is_file()]
        with address.store_errors(self.url):
            known = study_names(storage)
        hint = "name its store with --storage, or move the folder away"
        return [
            Finding(Place.FOLDER, str(path), "a study's folder, and the store has no such study", hint)
            for path in paths
            if path.name not in known
        ]

    def _models(self, storage: stores.Storage, names: Sequence[str], known: Sequence[str]) -> Iterator[Chapter]:
        """The models of the ledger that come from the studies ``names``, or all."""
        try:
            models = promotions.models(self.url)
        except BROKEN as error:
            yield Chapter(
                "ledger", "", (Finding(Place.LEDGER, "the ledger", _words(error), "no promotion was looked at"),)
            )
            return
        for model, study in models.items():
            if names and study not in names:
                continue
            said = None
            if study in known and study is not None:
                with contextlib.suppress(*BROKEN):
                    said = self._case(storage, study, False).uri
            try:
                found = self._promoted(model, said or tracking.location())
            except BROKEN as error:
                found = [
                    Finding(Place.LEDGER, f"model {model}", _words(error), f"`tuner history {model}` reads it too")
                ]
            yield Chapter(f"model {model}", "its promotions", tuple(found))

    def _promoted(self, model: str, uri: str) -> list[Finding]:
        """What is wrong with the promotions of a model, and still is after a while: one may be under way."""
        found = list(promotions.promotions(self.url, model, uri, self._away))
        if found:
            time.sleep(PAUSE)
            again = list(promotions.promotions(self.url, model, uri, self._away))
            found = [finding for finding in found if finding in again]
        return found


def _words(error: Exception) -> str:
    """An error as the middle of a sentence."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
