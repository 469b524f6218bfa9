"""One job that is no trial, in a plain process of its own: ``call`` on this side, ``python -m`` on the other.
Not multiprocessing's spawn, which runs the caller's main script again: under Streamlit that is the page itself.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from tuner.run.hands.link import Job
from tuner.run.hands.local import deaf
from tuner.run.hands.workers import Died
from tuner.spec.errors import TunerError
from tuner.spec.records import Preparing

ROOT = Path(__file__).resolve().parents[3]
"""The folder that ``tuner`` is imported from."""


def call(job: Job, preparing: Callable[[Preparing], None] = lambda work: None, patience: float | None = None) -> object:
    """Run one job in a process of its own and return its answer; ``patience`` is in seconds, None for ever.

    Raises:
        TunerError: the process died, or was ended after ``patience``; a TunerError that it answers with is returned.
    """
    ours, theirs = multiprocessing.Pipe()
    words = [sys.executable, "-m", "tuner.run.hands.once", str(theirs.fileno())]
    with deaf():
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(),), env=_environment())
    theirs.close()
    try:
        ours.send(job)
        while ours.poll(patience):
            message = ours.recv()
            if not isinstance(message, Preparing):
                return message
            preparing(message)
    except (EOFError, ConnectionError):
        raise TunerError(f"while preparing: {Died(process.wait()).sentence}; run the same command again.") from None
    finally:
        process.kill()
        process.wait()
        ours.close()
    raise TunerError(f"no answer within {patience:.0f} s; the process was ended.")


def _environment() -> dict[str, str]:
    """Ours, and a checkout that was never installed can be imported too.

    Not our sys.path: that of a server of pages begins with their folder, where a name may hide one of the library.
    """
    if ROOT.name in ("site-packages", "dist-packages"):
        return dict(os.environ)
    paths = [path for path in (os.environ.get("PYTHONPATH"), str(ROOT)) if path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def main() -> None:
    """The other side: the job comes by the inherited pipe, and so does its answer go."""
    from tuner.run.hands.worker import work

    pipe = Connection(int(sys.argv[1]))
    work(pipe.recv(), pipe, "cpu", None)


if __name__ == "__main__":
    main()
