"""One trial's spool into one MLflow run: finds or makes the run, sends what is new, notes how far it came.
Not the thread and not the screen: errors of the store are raised to the caller.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tuner.spec.disk import seal, unseal
from tuner.spec.errors import TunerError
from tuner.spec.records import Measurement
from tuner.tracking.batches import Batch, Gap, Plan, plan
from tuner.tracking.spool import SPOOL, Record, decode_lines
from tuner.tracking.store import connect, shown

CURSOR = "spool.cursor"
_UNSEALED = {"uri", "run", "offset", "rows", "damaged", "gaps"}  # a cursor from before there were seals
TRIAL_TAG = "tuner.trial"
_CHUNK = 64 * 1024  # bytes of spool between two notes in the cursor: about 3 calls, 0.2 s of MLflow's time


def dashboard_link(study: str, trial: int) -> str:
    """Where the dashboard shows a trial: below TUNER_DASHBOARD, else where `tuner dashboard` listens."""
    base = os.environ.get("TUNER_DASHBOARD", "http://127.0.0.1:8501").rstrip("/")
    return f"{base}/trial?{urlencode({'study': study, 'trial': trial})}"


class RunDeletedError(TunerError):
    """The user deleted this trial's run in MLflow; it stays deleted."""


@dataclass(frozen=True)
class Cursor:
    """How far a spool is mirrored: run id, byte offset, and what lay before it (rows, damaged lines, gaps).

    ``uri`` says into which store (without credentials); for another store mirroring begins at 0.
    """

    uri: str
    run: str | None = None
    offset: int = 0
    rows: int = 0
    damaged: int = 0
    gaps: Mapping[str, Gap] = field(default_factory=dict)


@dataclass(frozen=True)
class Mirrored:
    """One step of mirroring: the cursor after it, rows new to the store, damaged lines, if more waits."""

    cursor: Cursor
    rows: int
    damaged: int
    more: bool
    note: str | None = None  # a sentence for the user


