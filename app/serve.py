"""The server of the dashboard: everything that a first visitor would wait for is loaded before the door opens.
``streamlit run app/main.py`` is the same without the warmth.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

MAIN = Path(__file__).resolve().with_name("main.py")


def main() -> None:
    """``python -m app.serve [--server.port 8501 ...]``: options are Streamlit's."""
    _warm()
    from streamlit.web import cli

    sys.argv = ["streamlit", "run", str(MAIN), *sys.argv[1:]]
    cli.main()


def _warm() -> None:
    """Load the libraries and read the studies once; what fails here is said on the page that meets it."""
    import logging

    import altair as alt
    import pandas as pd

    from app import source
    from app.charts import dimensions, lines, progress  # noqa: F401
    from tuner.spec.errors import TunerError

    logging.getLogger("streamlit").setLevel(logging.ERROR)  # that this is no page yet is known
    alt.Chart(pd.DataFrame({"x": [1.0]})).mark_point().encode(x="x:Q").to_dict()
    with contextlib.suppress(TunerError):
        for name in source.names():
            with contextlib.suppress(TunerError):
                source.fresh(name)
    logging.getLogger("streamlit").setLevel(logging.NOTSET)


if __name__ == "__main__":
    main()
