"""The selection: trial numbers kept by study in this session and in the link, never positions in a table."""

from __future__ import annotations

import streamlit as st

from app import link
from app.source import Snapshot

MOST = 12
"""Trials compared at once: beyond, neither a picture nor a table of differences can be read."""


def read(snapshot: Snapshot) -> list[int]:
    """The picked trials: the link's, else the session's, without what the study lacks; the link says them."""
    asked = link.numbers("compare")
    picked = asked or list(st.session_state.get(_key(snapshot.name), ()))
    known = set(snapshot.frame["number"])
    picked = [number for number in picked if number in known][:MOST]
    keep(snapshot.name, picked)
    return picked


def unknown(snapshot: Snapshot) -> list[int]:
    """Numbers of the link that the study does not have."""
    known = set(snapshot.frame["number"])
    return [number for number in link.numbers("compare") if number not in known]


def keep(study: str, picked: list[int]) -> None:
    st.session_state[_key(study)] = tuple(picked)
    link.write(compare=",".join(map(str, picked)) or None)


def take(key: str, ids: tuple[int, ...], study: str) -> None:
    """A table's ticks as numbers, against the rows that this very table had; picks it does not show stay."""
    rows = st.session_state[key]["selection"]["rows"]
    ticked = [ids[row] for row in rows if row < len(ids)]
    before = st.session_state.get(_key(study), ())
    stay = [one for one in before if one not in ids or one in ticked]
    keep(study, [*stay, *(one for one in ticked if one not in stay)])


def clear(study: str) -> None:
    """Nothing is picked; tables forget their ticks."""
    keep(study, [])
    for key in [key for key in st.session_state if str(key).startswith(f"board:{study}:")]:
        del st.session_state[key]


def _key(study: str) -> str:
    return f"picked:{study}"