class Writer:
    """Writes the trials of one study to one store, from one thread; connects at the first need.

    Sending again what the store has is harmless: MLflow keeps (key, step, time, value) once, and times come
    from the spool. So the cursor is noted after the store has answered, and a crash between repeats a chunk.
    But it costs MLflow 1.2 ms a point, 15 times the first sending: what the store has is asked and left out.
    """

    def __init__(self, study: str, uri: str) -> None:
        self._study = study
        self._uri = uri
        self._client: Any = None
        self._experiment = ""
        self._known: set[str] = set()  # runs this writer has seen in the store
        self._refused: set[str] = set()  # runs of which a sample could not be stored, and that was told
        self._since: dict[str, int | None] = {}  # run -> the time of the last row stored when this writer met it

    def mirror(self, folder: Path, trial: int) -> Mirrored:
        """Send the next chunk of ``folder``'s spool, and note in its cursor how far that came.

        Raises:
            RunDeletedError: the run was deleted in MLflow.
            Exception: whatever MLflow raises where the store is away, slow or refuses.
        """
        cursor = self._standing(read_cursor(folder, self._uri))
        records, offset, damaged, more = read_chunk(folder / SPOOL, cursor.offset)
        if offset == cursor.offset:
            return Mirrored(cursor, 0, 0, False)
        if not records and cursor.run is None:  # nothing yet to tell the run by
            after = replace(cursor, offset=offset, damaged=damaged)
            write_cursor(folder, after)
            return Mirrored(after, 0, damaged, more)
        run = cursor.run or self._run(trial, records[0].time_ms)
        since = self._stored(run)
        done = plan(records, cursor.gaps, damaged=cursor.damaged + damaged, since=since)
        try:
            note = self._send(run, trial, done)
        except Exception:
            self._known.discard(run)  # deleted in MLflow meanwhile, perhaps: look again before the next try
            self._since.pop(run, None)
            raise
        times = [record.time_ms for record in records if isinstance(record, Measurement)]
        rows = len(times) if since is None else sum(time > since for time in times)
        after = replace(
            cursor,
            run=run,
            offset=offset,
            rows=cursor.rows + len(times),
            damaged=cursor.damaged + damaged,
            gaps=done.gaps,
        )
        write_cursor(folder, after)
        return Mirrored(after, rows, damaged, more, note)

    def _standing(self, cursor: Cursor) -> Cursor:
        """The cursor, or a fresh one where its run is not in the store any more."""
        if cursor.run is None or cursor.run in self._known:
            return cursor
        from mlflow.exceptions import MlflowException

        self._connected()
        try:
            self._check(self._client.get_run(cursor.run))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return Cursor(cursor.uri)
        return cursor

    def _connected(self) -> str:
        """The id of the study's experiment, made where missing."""
        if self._experiment:
            return self._experiment
        if self._client is None:
            self._client = connect(self._uri)
        from mlflow.exceptions import MlflowException

        experiment = self._client.get_experiment_by_name(self._study)
        if experiment is None:
            try:
                self._experiment = self._client.create_experiment(self._study)
                return self._experiment
            except MlflowException:  # another process was quicker
                experiment = self._client.get_experiment_by_name(self._study)
                if experiment is None:
                    raise
        if experiment.lifecycle_stage == "deleted":
            raise RunDeletedError(
                f"the MLflow experiment '{self._study}' was deleted; to have it back: "
                f"mlflow experiments restore --experiment-id {experiment.experiment_id}"
            )
        self._experiment = experiment.experiment_id
        return self._experiment

    def _stored(self, run: str) -> int | None:
        """The time (ms) of the last row in the store when this writer met ``run``; all before it were sent before it,
        for times never go back within a spool, as steps may.
        """
        if run not in self._since:
            history = self._client.get_metric_history(run, "tokens")  # every row has it
            self._since[run] = max((metric.timestamp for metric in history), default=None)
        return self._since[run]

    def _tagged(self, trial: int) -> list[Any]:
        """The runs tagged as this trial, deleted ones too, always in the same order."""
        from mlflow.entities import ViewType

        experiment = self._connected()
        where = f"tags.`{TRIAL_TAG}` = '{self._study}/{trial}'"
        runs = self._client.search_runs([experiment], where, ViewType.ALL, max_results=1000)
        return sorted(runs, key=lambda run: str(run.info.run_id))

    def _run(self, trial: int, time_ms: int) -> str:
        """The one run of the trial that started at ``time_ms``: found, else made.

        The time tells it from a run of an earlier study of this name, whose folder was deleted.
        """
        runs = [run for run in self._tagged(trial) if run.info.start_time == time_ms]
        if not runs:
            tags = {
                TRIAL_TAG: f"{self._study}/{trial}",
                "tuner.study": self._study,
                "tuner.number": str(trial),
                "tuner.dashboard": dashboard_link(self._study, trial),
            }
            self._client.create_run(
                self._connected(), start_time=time_ms, tags=tags, run_name=f"{self._study}-{trial:04d}"
            )
            runs = [run for run in self._tagged(trial) if run.info.start_time == time_ms]
        active = [run for run in runs if run.info.lifecycle_stage == "active"]
        chosen = (active or runs)[0]
        self._check(chosen)
        self._only(chosen, active)
        return str(chosen.info.run_id)

    def _only(self, chosen: Any, runs: list[Any]) -> None:
        """Delete doubles: over HTTP a create that timed out is sent again, and both may arrive, even late."""
        for run in runs:
            same = run.info.start_time == chosen.info.start_time and run.info.lifecycle_stage == "active"
            if same and run.info.run_id != chosen.info.run_id:
                self._client.delete_run(run.info.run_id)

    def _check(self, run: Any) -> None:
        if run.info.lifecycle_stage == "deleted":
            raise RunDeletedError(
                f"run {run.info.run_id} of '{self._study}' was deleted in MLflow and stays so; to undo: "
                f"mlflow runs restore --run-id {run.info.run_id}, then tuner sync {self._study}"
            )
        self._known.add(str(run.info.run_id))

    def _send(self, run: str, trial: int, done: Plan) -> str | None:
        for batch in done.batches:
            self._log(run, batch)
        note = self._artifact(run, done.start.spec) if done.start else None
        note = self._samples(run, done.texts) or note
        if done.status is None:
            return note
        if done.status.end_ms is None:
            # MLflow cannot take an end time back: a resumed run shows the last one until it ends again.
            self._client.update_run(run, done.status.word)
        else:
            runs = self._tagged(trial)
            self._only(self._client.get_run(run), runs)
            self._client.set_terminated(run, done.status.word, done.status.end_ms)
        return note

    def _artifact(self, run: str, spec: Mapping[str, Any]) -> str | None:
        """Store spec.json. Where only the artifact store refuses, that costs a note, no more."""
        try:
            self._client.log_dict(run, dict(spec), "spec.json")
        except Exception as error:
            self._client.set_tag(run, "tuner.spec", f"not stored: {reason(error)}")
            return f"run {run}: spec.json could not be stored ({reason(error)}); its params and curves are"
        return None

    def _samples(self, run: str, texts: Mapping[str, str]) -> str | None:
        """Store samples, one file a milestone; a file sent again is written again with the same content.

        Where only the artifact store refuses, that costs this chunk's texts, and a note the first time.
        """
        for path, text in texts.items():
            try:
                self._client.log_text(run, text, path)
            except Exception as error:
                self._client.set_tag(run, "tuner.samples", f"not stored: {reason(error)}")
                told, self._refused = run in self._refused, self._refused | {run}
                note = f"run {run}: {path} could not be stored ({reason(error)}); its params and curves are"
                return None if told else note
        return None

    def _log(self, run: str, batch: Batch) -> None:
        from mlflow.entities import Metric, Param, RunTag

        self._client.log_batch(
            run,
            [Metric(metric.key, metric.value, metric.time_ms, metric.step) for metric in batch.metrics],
            [Param(key, value) for key, value in batch.params],
            [RunTag(key, value) for key, value in batch.tags],
        )


