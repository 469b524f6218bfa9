"""The services of docker-compose.yml: what their text promises, and their commands started as plain processes."""

from __future__ import annotations

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import STUDY, TUNER, run
from small_study import yaml as small_yaml

ROOT = Path(__file__).resolve().parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
BACKEND = "MLFLOW_BACKEND_STORE_URI"
REQUIRED = re.compile(r"\$\{POSTGRES_PASSWORD:\?[^}]+\}")


def test_no_port_is_open_to_others() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(str(port).startswith("127.0.0.1:") for port in ports)


def texts(value: Any) -> Iterator[str]:
    """Every text in a parsed YAML."""
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from texts(inner)
    elif isinstance(value, str):
        yield value


def test_no_password_has_a_default() -> None:
    given = [service["environment"].get("POSTGRES_PASSWORD") for service in SERVICES.values()]
    given += [found for text in texts(COMPOSE) for found in re.findall(r"://\w+:(.+)@", text)]
    asked = [one for one in given if one is not None]
    assert len(asked) >= 4
    assert "://tuner:" not in str([service.get("command") for service in SERVICES.values()]), "others read it there"
    assert all(REQUIRED.fullmatch(one) for one in asked), asked


def test_mlflow_and_the_trial_store_are_kept_apart_whatever_the_user_is_called() -> None:
    urls = [SERVICES["mlflow"]["environment"][BACKEND], SERVICES["tuner"]["environment"]["TUNER_STORAGE"]]
    schemas = [re.findall(r"search_path%3D(\w+)$", url)[0] for url in urls]
    assert len({*schemas, SERVICES["postgres"]["environment"]["POSTGRES_USER"]}) == 3


