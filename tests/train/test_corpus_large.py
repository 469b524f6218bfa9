"""A 200 MB text becomes a corpus in bounded memory; about a minute, so only by ``pytest -m slow``."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tuner.spec.parts.data import DataSpec
from tuner.train.text.source import open_source

BUILD = """
import resource, sys
from pathlib import Path
from tuner.spec.parts.data import DataSpec
from tuner.train.text.corpus import open_corpus
data = DataSpec(source="text", path=sys.argv[1], tokenizer={"kind": "bpe", "vocab": 1024})
corpus = open_corpus(data, Path(sys.argv[2]))
status = Path("/proc/self/status")  # Linux counts the parent's memory in ru_maxrss until the exec
lines = status.read_text().splitlines() if status.exists() else []
peaks = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
print(sum(corpus.info.bytes), peaks[0] if peaks else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def write_variations(path: Path, size: int) -> None:
    """The standard library over and over, each time with a tenth of the lines left out and a name changed."""
    source = open_source(DataSpec())
    assert source.documents is not None
    texts = ["".join(document.blocks) for document in source.documents()]
    draw = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < size:
            for text in texts:
                name = f"object{draw.randrange(1000)}"
                lines = text.splitlines(keepends=True)
                file.write("".join(x.replace("self", name) for x in lines if draw.random() < 0.9))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_200_mb_with_bpe_stay_under_600_mb_of_memory(tmp_path: Path) -> None:
    path = tmp_path / "large.txt"
    write_variations(path, 200_000_000)
    command = [sys.executable, "-c", BUILD, str(path), str(tmp_path / "corpus")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    read, peak = map(int, done.stdout.split())
    size = path.stat().st_size
    path.unlink()  # pytest keeps the folders of its last three runs
    shutil.rmtree(tmp_path / "corpus")
    assert read == size
    print(f"peak {peak * 1024 / 1e6:.0f} MB")
    assert peak * 1024 < 600_000_000  # both are in KiB on Linux
