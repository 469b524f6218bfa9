"""A row of a model's history, of which nothing else is true."""

from __future__ import annotations

from tuner.promotion.gates import Answer, Result
from tuner.promotion.ledger import Entry, Stage

ENTRY = Entry(
    actor="me@here",
    model="base",
    action="promote",
    stage=Stage.INTENT,
    before=None,
    after=1,
    record="r1",
    reason="it is 'better'; ümlaut",
    overridden=("better",),
    answers=(Answer("better", Result.FAIL, "a tie"),),
    candidate={"trial": 3, "value": 1.5},
)
