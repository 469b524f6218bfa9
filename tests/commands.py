"""The commands of ``tuner`` as a person types them, each in a folder, with a plain environment."""

from __future__ import annotations

import atexit
import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

TUNER = [sys.executable, "-m", "tuner.cli.main"]
STUDY = [sys.executable, "-m", "tuner.study", "small.yaml"]
OURS = ("MLFLOW_TRACKING_URI", "TUNER_STORAGE", "TUNER_ACTOR")


def run(folder: Path, *words: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run ``words`` in ``folder``; it has ended when the process has, whoever holds its output.

    ``python -m MODULE`` is forked from a process that has imported the large libraries: the import is most of what a
    command costs, and there are hundreds. ``test_house.py`` starts commands the plain way.
    """
    told = [str(word) for word in words]
    clean = {name: value for name, value in os.environ.items() if name not in OURS} | env
    with tempfile.NamedTemporaryFile("r+") as out, tempfile.NamedTemporaryFile("r+") as err:
        if told[:2] == [sys.executable, "-m"]:
            order = {"words": told[2:], "folder": str(folder), "env": clean, "out": out.name, "err": err.name}
            code = _forked(order)
        else:
            code = subprocess.run(told, cwd=folder, stdout=out, stderr=err, timeout=120, env=clean).returncode
        return subprocess.CompletedProcess(told, code, Path(out.name).read_text(), Path(err.name).read_text())


def ready() -> None:
    """Have the process that commands are forked from, before something that does not wait for it."""
    run(Path.cwd(), *TUNER, "--help")


def _forked(order: dict[str, object]) -> int:
    server = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        server.stdin.write(json.dumps(order) + "\n")
        server.stdin.flush()
        return int(server.stdout.readline())
    except BaseException:  # its answer, if it comes, must not be taken for the next command's
        server.kill()
        _server.cache_clear()
        raise


@functools.cache
def _server() -> subprocess.Popen[str]:
    words = [sys.executable, str(Path(__file__).with_name("command_server.py"))]
    server = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(server.communicate)  # the end of its input is the end of it
    return server
