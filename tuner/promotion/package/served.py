"""The packaged model as MLflow runs it: this file is copied into each package and executed by mlflow.pyfunc.
Loading reads safetensors and JSON, never a pickle; nothing here knows studies or registries.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd


class PackagedGPT(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Each row with a ``prompt`` is continued, each with a ``text`` is scored, or told what it is by a classifier;
    params are those of Sampling.
    """

    def load_context(self, context: Any) -> None:
        from tuner.train.use.trained import load_model

        self._model = load_model(Path(context.artifacts["model"]))

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """One answer a row: ``text`` is the continuation of ``prompt``; ``loss`` (nats a token), ``bits_per_byte``,
        ``tokens`` and ``bytes`` are the score of ``text``. A classifier's: ``label``, ``probabilities``, and both
        for each ``auxiliary`` label.

        Raises:
            ValueError: a row has neither.
        """
        from tuner.spec.parts.sampling import Sampling

        sampling = Sampling(**{name: value for name, value in (params or {}).items() if value is not None})
        return [self._answer(row, sampling) for row in model_input.to_dict("records")]

    def _answer(self, row: Mapping[Any, Any], sampling: Any) -> dict[str, Any]:
        prompt, text = row.get("prompt"), row.get("text")
        answer: dict[str, Any] = {}
        if isinstance(prompt, str) and not self._model.classes:
            answer["text"] = self._model.generate(prompt, sampling)
        if isinstance(text, str) and self._model.classes:
            (found,) = self._model.classify([text])
            answer |= found.as_data()
        elif isinstance(text, str):
            score = self._model.score(text)
            answer |= {
                "loss": score.loss,
                "bits_per_byte": score.bits_per_byte,
                "tokens": score.tokens,
                "bytes": score.bytes,
            }
        if not answer:
            what = "a 'text'" if self._model.classes else "a 'prompt' to continue or a 'text' to score"
            raise ValueError(f"expected a row with {what}, got {sorted(row)}")
        return answer


mlflow.models.set_model(PackagedGPT())
