"""Which training documents nobody learns from: too short or long, mostly signs, mostly repeated, or there already.
Documents in blocks in, the numbers of those left out; what is written lives in build.py.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tuner.spec.parts.data import CleanSpec
from tuner.train.text.split import Piece

if TYPE_CHECKING:
    from datasketch import LeanMinHash, MinHash

_RUN = 5
"""Words in the runs that near duplicates have in common."""
_SCRIPTS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Thai, Lao, Burmese, Khmer, kana and Han are written without blanks."""
_UNBROKEN = re.compile(f"[{_SCRIPTS}]|[^{_SCRIPTS}]+")
_HASHES = 64
"""Of a document's signature: how alike two are is known from it with a deviation of about 0.05."""


@dataclass(frozen=True)
class Judgement:
    """The training documents, by their place among them, that are left out; ``why``: how many for which reason."""

    dropped: frozenset[int] = frozenset()
    why: dict[str, int] = field(default_factory=dict)


@dataclass
class _Document:
    """What is known of a document that has been read: nothing grows with it but its lines' hashes."""

    train: bool
    size: int = 0
    letters: int = 0
    seen: int = 0
    repeated: int = 0
    lines: set[bytes] = field(default_factory=set)
    words: Words = field(default_factory=lambda: Words())
    signature: MinHash | None = None

    def add(self, text: str) -> None:
        self.size += len(text)
        self.words.add(text)
        for line in text.splitlines():
            if bare := "".join(line.split()):
                key = _hash(bare)
                self.repeated += key in self.lines
                self.lines.add(key)
                self.seen += len(bare)
                self.letters += sum(map(str.isalpha, bare))
                if not bare.isascii():  # vowels of many scripts are marks
                    self.letters += sum(unicodedata.category(one)[0] == "M" for one in bare)
        if self.signature is not None:
            words = _words(text.casefold())
            runs = {" ".join(words[k : k + _RUN]).encode() for k in range(max(1, len(words) - _RUN + 1))}
            self.signature.update_batch(sorted(runs))


def _words(text: str) -> list[str]:
    """What stands between blanks; of scripts that set none, each character."""
    words = text.split()
    return words if text.isascii() else [part for word in words for part in _UNBROKEN.findall(word)]


class Words:
    """A text's words, whatever blanks and capitals they are written with, as one hash."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=8)

    def add(self, text: str) -> None:
        if words := " ".join(text.split()).casefold():
            self._hash.update(words.encode(errors="surrogatepass") + b" ")

    @property
    def key(self) -> int:
        return int.from_bytes(self._hash.digest(), "little")


def judge(pieces: Iterable[Piece], clean: CleanSpec) -> Judgement:
    """Read all documents once. Of equal training documents the first stays; one that equals a document to judge by
    goes, whichever came first. Memory grows with the number of documents, not with their length.
    """
    alike = _Alike(clean) if clean.duplicates == "near" else None
    held: set[int] = set()
    known: list[tuple[str | None, int, LeanMinHash | None]] = []
    for document in _documents(pieces, alike):
        if document.train:
            known.append((_refused(document, clean), document.words.key, _lean(document.signature)))
        else:
            held.add(document.words.key)
            if alike is not None:
                alike.keep(_lean(document.signature))
    dropped: dict[int, str] = {}
    for number, (reason, key, signature) in enumerate(known):
        if reason is None and clean.duplicates != "keep":
            if key in held:
                reason = "duplicate"
            elif alike is not None and alike.has(signature):
                reason = "near duplicate"
            elif alike is not None:
                alike.keep(signature)
            held.add(key)
        if reason is not None:
            dropped[number] = reason
    return Judgement(frozenset(dropped), dict(Counter(dropped.values())))


def _documents(pieces: Iterable[Piece], alike: _Alike | None) -> Iterator[_Document]:
    document: _Document | None = None
    for piece in pieces:
        if piece.opens or document is None:
            if document is not None:
                yield document
            document = _Document(piece.part == 0, signature=None if alike is None else alike.signature())
        document.add(piece.text)
    if document is not None:
        yield document


def _refused(document: _Document, clean: CleanSpec) -> str | None:
    """The first filter that a document does not pass."""
    if clean.shortest is not None and document.size < clean.shortest:
        return "too short"
    if clean.longest is not None and document.size > clean.longest:
        return "too long"
    if document.letters < clean.letters * document.seen:
        return "few letters"
    if document.repeated > clean.repetition * (document.repeated + len(document.lines)):
        return "repeated lines"
    return None


class _Alike:
    """Documents that are nearly there already: MinHash (Broder, 1997) finds some, their signatures decide."""

    def __init__(self, clean: CleanSpec) -> None:
        from datasketch import MinHash, MinHashLSH  # a second to load, and few ask for it

        self._alike = clean.alike
        self._near = MinHashLSH(threshold=clean.alike, num_perm=_HASHES, weights=(0.05, 0.95))  # few may be missed
        self._kept: list[LeanMinHash] = []
        self._empty = MinHash(num_perm=_HASHES)

    def signature(self) -> MinHash:
        return self._empty.copy()  # shares what takes long to make

    def keep(self, signature: LeanMinHash | None) -> None:
        if signature is not None:
            self._near.insert(len(self._kept), signature)
            self._kept.append(signature)

    def has(self, signature: LeanMinHash | None) -> bool:
        if signature is None:
            return False
        return any(signature.jaccard(self._kept[one]) >= self._alike for one in self._near.query(signature))


def _lean(signature: MinHash | None) -> LeanMinHash | None:
    if signature is None:
        return None
    from datasketch import LeanMinHash

    return LeanMinHash(signature)


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()