def test_images_are_pinned_and_run_without_privileges() -> None:
    froms = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    images = froms + [service["image"] for service in SERVICES.values()]
    assert all(re.search(r":\d+\.\d+", image) for image in images), images
    assert re.findall(r"^USER (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[-1] == "tuner"
    for name, service in SERVICES.items():
        assert name == "postgres" or service["cap_drop"] == ["ALL"]


def test_services_are_watched_and_wait_for_what_they_need() -> None:
    for service in SERVICES.values():
        if "search" not in service.get("profiles", []):
            assert "healthcheck" in service
            assert service["restart"] == "unless-stopped"
        for needed, how in service.get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"}
            assert "healthcheck" in SERVICES[needed]
    assert "postgres" in SERVICES["mlflow"]["depends_on"]
    assert {"postgres", "mlflow"} == set(SERVICES["tuner"]["depends_on"]) == set(SERVICES["dashboard"]["depends_on"])


def test_what_is_worth_keeping_is_in_named_volumes() -> None:
    mounted = [volume.split(":") for service in SERVICES.values() for volume in service.get("volumes", [])]
    assert {name for name, *_ in mounted if not name.startswith((".", "$"))} == set(COMPOSE["volumes"])
    assert ["runs", "/work/runs"] in mounted
    assert ["artifacts", "/artifacts"] in mounted
    assert ["postgres", "/var/lib/postgresql/data"] in mounted


def test_the_image_gets_what_it_copies_and_no_data() -> None:
    copied = re.findall(r"^COPY (.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {word for words in copied for word in words.split()} == allowed
    assert all((ROOT / word).exists() for word in allowed)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def up(folder: Path, database: str) -> Iterator[dict[str, str]]:
    """MLflow's server and the dashboard by their commands in docker-compose.yml; yields the settings of a search."""
    places = {"mlflow": free_port(), "dashboard": free_port()}
    settings = {**SERVICES["tuner"]["environment"], "TUNER_ACTOR": "ann@desk"}
    settings["TUNER_STORAGE"] = f"{database}&{settings['TUNER_STORAGE'].split('?')[-1]}"
    settings["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{places['mlflow']}"
    started = []
    try:
        for name, port in places.items():
            own = {**SERVICES[name]["environment"], **(settings if name == "dashboard" else {})}
            if name == "mlflow":
                own[BACKEND] = f"{database}&{own[BACKEND].split('?')[-1]}"
            words = [re.sub(r"^--(server\.)?port=\d+", rf"--\1port={port}", word) for word in SERVICES[name]["command"]]
            words = [
                word.replace("=/artifacts", f"={folder}/artifacts").replace("0.0.0.0", "127.0.0.1") for word in words
            ]
            program = [sys.executable, "-m", "mlflow"] if words[0] == "mlflow" else [sys.executable]
            with (folder / f"{name}.log").open("ab") as log:
                started.append(
                    subprocess.Popen(
                        [*program, *words[1:]],
                        cwd=folder,
                        env={**os.environ, **own},
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                    )
                )
            (path,) = re.findall(r"http://127.0.0.1:\d+(/\S+?)'", " ".join(SERVICES[name]["healthcheck"]["test"]))
            healthy(f"http://127.0.0.1:{port}{path}", folder / f"{name}.log")
        yield settings
    finally:
        for process in started:
            os.killpg(process.pid, signal.SIGTERM)
        for process in started:
            process.wait(30)


def healthy(address: str, log: Path) -> None:
    until = time.monotonic() + 90
    while True:
        try:
            with urllib.request.urlopen(address, timeout=3):
                return
        except OSError:
            assert time.monotonic() < until, log.read_text()[-3000:]
            time.sleep(0.2)


@pytest.mark.slow
def test_a_study_goes_through_the_services_and_survives_down_and_up(
    tmp_path: Path, text_file: Path, postgres: str
) -> None:
    (tmp_path / "small.yaml").write_text(small_yaml(text_file))
    with up(tmp_path, postgres) as settings:
        first = run(tmp_path, *STUDY, **settings)
        assert first.returncode == 0, first.stdout + first.stderr
        crowned = run(tmp_path, *TUNER, "promote", "small", "--best", "--reason", "first", **settings)
        assert crowned.returncode == 0, crowned.stderr
    with up(tmp_path, postgres) as settings:
        again = run(tmp_path, *STUDY, **settings)
        assert "is complete: 3 of 3 trials" in again.stdout, again.stdout + again.stderr
        words = ["generate", "tiny", "--prompt", "the cat ", "--max-tokens", "10"]
        assert run(tmp_path, *TUNER, *words, **settings).stdout.startswith("the cat ")
        sound = run(tmp_path, *TUNER, "doctor", **settings)
        assert sound.returncode == 0, sound.stdout
    assert not list(tmp_path.glob("*.db"))


@contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """The profile ``ray`` by its commands in docker-compose.yml; yields the settings of a search, and ``address``."""
    ports = {"6379": str(free_port()), "10001": str(free_port())}
    program, started = Path(sys.executable).with_name("ray"), []
    asked = {name: SERVICES["ray-head"]["environment"][name] for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")}
    assert all(
        service["environment"].items() >= asked.items() for service in (SERVICES["ray-worker"], SERVICES["tuner"])
    )
    secret = {**asked, "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    env = {**os.environ, **secret}

    def here(words: list[str]) -> list[str]:
        words = [word.replace("ray-head", "127.0.0.2").replace("${RAY_WORKER_CPUS:-2}", "2") for word in words]
        return [re.sub(r"\b(6379|10001)$", lambda found: ports[found[0]], word) for word in words]

    def healthy_node(name: str) -> None:
        words = [str(program), *here(SERVICES[name]["healthcheck"]["test"])[2:]]
        until = time.monotonic() + 90
        while subprocess.run(words, capture_output=True, env=env).returncode:
            assert time.monotonic() < until, (folder / f"{name}.log").read_text()[-3000:]
            time.sleep(0.5)

    try:
        for name in ("ray-head", "ray-worker"):
            words = [str(program), *here(SERVICES[name]["command"])[1:], "--node-ip-address=127.0.0.2"]
            with (folder / f"{name}.log").open("ab") as log:
                started.append(subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True, env=env))
            healthy_node(name)
        yield {**secret, "address": f"ray://127.0.0.2:{ports['10001']}"}
    finally:
        for process in reversed(started):
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@pytest.mark.slow
def test_a_study_goes_through_the_ray_profile(tmp_path: Path, text_file: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (pip install -e '.[ray]')")
    (tmp_path / "small.yaml").write_text(small_yaml(text_file))
    with cluster(tmp_path) as settings:
        address = settings.pop("address")
        ended = run(tmp_path, *STUDY, "--ray", address, **settings)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"on the Ray cluster {address}" in " ".join(ended.stdout.split())
    assert "3 complete" in ended.stdout
    sound = run(tmp_path, *TUNER, "doctor")
    assert sound.returncode == 0, sound.stdout
