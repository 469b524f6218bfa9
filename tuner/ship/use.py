"""Using a model from the command line: find it by name, trial or folder; write text with it, score text with it.
torch is loaded here, when a command needs it; the model itself is train's.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError
from rich.console import Console
from rich.text import Text

from tuner.analysis.words import printable
from tuner.promotion.package.named import located
from tuner.promotion.promote import Desk
from tuner.spec.errors import DataError, SpecError
from tuner.spec.parts.sampling import Sampling

if TYPE_CHECKING:
    from tuner.train.use.trained import Answer, Score, Trained


@contextmanager
def opened(desk: Desk, name: str) -> Generator[Trained]:
    """The model that ``name`` means: a folder, STUDY/TRIAL, or a registered model (``base``, ``base@challenger``).

    Raises:
        TunerError: there is no such thing, or it is damaged.
    """
    from tuner.train.use.adopt import load_any

    with located(desk.store, desk.registry, name) as folder:
        yield load_any(folder, desk.corpora)


def sampling(**settings: float | None) -> Sampling:
    """Raises SpecError where a setting is out of its range."""
    try:
        return Sampling.model_validate({name: value for name, value in settings.items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0]).replace("_", "-")
        raise SpecError(f"--{name}: {first['msg'].lower()}, got {first['input']}.") from None


def run_generate(desk: Desk, name: str, prompt: str, drawn: Sampling) -> None:
    """Stream the continuation of ``prompt`` to the terminal, the prompt first."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that lacks a character shows another, and goes on
    shown = printable if sys.stdout.isatty() else str
    with opened(desk, name) as model:
        try:
            sys.stdout.write(shown(prompt))
            for piece in model.stream(prompt, drawn):
                sys.stdout.write(shown(piece))
                sys.stdout.flush()
            sys.stdout.write("\n")
            sys.stdout.flush()
        except BrokenPipeError:  # whoever reads has enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


_LIKELIEST = 3  # classes that are told of a text


def run_classify(console: Console, desk: Desk, name: str, texts: list[str], as_json: bool) -> None:
    """Print what a classifier takes each text for, and the likeliest classes with their probabilities.

    Raises:
        DataError: the model is no classifier.
    """
    with opened(desk, name) as model:
        answers = model.classify(texts)
    if as_json:
        console.print_json(json.dumps([one.as_data() for one in answers]))
        return
    for text, one in zip(texts, answers, strict=True):
        said = [_likeliest(one), *(f"{name} {_likeliest(other)}" for name, other in one.auxiliary.items())]
        console.print(Text(printable(f"{' '.join(text.split())[:60]}: {'; '.join(said)}")), soft_wrap=True)


def _likeliest(answer: Answer) -> str:
    known = answer.probabilities
    first = sorted(known, key=known.__getitem__, reverse=True)[:_LIKELIEST]
    return ", ".join(f"{label} {known[label]:.0%}" for label in first)


def run_evaluate(console: Console, desk: Desk, name: str, data: str, as_json: bool) -> None:
    """Score text files (a path or a glob) with a model; several are scored one by one and weighed by their tokens.

    Raises:
        DataError: no file matches, or one is no text.
    """
    from tuner.train.text.source import matches

    paths = matches(data)
    with opened(desk, name) as model:
        scores = [_score(model, path) for path in paths]
    targets = sum(score.tokens - 1 for score in scores)
    tokens, size = sum(score.tokens for score in scores), sum(score.bytes for score in scores)
    loss = sum(score.loss * (score.tokens - 1) for score in scores) / targets
    bits = sum(score.bits_per_byte * score.bytes for score in scores) / size
    if as_json:
        told = {"loss": loss, "bits_per_byte": bits, "tokens": tokens, "bytes": size, "files": len(paths)}
        console.print_json(json.dumps(told))
        return
    files = "1 file" if len(paths) == 1 else f"{len(paths)} files"
    console.print(
        f"loss {loss:.4f} nats a token, {bits:.4f} bits a byte; {tokens:,} tokens of {files}", highlight=False
    )


def _score(model: Trained, path: Path) -> Score:
    try:
        return model.score(path.read_bytes().decode("utf-8"))  # its line ends as they are, which is how it was learned
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text at byte {error.start}.") from error
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
