"""What is done to text before it becomes tokens: one way to write it, and what is nobody's business masked.
A text in, a text out, and counts; which documents are left out is decided in filters.py.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping

from tuner.spec.parts.data import CleanSpec

_LETTERS = r"A-Za-z0-9_\u00c0-\u024f\u0370-\u052f"  # of scripts with blanks: in others words stand right beside it
_LOCAL = re.compile(rf"(?<![{_LETTERS}.+-])[{_LETTERS}.+-]{{1,64}}\Z")
_DOMAIN = re.compile(rf"(?:[{_LETTERS}-]{{1,63}}\.){{1,4}}[A-Za-z]{{2,24}}(?![{_LETTERS}(-])")  # a @ b.sum() is none

_KEYS: Mapping[str, re.Pattern[str]] = {
    mark: re.compile(f"{rest}(?![A-Za-z0-9_-])", re.ASCII)
    for marks, rest in (
        ("AKIA ASIA", r"[0-9A-Z]{16}"),
        ("ghp_ gho_ ghs_ ghu_ ghr_", r"[A-Za-z0-9]{36,255}"),
        ("github_pat_", r"\w{22,255}"),
        ("glpat- xoxa- xoxb- xoxp- xoxr- xoxs-", r"[\w-]{10,255}"),
        ("sk- sk_live_", r"(?=[A-Za-z_-]{0,40}[0-9])[A-Za-z0-9_-]{20,255}"),
        ("hf_ AIza", r"[\w-]{30,255}"),
        ("eyJ", r"[\w-]{10,2000}\.eyJ[\w-]{10,4000}\.[\w-]{10,2000}"),
    )
    for mark in marks.split()
}
"""What services hand out begins with a mark of theirs, and has a form."""
_LINE = re.compile(r"[A-Za-z0-9+/=]{16,80}\s*")  # of what stands between the marks of a private key
_BEGIN = re.compile(
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----"
    r"(?:[\s\S]{1,8000}?-----END [A-Z ]{0,40}PRIVATE KEY-----|\s{1,8}(?:[A-Za-z0-9+/=]{16,80}\s{0,8}){0,200})?"
)
_END = re.compile(r"-----END [A-Z ]{0,40}PRIVATE KEY-----")
_NAMES = ("api_key", "api-key", "apikey", "secret", "token", "password", "passwd")
_NAMED = re.compile(r"[\w-]{0,24}[\"']?\s{0,3}[:=]\s{0,3}[\"']([^\s\"']{12,200})(?=[\"'])")

Span = tuple[int, int]

_RETURNS = re.compile(r"\r\n?")
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u200b\ufeff]")
_TRAILING = re.compile(r"(?<![^\S\n])[^\S\n]+(?=\n)")
_RUNS = re.compile(r"(?<=\S)[^\S\n]{2,}(?=\S)")
_EMPTY = re.compile(r"\n{3,}")


def cleaned(text: str, clean: CleanSpec, mask: Iterable[str]) -> str:
    """The text as it is learned from, ``mask`` (email, key) replaced by ``<email>`` and ``<key>``."""
    if clean.unicode != "keep":
        text = unicodedata.normalize("NFC" if clean.unicode == "nfc" else "NFKC", text)
    if clean.whitespace:
        for pattern, instead in ((_RETURNS, "\n"), (_CONTROLS, ""), (_TRAILING, ""), (_RUNS, " "), (_EMPTY, "\n\n")):
            text = pattern.sub(instead, text)
    for kind in sorted(mask):
        text = _masked(text, kind)
    return text


def found_in(text: str) -> dict[str, int]:
    """How many e-mail addresses and strings that look like secrets stand in a text."""
    return {kind: len(spans(text)) for kind, spans in _SPANS.items()}


def _masked(text: str, kind: str) -> str:
    parts, done = [], 0
    for start, end in _SPANS[kind](text):
        parts += [text[done:start], f"<{kind}>"]
        done = end
    return "".join([*parts, text[done:]]) if parts else text


def _emails(text: str) -> list[Span]:
    found = []
    for at in _places(text, "@"):
        local = _LOCAL.search(text, max(0, at - 65), at)
        domain = _DOMAIN.match(text, at + 1)
        if local and domain:
            found.append((local.start(), domain.end()))
    return _apart(found)


def _keys(text: str) -> list[Span]:
    """Looked for by their marks, one after the other: that is quicker by far than one expression for all."""
    found = []
    for mark, form in _KEYS.items():
        for at in _places(text, mark):
            before = text[at - 1] if at else " "
            begins = not (before.isascii() and before.isalnum()) and before not in "_-"
            if begins and (rest := form.match(text, at + len(mark))):
                found.append((at, rest.end()))
    for at in _places(text, "-----BEGIN "):
        if whole := _BEGIN.match(text, at):
            found.append(whole.span())
    for at in _places(text, "-----END "):
        if end := _END.match(text, at):
            found.append((_lines_before(text, at), end.end()))
    lower = text.replace("\u0130", "I").lower()  # the one letter that is two in lower case
    for name in _NAMES:
        for at in _places(lower, name):
            if rest := _NAMED.match(text, at + len(name)):
                found.append(rest.span(1))
    return _apart(found)


def _lines_before(text: str, at: int) -> int:
    """Where a key's lines begin that end at ``at``: its first mark may have been in the piece before."""
    for line in reversed(text[max(0, at - 8000) : at].splitlines(keepends=True)):
        if not _LINE.fullmatch(line):
            break
        at -= len(line)
    return at


def _places(text: str, mark: str) -> Iterator[int]:
    at = text.find(mark)
    while at >= 0:
        yield at
        at = text.find(mark, at + len(mark))


def _apart(found: list[Span]) -> list[Span]:
    """In order; those that overlap are one."""
    apart: list[Span] = []
    for start, end in sorted(found):
        if apart and start < apart[-1][1]:
            apart[-1] = (apart[-1][0], max(end, apart[-1][1]))
        else:
            apart.append((start, end))
    return apart


_SPANS: Mapping[str, Callable[[str], list[Span]]] = {"email": _emails, "key": _keys}
"""What can be masked -> where it stands."""
