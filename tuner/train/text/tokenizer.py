"""Tokenizers: text to token ids and back, by bytes, characters, a trained BPE or a tokenizer.json.
The tokenizers library is loaded only where a BPE is; nothing here knows parts or corpora.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tuner.spec.errors import DataError, short
from tuner.spec.parts.data import TokenizerSpec
from tuner.spec.parts.scalars import digest

Ids = NDArray[np.unsignedinteger[Any]]
END = "<|endoftext|>"
BPE_VOCAB = 1024
"""Vocabulary of a trained BPE where the spec says nothing."""
BPE_BYTES = 64 * 1024 * 1024
"""A BPE is trained on at most so many bytes of the training part."""
_ENDS = (END, "<|end_of_text|>", "<|eot_id|>", "</s>", "<eos>", "[SEP]")  # of tokenizer.json files in use
_FILE = "tokenizer.json"
_STATE = "tokenizer_state.json"


class Tokenizer(Protocol):
    """Text to ids and back. ``end`` is the end-of-text id, ``unknown`` that of whatever the vocabulary cannot spell;
    None where there is none.
    """

    @property
    def vocab(self) -> int:
        """One above the greatest id."""

    @property
    def end(self) -> int | None: ...

    @property
    def unknown(self) -> int | None: ...

    @property
    def fingerprint(self) -> str:
        """16 hex digits of all that decides what ids a text gets."""

    def encode(self, texts: list[str]) -> list[Ids]:
        """One array of ids, shape (tokens,), for each text; ``end`` is never among them."""

    def decode(self, ids: Sequence[int] | Ids) -> str:
        """The text; the end of a text reads ``<|endoftext|>``, what has no character U+FFFD."""

    def save(self, folder: Path) -> None:
        """Write what ``load_tokenizer`` reads; not atomic, the caller's folder is."""


class ByteTokenizer:
    """The 256 bytes of UTF-8, and an end-of-text id."""

    vocab = 257
    end: int | None = 256
    unknown: int | None = None

    @property
    def fingerprint(self) -> str:
        return digest({"kind": "byte"})[:16]

    def encode(self, texts: list[str]) -> list[Ids]:
        return [np.frombuffer(text.encode(), np.uint8) for text in texts]

    def decode(self, ids: Sequence[int] | Ids) -> str:
        return _between_ends(ids, 256, lambda run: run.astype(np.uint8).tobytes().decode(errors="replace"))

    def save(self, folder: Path) -> None:
        _write_state(folder, {"kind": "byte"})


class CharTokenizer:
    """Known ``characters`` in the order of their ids, an unknown id and, with documents, an end."""

    def __init__(self, characters: str, documents: bool) -> None:
        self.characters, self.documents = characters, documents
        self.unknown: int | None = len(characters)
        self.vocab = len(characters) + 1 + documents
        self.end = len(characters) + 1 if documents else None
        codes = _codes(characters)
        self._text = np.append(codes, np.uint32(0xFFFD))
        self._ids = np.full(0x110000, len(characters), np.uint32)
        self._ids[codes] = np.arange(len(codes), dtype=np.uint32)

    @property
    def fingerprint(self) -> str:
        return digest(self._state())[:16]

    def encode(self, texts: list[str]) -> list[Ids]:
        return [self._ids[_codes(text)] for text in texts]

    def decode(self, ids: Sequence[int] | Ids) -> str:
        def text(run: Ids) -> str:
            return self._text[run].tobytes().decode("utf-32-le", errors="replace")

        return _between_ends(ids, self.end, text)

    def save(self, folder: Path) -> None:
        _write_state(folder, self._state())

    def _state(self) -> dict[str, Any]:
        return {"kind": "char", "characters": self.characters, "documents": self.documents}


class LibraryTokenizer:
    """One of the ``tokenizers`` library, from the content of a tokenizer.json; it adds no special tokens."""

    def __init__(self, content: str) -> None:
        """Raises ValueError where the library cannot read ``content``."""
        from tokenizers import Tokenizer as Library

        _survive_forks()
        self.content = content
        try:
            self._library = Library.from_str(content)
        except Exception as error:  # the library raises bare Exception
            raise ValueError(str(error)) from error
        self._library.no_padding()
        self._library.no_truncation()
        self._library.encode_special_tokens = True  # a document that says <|endoftext|> does not end there
        words = self._library.get_vocab()
        self.vocab = max(words.values(), default=0) + 1
        self.end: int | None = next((words[word] for word in _ENDS if word in words), None)
        model = json.loads(content).get("model", {})
        self.unknown: int | None = words.get(model.get("unk_token") or "", model.get("unk_id"))

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.content.encode()).hexdigest()[:16]

    def encode(self, texts: list[str]) -> list[Ids]:
        found = self._library.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(encoding.ids, np.uint32) for encoding in found]

    def decode(self, ids: Sequence[int] | Ids) -> str:
        return self._library.decode([int(i) for i in ids], skip_special_tokens=False)

    def save(self, folder: Path) -> None:
        (folder / _FILE).write_text(self.content, encoding="utf-8", newline="\n")
        _write_state(folder, {"kind": "library"})


def tokenizer_key(spec: TokenizerSpec) -> list[Any]:
    """What of the spec decides the tokens, as JSON-ready data; loads no library.

    Raises:
        DataError: a tokenizer file is missing or unreadable.
    """
    if spec.kind == "file":
        return ["file", hashlib.sha256(_content(spec).encode()).hexdigest()]
    return [spec.kind, (spec.vocab or BPE_VOCAB) if spec.kind == "bpe" else None]


