"""Who may act from these pages, as whom, and at which desk. Reading is free; writing asks here first.
The deeds are promotion's and run.control's; nothing is drawn here.
"""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path

import streamlit as st

from app import source
from tuner.analysis.store import trial_store
from tuner.promotion.promote import Desk, actor
from tuner.run.control.apart import Apart

CORPORA = source.RUNS / ".corpora"


def refusal() -> str:
    """Why nothing can be changed from these pages, in a sentence; empty where it can.

    A dashboard that others can reach is read-only until they say who they are; where a login is configured it is
    always asked for. In a container it is bound to every address and reached by one port: TUNER_DASHBOARD_PRIVATE=1
    says that only this machine's accounts reach that port.
    """
    if login_configured():
        return "" if _user() else "Log in (top of the page) to change anything; reading is free."
    address = st.get_option("server.address")
    if (address and _loopback(str(address))) or os.environ.get("TUNER_DASHBOARD_PRIVATE") == "1":
        return ""
    where = f"bound to {address}" if address else "bound to every address of this machine"
    return (
        f"This dashboard is {where}, which others can reach, and no login is configured: it is read-only. "
        "Bind it to 127.0.0.1, or configure a login (README, “Who may act”)."
    )


def who() -> str:
    """The actor that is written beside every deed: who logged in, else TUNER_ACTOR, else user@host."""
    return _user() or actor()


def desk(uri: str) -> Desk:
    """Where promotions to the registry at ``uri`` are written."""
    return Desk(trial_store(), uri, CORPORA, who(), Apart(CORPORA))


def apart() -> Apart:
    """The hands that read checkpoints, in processes of their own."""
    return Apart(CORPORA)


def login_configured() -> bool:
    """Whether ``.streamlit/secrets.toml`` has an ``[auth]`` section."""
    try:
        return "auth" in st.secrets
    except FileNotFoundError:  # no secrets at all
        return False


def _user() -> str:
    """Who is logged in by OpenID Connect; empty where nobody is."""
    if not getattr(st.user, "is_logged_in", False):
        return ""
    told = st.user.to_dict()
    return str(told.get("email") or told.get("preferred_username") or told.get("sub") or "")


def _loopback(address: str) -> bool:
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def checkpoint_of(facts: dict[str, object]) -> Path | None:
    """The folder of a trial's checkpoint where it is on this disk."""
    path = facts.get("checkpoint")
    return Path(path) if isinstance(path, str) and Path(path).is_dir() else None
