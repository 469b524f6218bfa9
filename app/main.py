"""The dashboard's door: page settings, the login where there is one, the top bar. One file a page in views/.
No store is read here.
"""

from __future__ import annotations

import sys
from pathlib import Path

import streamlit as st

HERE = Path(__file__).resolve().parent
if str(HERE.parent) not in sys.path:  # Streamlit puts only this folder on the path
    sys.path.insert(0, str(HERE.parent))

from app import login  # noqa: E402

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
page = st.navigation(
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
)
login.bar()
page.run()