def build_tokenizer(spec: TokenizerSpec, texts: Iterable[str], documents: bool) -> Tokenizer:
    """Make the tokenizer that ``spec`` asks for; ``texts`` are the training part's blocks, read as needed.

    Raises:
        DataError: a tokenizer file is missing or invalid.
    """
    return TOKENIZER[spec.kind](spec, texts, documents)


def load_tokenizer(folder: Path) -> Tokenizer:
    """Read what ``Tokenizer.save`` wrote.

    Raises:
        DataError: nothing was saved there, or it is damaged.
    """
    try:
        state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        if state["kind"] == "library":
            return LibraryTokenizer((folder / _FILE).read_bytes().decode())  # its line ends as they are
        if (own := _own(state)) is None:
            raise ValueError(f"unknown kind {state['kind']!r}")
        return own
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"tokenizer: cannot read the one saved in {folder}: {error}; build the corpus again") from error


def saved_as(folder: Path) -> str:
    """The name of the file in ``folder`` by which ``kind: file`` reads the tokenizer that was saved there."""
    return _FILE if (folder / _FILE).exists() else _STATE


def _own(state: Any) -> Tokenizer | None:
    """The tokenizer of bytes or characters whose state it is; None where it is none's."""
    match state:
        case {"kind": "byte"}:
            return ByteTokenizer()
        case {"kind": "char", "characters": str(characters), "documents": bool(documents)}:
            return CharTokenizer(characters, documents)
    return None


def _byte(spec: TokenizerSpec, texts: Iterable[str], documents: bool) -> Tokenizer:
    return ByteTokenizer()


def _char(spec: TokenizerSpec, texts: Iterable[str], documents: bool) -> Tokenizer:
    seen = np.zeros(0x110000, np.bool_)
    for text in texts:
        seen[_codes(text)] = True
    return CharTokenizer(np.flatnonzero(seen).astype("<u4").tobytes().decode("utf-32-le"), documents)


def _bpe(spec: TokenizerSpec, texts: Iterable[str], documents: bool) -> Tokenizer:
    from tokenizers import Tokenizer as Library
    from tokenizers import decoders, models, pre_tokenizers, trainers

    library = Library(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=spec.vocab or BPE_VOCAB,
        special_tokens=[END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    library.train_from_iterator(_short_runs(_first(texts, BPE_BYTES)), trainer)
    return LibraryTokenizer(library.to_str())


def _file(spec: TokenizerSpec, texts: Iterable[str], documents: bool) -> Tokenizer:
    content = _content(spec)
    try:
        return _own(json.loads(content)) or LibraryTokenizer(content)
    except ValueError as error:
        raise DataError(
            f"data.tokenizer.path: {spec.path} is not a tokenizer: {error}; expected a tokenizer.json of the "
            "tokenizers library"
        ) from error


def _content(spec: TokenizerSpec) -> str:
    try:
        return Path(spec.path or "").expanduser().read_bytes().decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"data.tokenizer.path: {spec.path} is not text at byte {error.start}; expected a tokenizer.json"
        ) from error
    except (OSError, RuntimeError, ValueError) as error:  # also a home that nobody has, and a null byte
        raise DataError(
            f"data.tokenizer.path: cannot read {short(spec.path or '', 300)} (from the folder {Path.cwd()}): "
            f"{getattr(error, 'strerror', None) or error}; expected the path of a tokenizer.json"
        ) from error


def _first(texts: Iterable[str], size: int) -> Iterator[str]:
    for text in texts:
        yield text
        size -= len(text.encode())
        if size <= 0:
            return


def _short_runs(texts: Iterable[str]) -> Iterator[str]:
    """Cut up blocks with a run of over 1,000 characters, and take an eighth of BPE_BYTES of such text at most.

    Training takes time by the square of a run's length (an hour for 64 MB of ACGT) and, as no two runs are alike,
    some 50 bytes of memory for each of its characters.
    """
    left = BPE_BYTES // 8
    for text in texts:
        if max(map(len, text.split()), default=0) > 1000:
            yield from (text[start : start + 1000] for start in range(0, min(len(text), left), 1000))
            left = max(0, left - len(text))
        else:
            yield text


def _codes(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), "<u4")


def _between_ends(ids: Sequence[int] | Ids, end: int | None, text: Callable[[Ids], str]) -> str:
    numbers = np.asarray(ids, np.uint32)
    if end is None:
        return text(numbers)
    runs = np.split(numbers, np.flatnonzero(numbers == end))
    return END.join(text(run[1:] if number else run) for number, run in enumerate(runs))


def _write_state(folder: Path, state: dict[str, Any]) -> None:
    (folder / _STATE).write_text(json.dumps(state), encoding="utf-8")


@cache
def _survive_forks() -> None:
    """Let a process that forks after the library used its threads fork without a warning or a hang.

    The threads do not live on in the child, which would wait for them for ever (seen with tokenizers 0.23): it
    is told to work on one core. An environment that says TOKENIZERS_PARALLELISM already is left alone.
    """
    name = "TOKENIZERS_PARALLELISM"
    if name not in os.environ and hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=lambda: os.environ.__setitem__(name, "false"),
            after_in_parent=lambda: os.environ.__delitem__(name),
        )


TOKENIZER: dict[str, Callable[[TokenizerSpec, Iterable[str], bool], Tokenizer]] = {
    "bpe": _bpe,
    "byte": _byte,
    "char": _char,
    "file": _file,
}
"""kind -> builder; a test holds its keys equal to the spec's."""
