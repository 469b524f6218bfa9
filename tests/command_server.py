"""Runs commands for ``commands.run``: each in a process of its own, forked from one that has imported the large
libraries. Reads one JSON object a line, answers each with its exit status.
"""

import atexit
import importlib
import json
import os
import random
import runpy
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

LARGE = ("mlflow.pyfunc", "optuna", "lightning", "tuner.cli.models", "tuner.study.command", "tuner.train.use.examine")
PATIENCE = 120


def next_command() -> list[str]:
    """Fork for each line that comes; returns, in the new process, the words after ``python -m``."""
    while line := sys.stdin.readline():
        order = json.loads(line)
        if (pid := os.fork()) == 0:
            become(order)
            return list(order["words"])
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    raise SystemExit(0)


def become(order: dict[str, Any]) -> None:
    """Take over the folder, the environment and the files of a command, as a new process would have them."""
    signal.alarm(PATIENCE)
    os.chdir(str(order["folder"]))
    os.environ.clear()
    os.environ.update(order["env"])
    for number, name in enumerate((os.devnull, order["out"], order["err"])):
        opened = os.open(name, os.O_WRONLY if number else os.O_RDONLY)
        os.dup2(opened, number)
        os.close(opened)
    random.seed()


def end(code: object) -> NoReturn:
    """As the interpreter would, but for the two seconds that it takes to free each of the large libraries' objects."""
    if isinstance(code, str):
        print(code, file=sys.stderr)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    for name in LARGE:
        importlib.import_module(name)
    module, *words = next_command()
    sys.argv = [module, *words]
    sys.path[0] = str(Path.cwd())
    code: object = None
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as left:
        code = left.code
    end(code)
