"""The dashboard's door: page settings and the top bar. One file a page in views/; each answers one question.
Nothing is read or drawn here.
"""

from __future__ import annotations

import sys
from pathlib import Path

import streamlit as st

HERE = Path(__file__).resolve().parent
if str(HERE.parent) not in sys.path:  # Streamlit puts only this folder on the path
    sys.path.insert(0, str(HERE.parent))

PAGES = {
    "studies": "Studies",
    "overview": "Overview",
    "trials": "Trials",
    "parameters": "Parameters",
    "compare": "Compare",
    "trial": "Trial",
    "registry": "Registry",
    "health": "Health",
}

st.set_page_config(page_title="tuner", page_icon=str(HERE / "icon.svg"), layout="wide")
st.navigation(
    [
        st.Page(
            HERE / "views" / f"{name}.py",
            title=title,
            url_path=name,
            default=name == "studies",
            visibility="hidden" if name == "trial" else "visible",  # reached by a link that names a trial
        )
        for name, title in PAGES.items()
    ],
    position="top",
).run()
