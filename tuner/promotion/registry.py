"""The registry: MLflow's registered models, their versions and the two aliases, champion and challenger.
Single reads and writes only; their order, the lock around them and their reasons are told by ceremony.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.promotion.package.folder import MODEL
from tuner.promotion.truth import CHAMPION
from tuner.spec.errors import PromotionError, TunerError
from tuner.tracking.mlflow import reason
from tuner.tracking.store import absolute, connect, shown, sqlite_path

RECORD = "tuner.record"
"""Tag of a version: the hash of the candidate it was made of."""

BEGUN = "tuner.begun"
"""Tag of a version: the seal of the ledger's row that began its promotion, by which its own ledger knows it."""


@dataclass(frozen=True)
class Version:
    """A registered version: its number and tags."""

    number: int
    tags: Mapping[str, str]

    @property
    def record(self) -> str | None:
        return self.tags.get(RECORD)

    @property
    def begun(self) -> str | None:
        return self.tags.get(BEGUN)


class Registry:
    """The model registry at an MLflow URI; connected at the first use.

    Raises:
        PromotionError: MLflow is away or refuses.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._client: Any = None

    def aliases(self, model: str) -> dict[str, int]:
        """Alias -> version; empty where there is no such model."""
        with self._reached() as client:
            found = self._model(client, model)
            return {} if found is None else {name: int(number) for name, number in found.aliases.items()}

    def champion(self, model: str) -> int | None:
        return self.aliases(model).get(CHAMPION)

    def versions(self, model: str) -> list[Version]:
        """Every version, oldest first."""
        with self._reached() as client:
            if self._model(client, model) is None:
                return []
            found, token = [], None
            while token != "":
                page = client.search_model_versions(f"name = '{model}'", max_results=1000, page_token=token)
                found += [Version(int(one.version), dict(one.tags)) for one in page]
                token = page.token or ""
            return sorted(found, key=lambda one: one.number)

    def find(self, name: str) -> tuple[str, int]:
        """The model and version that ``model`` (its champion), ``model@alias`` or ``model:version`` means.

        Raises:
            PromotionError: there is none.
        """
        model, mark, rest = name.partition("@" if "@" in name else ":")
        known = {str(one.number): one.number for one in self.versions(model)} if mark == ":" else self.aliases(model)
        if (version := known.get(rest or CHAMPION)) is None:
            said = ", ".join(f"{model}{mark or '@'}{one}" for one in known) or f"no model '{model}'"
            raise PromotionError(f"no registered model '{name}' at {shown(self.uri)}; there is: {said}.")
        return model, version

    def add(
        self,
        model: str,
        run: str,
        package: Path,
        record: str,
        begun: str,
        step: Callable[[str], None] = lambda label: None,
    ) -> int:
        """Upload an MLflow package beside the trial's run, in a folder of its own, and register it.

        A crash leaves files without a version.
        """
        place = f"promoted/{record}-{begun[:8]}"
        with self._reached() as client:
            client.log_artifacts(run, str(package), place)
            step("uploaded")
            if self._model(client, model) is None:
                client.create_registered_model(model, description="Promoted by tuner; see `tuner history`.")
                step("named")
            made = client.create_model_version(model, f"runs:/{run}/{place}", run, tags={RECORD: record, BEGUN: begun})
            step("registered")
            return int(made.version)

    def fetch(self, model: str, version: int, into: Path) -> Path:
        """Download a version's plain model folder below ``into``."""
        with self._reached() as client:
            from mlflow.artifacts import download_artifacts

            source = client.get_model_version_download_uri(model, str(version))
            found = download_artifacts(
                f"{source}/artifacts/{MODEL}", dst_path=str(into), tracking_uri=absolute(self.uri)
            )
            return Path(found)

    def point(self, model: str, alias: str, version: int | None) -> None:
        """Set an alias, or remove it where ``version`` is None."""
        with self._reached() as client:
            if version is None:
                client.delete_registered_model_alias(model, alias)
            else:
                client.set_registered_model_alias(model, alias, str(version))

    def tag(self, model: str, version: int, name: str, value: str) -> None:
        with self._reached() as client:
            client.set_model_version_tag(model, str(version), name, value)

    @staticmethod
    def _model(client: Any, model: str) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            return client.get_registered_model(model)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None

    @contextmanager
    def _reached(self) -> Iterator[Any]:
        path = sqlite_path(self.uri)
        if path is not None and not path.exists():
            raise PromotionError(f"no MLflow store at {path}; run a study first, or name the store with --tracking.")
        try:
            self._client = self._client or connect(self.uri)
            yield self._client
        except TunerError:
            raise
        except Exception as error:
            raise PromotionError(
                f"MLflow's registry at {shown(self.uri)} refused: {reason(error)}. If a promotion had begun, "
                "`tuner history MODEL` says so, and `tuner promote MODEL --resume` or `--undo` ends it."
            ) from error
