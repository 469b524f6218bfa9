"""The dashboard's first page: the studies of the store and their best trials.
A placeholder until the pages are built; it reads through tuner.analysis and changes nothing.
"""

from __future__ import annotations

import os

import streamlit as st

from tuner.analysis.table import counts, open_study, rows, studies
from tuner.spec.errors import StoreError

URL = os.environ.get("TUNER_STORAGE", "sqlite:///tuner.db")


def page() -> None:
    """Draw the page, or say why there is nothing to draw and what to do."""
    st.set_page_config(page_title="tuner", layout="wide")
    st.title("Studies")
    st.caption("Which study deserves a look?")
    try:
        names = studies(URL)
    except StoreError as error:
        st.info(f"{error}\n\nRun `python -m tuner.study search_spaces/base.yaml` in this folder, then reload.")
        return
    if not names:
        st.info("The store has no study yet. Run `python -m tuner.study search_spaces/base.yaml`, then reload.")
        return
    name = st.selectbox("Study", names)
    try:
        record = open_study(URL, name)
    except StoreError as error:
        st.warning(str(error))
        return
    st.write(", ".join(f"{number} {state}" for state, number in counts(record).items()) or "no trial yet")
    table = [
        {"trial": row["number"], "state": row["state"], record.metric: row["value"], **row["point"]}
        for row in rows(record)
    ]
    if table:
        st.dataframe(table, hide_index=True)


page()
