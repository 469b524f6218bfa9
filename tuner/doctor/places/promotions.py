"""The ledger of promotions beside the registry: its seals, what has not ended, aliases that somebody moved.
Reading only; an interrupted promotion is ended by a person, either way.
"""

from __future__ import annotations

from collections.abc import Iterator

from tuner.analysis.store import tracking_exists
from tuner.doctor.findings import Finding, Place
from tuner.doctor.places.mirrored import Away, said_by
from tuner.promotion.ceremony import Ceremony
from tuner.promotion.ledger import Ledger
from tuner.promotion.registry import Registry
from tuner.promotion.truth import complaints, replay, unfinished
from tuner.spec.errors import TunerError
from tuner.tracking.store import shown


def promotions(url: str, model: str, uri: str, away: Away) -> Iterator[Finding]:
    """What is wrong with the promotions of ``model``; ``away`` are the MLflow stores that did not answer.

    Raises:
        StoreError: the ledger cannot be read.
    """
    ledger, registry = Ledger(url), Registry(uri)
    history, broken = ledger.history(model), ledger.broken(model)
    aliases = replay(history)
    if aliases and not tracking_exists(uri):
        what = f"expected its versions in {shown(uri)}, got no such file"
        yield Finding(Place.LEDGER, f"model {model}", what, "bring it back from a copy, or promote again")
    elif uri not in away:
        try:
            aliases = registry.aliases(model)
        except TunerError as error:
            away[uri] = said_by(uri, error)
    ceremony = Ceremony(ledger, registry, prove=lambda folder: None)
    busy = unfinished(history) is not None and ceremony.under_way(model)
    if busy:  # nothing is at rest: what it writes next is no fault
        history, aliases = [], {}
    for sentence in complaints(history, broken, aliases, busy):
        what, mark, hint = sentence.rstrip(".").partition("; ")
        hint = hint if mark else f"`tuner history {model}` lists every row"
        yield Finding(Place.LEDGER, f"model {model}", what[:1].lower() + what[1:], hint)


def models(url: str) -> dict[str, str | None]:
    """The models of the ledger -> the study whose trial was promoted last; None where it does not say that.

    Raises:
        StoreError: the ledger cannot be read.
    """
    ledger, found = Ledger(url), {}
    for model in ledger.models():
        known = [row.candidate["study"] for row in ledger.history(model) if row.candidate]
        found[model] = str(known[-1]) if known else None
    return found
