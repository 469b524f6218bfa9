"""The dashboard as its visitors meet it: a server of its own on the loopback, and a real browser.
Starting and ending both; what is looked at, and how long it took, is said by whoever asked.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Collection, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from tuner.spec.errors import TunerError

NAMES = ("chromium", "chromium-browser", "google-chrome")
START_S = 60.0

_SWITCHES = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def missing() -> str:
    """Why there is no browser here, in a sentence; empty where there is one."""
    if find_spec("playwright") is None:
        return "no Playwright here: pip install 'tuner[browser]'"
    if _chromium() is None:
        return "no Chromium here: apt-get install chromium"
    return ""


def _chromium() -> str | None:
    return next((found for name in NAMES if (found := shutil.which(name))), None)


@contextlib.contextmanager
def browsing(idle: bool = False) -> Iterator[Any]:
    """A headless Chromium (a Playwright ``Browser``); with ``idle`` it and what drives it get a processor only where
    nothing else wants it, which is the nearest to a machine of its own (Linux alone).

    Raises:
        TunerError: there is none.
    """
    if sentence := missing():
        raise TunerError(f"{sentence}.")
    from playwright.sync_api import sync_playwright

    before = {one.pid for one in psutil.Process().children(recursive=True)}
    with sync_playwright() as playwright:
        if idle:  # before the launch: processes inherit it, and only root leaves it again
            for one in _others(before):
                os.sched_setscheduler(one.pid, os.SCHED_IDLE, os.sched_param(0))
        browser = playwright.chromium.launch(executable_path=_chromium(), args=_SWITCHES)
        if idle:
            for one in _others(before):
                _humble(one.pid)
        try:
            yield browser
        finally:
            browser.close()


def _others(before: Collection[int]) -> list[psutil.Process]:
    """What has been started below us since then."""
    return [one for one in psutil.Process().children(recursive=True) if one.pid not in before]


def _humble(pid: int) -> None:
    """Weigh the whole session of a process least, if it is not ours. Linux may share a processor out between sessions
    first, whatever class their processes have (man 7 sched, "The autogroup feature"), and a browser has its own.
    """
    with contextlib.suppress(OSError):  # it has ended; there is no such feature; or it is not ours to say
        if os.getsid(pid) != os.getsid(0):
            Path(f"/proc/{pid}/autogroup").write_text("19")


@contextlib.contextmanager
def serving(folder: Path, env: Mapping[str, str] | None = None) -> Iterator[str]:
    """The dashboard of the stores in ``folder``; yields its address (``http://127.0.0.1:port``), ends it at the end.

    Raises:
        TunerError: it did not come up.
    """
    with serving_process(folder, env) as (address, _):
        yield address


@contextlib.contextmanager
def serving_process(
    folder: Path, env: Mapping[str, str] | None = None
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """As ``serving``, with the server's process, for who wants to know what it costs."""
    port = free_port()
    words = [sys.executable, "-m", "app.serve", "--server.port", str(port)]  # as `tuner dashboard` starts it
    log = folder / "dashboard.log"
    with log.open("wb") as out:
        whole = {**os.environ, **(env or {})}
        process = subprocess.Popen(words, cwd=folder, stdout=out, stderr=subprocess.STDOUT, env=whole)
    address = f"http://127.0.0.1:{port}"
    try:
        await_answer(f"{address}/_stcore/health", process, log)
        yield address, process
    finally:
        ended(process)


def ended(process: subprocess.Popen[bytes]) -> None:
    """End a server: asked first, after 10 s made to."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def await_answer(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the server answers there.

    Raises:
        TunerError: it ended, or did not answer within START_S.
    """
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=2) as answer:
            if answer.status == 200:
                return
        time.sleep(0.1)
    said = log.read_text(errors="replace").strip().splitlines()[-1:]
    raise TunerError(f"the dashboard did not come up at {address}: {said[0] if said else 'it said nothing'}")


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
