"""What is done to text before it becomes tokens: one way to write it, and what is nobody's business masked.
A text in, a text out, and counts; which documents are left out is decided in filters.py.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping

from tuner.spec.parts.clean import CleanSpec

_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,4}[A-Za-z]{2,24}(?![\w-])")

# what services hand out as keys has a mark and a length of its own; what is written as one is named so
_KEY = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:[\s\S]{1,8000}?-----END [A-Z ]*PRIVATE KEY-----)?"
    r"|(?<![A-Za-z0-9_-])(?:"
    r"A(?:KIA|SIA)[0-9A-Z]{16}"
    r"|gh[opsur]_[A-Za-z0-9]{36,255}|github_pat_\w{22,255}|glpat-[\w-]{20,}"
    r"|xox[abprs]-[A-Za-z0-9-]{10,}"
    r"|sk-[A-Za-z0-9_-]{20,}|sk_live_[A-Za-z0-9]{16,}|hf_[A-Za-z0-9]{30,}|AIza[\w-]{35}"
    r"|eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"
    r")(?![A-Za-z0-9_-])"
    r"|(?i:(?:api[_-]?key|secret|token|passw(?:or)?d)[\"']?\s{0,3}[:=]\s{0,3}[\"'])(?P<named>[^\s\"']{12,200})(?=[\"'])"
)
_PATTERNS: Mapping[str, tuple[re.Pattern[str], str]] = {"email": (_EMAIL, "@"), "key": (_KEY, "")}
"""What can be masked -> its pattern, and a character without which it need not be looked for."""

_RETURNS = re.compile(r"\r\n?")
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u200b\ufeff]")
_TRAILING = re.compile(r"[^\S\n]+(?=\n)")
_RUNS = re.compile(r"(?<=\S)[^\S\n]{2,}(?=\S)")
_EMPTY = re.compile(r"\n{3,}")


def cleaned(text: str, clean: CleanSpec, mask: Iterable[str]) -> str:
    """The text as it is learned from, ``mask`` (email, key) replaced by ``<email>`` and ``<key>``."""
    if clean.unicode != "keep":
        text = unicodedata.normalize("NFC" if clean.unicode == "nfc" else "NFKC", text)
    if clean.whitespace:
        for pattern, instead in ((_RETURNS, "\n"), (_CONTROLS, ""), (_TRAILING, ""), (_RUNS, " "), (_EMPTY, "\n\n")):
            text = pattern.sub(instead, text)
    for kind in mask:
        text = _PATTERNS[kind][0].sub(lambda found, kind=kind: _instead(found, kind), text)  # type: ignore[misc]
    return text


def _instead(found: re.Match[str], kind: str) -> str:
    """The name before a value that is written as a key stays."""
    whole, named = found[0], found.groupdict().get("named")
    return whole[: len(whole) - len(named)] + f"<{kind}>" if named else f"<{kind}>"


def found_in(text: str) -> dict[str, int]:
    """How many e-mail addresses and strings that look like secrets stand in a text."""
    return {
        kind: sum(1 for _ in pattern.finditer(text)) if sign in text else 0
        for kind, (pattern, sign) in _PATTERNS.items()
    }
