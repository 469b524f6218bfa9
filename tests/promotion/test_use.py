"""What a model writes, on a terminal."""

from __future__ import annotations

from tuner.ship.use import harmless


def test_a_learned_control_character_becomes_a_picture() -> None:
    assert harmless("a\tb\nc") == "a\tb\nc"
    assert harmless("\x1b[2Jgone\x07\r\x00") == "\u241b[2Jgone\u2407\u240d\u2400"
    assert harmless("\x7f\x9bé") == "\u2421\ufffdé"
    assert all(c.isprintable() or c in "\n\t" for c in harmless("".join(map(chr, range(0xA0)))))
