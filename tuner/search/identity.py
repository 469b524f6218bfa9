"""What makes a study's trials comparable, kept with it: its settings, its text, its kind of device.
Held at its first trials, and refused where it changes later.
"""

from __future__ import annotations

import uuid

from optuna import Study

from tuner.search.store.storage import COPYING, MARKS
from tuner.spec.budget import Unit
from tuner.spec.errors import StoreError
from tuner.spec.records import Origin
from tuner.spec.study import StudySpec, differences


def hold_identity(study: Study, spec: StudySpec, fresh: bool) -> None:
    """Nothing that makes trials incomparable may change once there is a trial.

    Raises:
        StoreError: it has, or the study is another program's, or a copy that was cut off.
    """
    identity, attributes = spec.identity(), study.user_attrs
    known = attributes.get("identity")
    if study.direction.name != "MINIMIZE" or (known is None and not (fresh and not attributes.get(COPYING))):
        raise StoreError(
            f"study '{spec.name}' in the store was not made by this platform, or is a copy that was cut off "
            "(tuner copy makes it whole); take another name."
        )
    if known is not None and not fresh and known != identity:
        changes = "; ".join(differences(known, identity)[:3])
        raise StoreError(
            f"study '{spec.name}' is in the store with other settings ({changes}); its trials would not be "
            "comparable. Give the new study another name, or undo the change."
        )
    study.set_user_attr("identity", identity)
    study.set_user_attr("spec", spec.model_dump(mode="json"))
    if "id" not in attributes:
        study.set_user_attr("id", uuid.uuid4().hex)


def origin_of(study: Study) -> Origin:
    """Which study this is, and which of its copies."""
    return Origin(str(study.user_attrs["id"]), tuple(study.user_attrs.get(MARKS, ())))


def hold_text(study: Study, spec: StudySpec, fingerprint: str, begun: bool) -> None:
    """Note which text the trials are trained on.

    Raises:
        StoreError: it has ``begun``, and earlier trials were trained on another: the files, or Python, have changed.
    """
    _hold(
        study,
        spec,
        "data_fingerprint",
        fingerprint,
        begun,
        "the text has changed since its first trials (fingerprint {known}, now {now}); old and new trials would "
        "not be comparable. Bring the old text back, or give the study another name.",
    )


def hold_device(study: Study, spec: StudySpec, kind: str, begun: bool) -> None:
    """Note what the trials run on, where their budget is in seconds: equal times on two machines are not equal.

    Raises:
        StoreError: it has ``begun``, and earlier trials ran on another kind of device.
    """
    if spec.trial.budget.unit is Unit.SECONDS:
        _hold(
            study,
            spec,
            "device_kind",
            kind,
            begun,
            "its budget is in seconds and its first trials ran on {known}, this machine offers {now}; the same "
            "seconds do more on one than on the other. Go on there, or give the study another name or a budget "
            "in tokens or FLOPs.",
        )


def _hold(study: Study, spec: StudySpec, name: str, value: str, begun: bool, sentence: str) -> None:
    """Keep a fact of the study's first trials, and refuse another."""
    known = study.user_attrs.get(name)
    if known not in (None, value) and begun:
        raise StoreError(f"study '{spec.name}': {sentence.format(known=known, now=value)}")
    if known != value:
        study.set_user_attr(name, value)
