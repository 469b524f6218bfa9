"""The options that several doors share, each with one name, one help text and one default.
Typer annotations only.
"""

from __future__ import annotations

from typing import Annotated

import typer

Storage = Annotated[
    str | None,
    typer.Option(help="trial store as a SQLAlchemy URL [default: TUNER_STORAGE, else sqlite:///tuner.db]"),
]
Tracking = Annotated[
    str | None, typer.Option(help="MLflow URI [default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db]")
]
Who = Annotated[str | None, typer.Option("--as", help="who acts [default: TUNER_ACTOR, else user@host]")]
Reason = Annotated[str, typer.Option(help="why, for the record")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON instead of a table")]
