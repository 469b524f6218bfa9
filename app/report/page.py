"""The report: one study as one HTML page to send to a colleague, with no script in it and no request out of it.
The parts are put together and written here; what they say is in the rooms beside.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from app.report.html import Html, section, table, tag
from app.report.read import Reading, read
from app.report.search import chips, overview, parameters
from app.report.style import STYLE
from app.report.trials import against_cost, best, board, failures
from app.standing import versions
from tuner.analysis.study.live import headline
from tuner.analysis.study.progress import spent
from tuner.analysis.words import count, duration
from tuner.spec.errors import TunerError

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""What the page may load: nothing but the style inside it, whatever a text of a trial would like."""

DRAWN_BY = ("tuner", "optuna", "altair", "vl-convert-python")


def report(url: str, name: str, path: Path, runs: Path) -> None:
    """Write the report of a study to ``path``, whole or not at all; ``runs`` holds the folders of the studies.

    Raises:
        StoreError: no store, no such study, or the store cannot be reached.
        TunerError: the file cannot be written.
    """
    write(page(read(url, name, runs)), path)


def page(reading: Reading) -> str:
    """The whole document."""
    record = reading.record
    parts = [_head(reading), overview(reading)]
    if not reading.frame.empty:
        if reading.frame["reached"].max() > 0:
            parts += [board(reading), parameters(reading), against_cost(reading), best(reading)]
        parts.append(failures(reading))
    parts.append(_origin(reading))
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{record.name}: a search by tuner"),
        tag("style", Html(STYLE)),
    )
    return f"<!DOCTYPE html>\n{tag('html', head, tag('body', tag('main', *parts)), lang='en')}\n"


def write(text: str, path: Path) -> None:
    """Write a file by a temporary one beside it and a rename: whoever reads ``path`` sees the old or the new.

    Raises:
        TunerError: the place is no folder, is full or may not be written to.
    """
    made: Path | None = None
    try:
        handle, name = tempfile.mkstemp(dir=path.absolute().parent, prefix=f".{path.name}.", suffix=".tmp")
        made = Path(name)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        made.chmod(0o644)  # a temporary file is for its owner alone, a report is to be sent
        made.replace(path)
    except OSError as error:
        if made is not None:
            made.unlink(missing_ok=True)
        cause = error.strerror or str(error)
        raise TunerError(f"{path}: the report cannot be written here: {cause}; choose another --html FILE.") from None


def _head(reading: Reading) -> Html:
    made, trials = reading.simulated, len(reading.frame)
    said = f"{made} of {trials} trials were not trained" if reading.trained else "Nothing here was trained"
    banner = tag("p", f"Simulated. {said}: the losses were made up.", class_="banner")
    when = f"{reading.at:%Y-%m-%d %H:%M} UTC"
    meta = f"A search by tuner, as it stood on {when}. {reading.record.metric}, {reading.budget} a trial."
    return tag(
        "header", banner if made else "", tag("h1", f"Study {reading.record.name}"), tag("p", meta, class_="meta"),
        chips(reading),
    )  # fmt: skip


def _origin(reading: Reading) -> Html:
    record, frame = reading.record, reading.frame
    told = headline(record, frame, reading.noise)
    tokens, flops, seconds = (float(spent(frame, what).sum()) for what in ("tokens", "flops", "seconds"))
    codes = sorted({str(trial.facts["code_version"]) for trial in record.trials if "code_version" in trial.facts})
    devices = sorted({str(trial.facts["device_kind"]) for trial in record.trials if "device_kind" in trial.facts})
    rows = [
        ("made", f"{reading.at:%Y-%m-%d %H:%M:%S} UTC by tuner report {record.name}"),
        ("trial store", reading.store),
        ("study", f"{told['spent']} of {told['total']} trials, {reading.budget} each, "
                  f"{reading.milestones} milestones"),
        ("sampler, pruner", f"{record.spec['study']['sampler']}, {record.spec['study']['pruner']}"),
        ("spent", f"{count(tokens)} tokens, {count(flops)} FLOPs, {duration(seconds)} of training"),
        ("noise", f"±{reading.band:.2g} between two trials: {reading.noise.basis}"),
        ("code version", ", ".join(codes) or "not recorded"),
        ("device", ", ".join(devices) or "not recorded"),
        ("drawn by", ", ".join(f"{package} {version}" for package, version in versions(DRAWN_BY).items())),
    ]  # fmt: skip
    shown = table("What this report was made of", ["what", "value"], rows, words=(0, 1))
    return section("Origin", "Where does this come from?", tag("div", shown, class_="box"))
