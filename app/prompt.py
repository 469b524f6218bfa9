"""A box that asks checkpoints to continue a text: the same prompt, seed and temperature for each, with limits.
Each writes in a process of its own; what it wrote stays in this session until something else is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import streamlit as st

from app import acting
from app.parts import plain
from tuner.spec.errors import TunerError
from tuner.spec.parts.sampling import Sampling
from tuner.spec.records import Written

SECONDS = 20.0
MOST = 400  # tokens


def box(key: str, checkpoints: Mapping[int, Path]) -> None:
    """The form, and under it what each trial's checkpoint wrote. ``checkpoints``: trial -> folder."""
    if not checkpoints:
        return
    shown = f"wrote:{key}"
    with st.form(f"prompt:{key}", border=False, enter_to_submit=False):
        prompt = st.text_area("Prompt", key=f"text:{key}", height=80, max_chars=4000, placeholder="Once upon a time")
        with st.container(horizontal=True, vertical_alignment="bottom"):
            tokens = st.number_input("Tokens", 1, MOST, 120, key=f"tokens:{key}", width=120)
            temperature = st.number_input("Temperature", 0.0, 2.0, 0.8, 0.1, key=f"temperature:{key}", width=120)
            seed = st.number_input("Seed", 0, 2**31 - 1, 1, key=f"seed:{key}", width=120)
            refused = acting.refusal()
            asked = st.form_submit_button("Write", icon=":material/edit:", disabled=bool(refused), help=refused or None)
    st.caption(
        f"On the CPU, in a process of its own: at most {SECONDS:.0f} s and {MOST} tokens"
        + (f", for each of {len(checkpoints)}." if len(checkpoints) > 1 else ".")
    )
    if asked:
        sampling = Sampling(max_tokens=int(tokens), temperature=float(temperature), seed=int(seed))
        with st.spinner("Loading and writing", show_time=True):
            st.session_state[shown] = {one: _written(path, prompt, sampling) for one, path in checkpoints.items()}
    _show({one: said for one, said in st.session_state.get(shown, {}).items() if one in checkpoints})


def _written(path: Path, prompt: str, sampling: Sampling) -> Written | str:
    """What it wrote, or why it could not."""
    try:
        return acting.apart().write(path, prompt, sampling, SECONDS)
    except TunerError as error:
        return str(error)


def _show(found: Mapping[int, Written | str]) -> None:
    numbers = list(found)
    wide = 2 if len(numbers) > 1 else 1
    for start in range(0, len(numbers), wide):
        for column, one in zip(st.columns(wide), numbers[start : start + wide], strict=False):
            said = found[one]
            with column:
                if isinstance(said, str):
                    st.text(f"Trial {one} could not write: {said}")
                    continue
                st.code(said.text, language=None, wrap_lines=True)
                cut = f", stopped after {SECONDS:.0f} s" if said.cut else ""
                st.caption(plain(f"trial {one}: {len(said.text)} characters in {said.seconds:.1f} s{cut}"))
