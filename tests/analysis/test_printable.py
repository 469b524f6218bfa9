"""What a model writes, on a terminal."""

from __future__ import annotations

from tuner.analysis.words import printable


def test_a_learned_control_character_becomes_a_picture() -> None:
    assert printable("a\tb\nc") == "a\tb\nc"
    assert printable("\x1b[2Jgone\x07\r\x00") == "\u241b[2Jgone\u2407\u240d\u2400"
    assert printable("\x7f\x9bé") == "\u2421\ufffdé"
    assert all(c.isprintable() or c in "\n\t" for c in printable("".join(map(chr, range(0xA0)))))
