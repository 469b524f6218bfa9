"""MLflow beside the store and the spools: what it lacks, which runs differ, which the store does not name.
Reading only; a store that is away is one sentence, and is asked once.
"""

from __future__ import annotations

from collections.abc import Iterator

from tuner.analysis.mirror import disagreements, lacking
from tuner.analysis.store import tracking_exists
from tuner.doctor.findings import Case, Finding, Mend, Place, some
from tuner.doctor.places.folder import ended, foreign
from tuner.run.folder import trial_folder
from tuner.spec.errors import TunerError
from tuner.tracking.mirror import trial_folders
from tuner.tracking.mlflow import read_cursor
from tuner.tracking.store import shown

Away = dict[str, str]
"""MLflow's URI -> why it did not answer. It is asked once: nobody waits for it twice."""


def mirrored(case: Case, away: Away) -> Iterator[Finding]:
    """What MLflow lacks, and where it tells another story."""
    if case.uri is None or foreign(case):  # of a simulated study it never hears
        return
    where, sync = shown(case.uri), f"`tuner sync {case.name}` mirrors what is missing"
    spooled = len(trial_folders(case.folder))
    if not tracking_exists(case.uri):
        if spooled and not case.driven:
            trials = "1 trial" if spooled == 1 else f"{spooled} trials"
            yield Finding(
                Place.MLFLOW,
                where,
                f"expected the runs of {trials}, got no such file",
                f"{sync}, and makes it",
                Mend.SYNC,
            )
        return
    behind = lacking(case.record, case.folder.parent, case.uri)
    if behind and case.driven:  # its driver mirrors; what the runs lack until then is no fault
        return
    if behind:
        records = "1 record" if behind == 1 else f"{behind} records"
        what = f"{records} of the spools in {case.folder} {'is' if behind == 1 else 'are'} not mirrored"
        yield Finding(Place.MLFLOW, where, what, sync, Mend.SYNC)
    yield from _runs(case, where, sync, away)
    if not case.driven:
        yield from _unnamed(case)


def silent(away: Away) -> list[Finding]:
    """The stores that did not answer."""
    hint = "nothing is lost, the spools have every record; ask again when it answers"
    return [Finding(Place.MLFLOW, f"MLflow at {shown(uri)}", why, hint) for uri, why in away.items()]


def said_by(uri: str, error: TunerError) -> str:
    """Why it did not answer, without its address, which is said before, and without a password."""
    words = str(error).replace(uri, shown(uri)).partition(". If a promotion")[0].rstrip(".")
    return words.removeprefix("MLflow at ").removeprefix("MLflow's registry at ").removeprefix(f"{shown(uri)} ")


def _runs(case: Case, where: str, sync: str, away: Away) -> Iterator[Finding]:
    """Each trial beside its run."""
    assert case.uri is not None
    if case.uri in away:
        return
    try:
        said = disagreements(case.record, case.uri)
    except TunerError as error:
        away[case.uri] = said_by(case.uri, error)
        return
    for sentence in said:
        what, mark, hint = sentence.rstrip(".").partition("; `")
        mend = Mend.SYNC if mark else None
        if mark:
            hint = f"`{hint}"
        elif what.endswith("which MLflow does not have"):
            hint, mend = sync, Mend.SYNC
        elif "was deleted in MLflow" in what:
            hint = "`mlflow runs restore --run-id ID` brings it back; nothing else makes it again"
        elif "which MLflow does not have" in what:
            hint = "its curves are there; it can be promoted where the old store is"
        else:
            hint = "compare them (`tuner dashboard`, page Health), then mend it in MLflow"
        yield Finding(Place.MLFLOW, where, what[:1].lower() + what[1:], hint, mend)


def _unnamed(case: Case) -> Iterator[Finding]:
    """Trials that were mirrored after their driver had left: their runs are there, the store does not name them."""
    if unnamed := runs_to_link(case):
        yield Finding(
            Place.MLFLOW,
            f"{case.name} in the store",
            f"expected the MLflow run of {some(unnamed)}, got none, though there is one: it was mirrored later",
            "such a trial cannot be promoted; `tuner doctor --fix` notes it",
            Mend.LINK,
        )


def runs_to_link(case: Case, anew: bool = False) -> dict[int, str]:
    """Ended trials that name no run, with ``anew`` also those that name another -> the run that has their spool."""
    assert case.uri is not None
    found = {}
    for trial in ended(case):
        folder = trial_folder(case.folder, trial.number)
        named = trial.facts.get("mlflow_run")
        if (anew or named is None) and folder.is_dir():
            run = read_cursor(folder, case.uri).run
            if run not in (None, named):
                found[trial.number] = run
    return found
