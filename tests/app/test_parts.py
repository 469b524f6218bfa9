"""What pages are made of: escaping, links, the tray and filters, on inputs that nobody chose."""

from __future__ import annotations

import itertools

import conftest_app  # noqa: F401  the app's folder is on the path from here on
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from app.charts import dimensions, lines, progress
from app.filters import Filter, kept
from app.parts import LOOKS, chips, plain
from tuner.analysis.table import STATE_ORDER


@given(st.text())
def test_escaped_text_has_no_live_punctuation(text: str) -> None:
    escaped = plain(text)
    rest = escaped.replace("\\\\", "")
    for mark in "[]<>*_`:$#&!(){}|~":
        assert rest.count(mark) == rest.count(f"\\{mark}")
    assert "\n" not in escaped


def test_each_state_has_its_own_look() -> None:
    assert set(LOOKS) == set(STATE_ORDER)
    assert len({look.icon for look in LOOKS.values()}) == len(LOOKS)
    assert len({look.word for look in LOOKS.values()}) == len(LOOKS)


def test_chips_leave_out_what_is_not_there() -> None:
    assert chips({"complete": 2, "failed": 0}) == ":blue-badge[● 2 done]"


def test_the_filter_that_removes_most_is_named() -> None:
    table = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": ["x", "y", "y"]})
    found, blame = kept(table, [Filter("a", "a from 3 to 4", 3, 4), Filter("b", "b in x", among=("x",))])
    assert found.empty
    assert "alone removes 2 of 3" in blame
    assert kept(table, [])[0].equals(table)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=40))
def test_names_at_the_ends_never_cover_each_other(ends: list[float]) -> None:
    table = pd.DataFrame({"label": [str(i) for i in range(len(ends))], "loss": ends})
    domain = lines._curve_domain(table["loss"])
    places = sorted(lines._apart(table, "loss", domain)["place"])
    least = (domain[1] - domain[0]) / 16
    assert all(b - a >= least * 0.999 for a, b in itertools.pairwise(places))


def test_a_chart_of_every_kind_is_valid_vega() -> None:
    points = pd.DataFrame(
        {"x": [1, 2], "value": [2.0, 3.0], "best": [2.0, 2.0], "number": [0, 1], "state": ["complete", "pruned"]}
    )
    for theme in ("light", "dark", None):
        assert progress.history(points, 0.1, "tokens", "val_loss", theme).to_dict()["layer"]
        table = points.assign(**{"optim.lr": [1e-3, 1e-2], "model.kind": ["a", "b"]})
        sliced = dimensions.slices(table, ["optim.lr", "model.kind"], {"optim.lr": True}, "val_loss", theme, 2)
        assert len(sliced.to_dict()["concat"]) == 2
        assert dimensions.pair(table, "optim.lr", "model.kind", {}, "val_loss", theme).to_dict()["mark"]