def reason(error: BaseException) -> str:
    """One line on why: the deepest error where the system or the network gave it, else the outermost."""
    deepest = error
    while (inner := deepest.__cause__ or deepest.__context__) is not None:
        deepest = inner
    if isinstance(deepest, OSError) and (words := deepest.strerror or str(deepest)):
        return words
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:300]


def read_chunk(path: Path, offset: int) -> tuple[list[Record], int, int, bool]:
    """Whole lines of a spool from ``offset``: records, offset after them, damaged lines, whether more waits.

    What is returned is on the disk, not only in the system's memory: else a power failure could leave MLflow
    with rows that the spool lacks, which a resumed trial would then record a second time, with other times.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size <= offset:
            return [], offset, 0, False
        os.fsync(file.fileno())
        file.seek(offset)
        data = file.read(_CHUNK)
        if b"\n" not in data:
            data += file.readline()
    whole = data[: data.rfind(b"\n") + 1]
    records, damaged = decode_lines(whole)
    return records, offset + len(whole), damaged, bool(whole) and offset + len(whole) < size


def read_cursor(folder: Path, uri: str) -> Cursor:
    """The cursor beside a spool; a fresh one where it is missing, damaged or of another store."""
    fresh = Cursor(shown(uri))
    try:
        data = unseal(json.loads((folder / CURSOR).read_bytes()), _UNSEALED)
        gaps = {key: Gap(*gap) for key, gap in data.pop("gaps").items()}
        cursor = Cursor(**data, gaps=gaps)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return fresh
    beyond = cursor.offset > (folder / SPOOL).stat().st_size  # of another spool: begin again
    return fresh if cursor.uri != fresh.uri or beyond else cursor


def write_cursor(folder: Path, cursor: Cursor) -> None:
    draft = folder / f".{CURSOR}.draft"
    draft.write_text(json.dumps(seal(asdict(cursor))) + "\n")
    draft.replace(folder / CURSOR)
