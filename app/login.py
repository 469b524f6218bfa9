"""The login of Streamlit's own OpenID Connect, shown only where `.streamlit/secrets.toml` configures one.
A button; who may act is decided in acting.py.
"""

from __future__ import annotations

import streamlit as st

from app import acting


def bar() -> None:
    """Log in, or who is logged in and the way out; nothing where no login is configured."""
    if not acting.login_configured():
        return
    with st.container(horizontal=True, horizontal_alignment="right", vertical_alignment="center", gap="small"):
        if getattr(st.user, "is_logged_in", False):
            st.text(acting.who(), width="content")
            st.button("Log out", icon=":material/logout:", type="tertiary", key="logout", on_click=st.logout)
        else:
            st.button("Log in", icon=":material/login:", key="login", on_click=st.login)
