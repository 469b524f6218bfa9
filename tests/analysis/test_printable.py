"""What models write and paths are called, on a terminal."""

from __future__ import annotations

from tuner.analysis.words import names, printable


def test_a_learned_control_character_becomes_a_picture() -> None:
    assert printable("a\tb\nc") == "a\tb\nc"
    assert printable("\x1b[2Jgone\x07\r\x00") == "\u241b[2Jgone\u2407\u240d\u2400"
    assert printable("\x7f\x9bé") == "\u2421\ufffdé"
    assert all(c.isprintable() or c in "\n\t" for c in printable("".join(map(chr, range(0xA0)))))


def test_a_path_is_called_by_its_last_word_where_that_tells_it_apart() -> None:
    assert names(["optim.lr", "compress.bits", "batch"]) == ["lr", "bits", "batch"]
    assert names(["optim.lr", "optim.muon.lr", "model.depth"]) == ["lr", "muon.lr", "depth"]
    assert names(["optim.x", "model.x", "data.x"]) == ["optim.x", "model.x", "data.x"]
    assert names(["init.lora.rank", "optim.lr"], taken=("rank",)) == ["init.lora.rank", "lr"]
