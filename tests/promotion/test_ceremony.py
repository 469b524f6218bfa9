"""The ceremony with a real registry and ledger: whole or not at all, killed (-9) between any two writes or not."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from promotion_helpers import Bench, bench

from tuner.promotion.ceremony import replay
from tuner.promotion.ledger import Stage
from tuner.promotion.package.folder import verify
from tuner.promotion.registry import CHALLENGER, CHAMPION
from tuner.spec.errors import CheckpointError, PromotionError
from tuner.train.use.examine import prove

LABELS = ["uploaded", "named", "registered", "challenger", "intent", "champion", "done"]
SECOND = [label for label in LABELS if label != "named"]
"""What a second promotion of a model writes: it has its name already."""


@pytest.fixture(scope="module")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    made = bench(tmp_path_factory.mktemp("promotion") / "bench")
    made.package("first", 1, None)
    made.package("second", 2, 1)
    return made


def copy(place: Bench, name: str) -> Bench:
    """Store and registry as they are, in a folder of their own; artifacts stay where MLflow noted them."""
    return Bench(Path(shutil.copytree(place.folder, place.folder.with_name(name))), place.run)


@pytest.fixture
def place(_made: Bench, request: pytest.FixtureRequest) -> Bench:
    return copy(_made, f"of-{abs(hash(request.node.name))}")


def promote(place: Bench, name: str, seed: int, before: int | None) -> int:
    return place.ceremony().promote(*place.package(name, seed, before))


def sound(place: Bench, sha256: str, version: int) -> None:
    """The version is complete, is what was promoted, and generates text."""
    into = place.folder / "fetched"
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir()
    fetched = place.ceremony().registry.fetch("base", version, into)
    verify(fetched, sha256)
    prove(fetched)


def test_a_promotion_is_written_in_order_and_read_back(place: Bench) -> None:
    labels: list[str] = []
    proposal, package = place.package("first", 1, None)
    ceremony = place.ceremony(labels.append)
    assert ceremony.promote(proposal, package) == 1
    assert labels == LABELS
    assert ceremony.registry.aliases("base") == {CHAMPION: 1, CHALLENGER: 1}
    history = ceremony.ledger.history("base")
    assert [entry.stage for entry in history] == [Stage.INTENT, Stage.DONE]
    assert history[0].answers == proposal.answers
    assert history[0].candidate == proposal.candidate
    assert replay(history) == ceremony.registry.aliases("base")
    sound(place, proposal.sha256, 1)


def test_the_same_record_twice_is_one_promotion(place: Bench) -> None:
    promote(place, "first", 1, None)
    assert promote(place, "first", 1, None) == 1
    assert len(place.ceremony().registry.versions("base")) == 1
    assert len(place.ceremony().ledger.history("base")) == 2


def test_a_champion_moved_meanwhile_stops_the_write_and_is_named(place: Bench) -> None:
    promote(place, "first", 1, None)
    with pytest.raises(PromotionError, match="moved by first@test"):
        promote(place, "second", 2, None)
    ceremony = place.ceremony()
    assert ceremony.registry.champion("base") == 1
    assert ceremony.ledger.history("base")[-1].stage is Stage.STOPPED
    assert ceremony.pending("base") is None
    assert replay(ceremony.ledger.history("base")) == ceremony.registry.aliases("base")
    assert promote(place, "second", 2, 1) == 2


def test_a_champion_moved_by_hand_is_told_as_such(place: Bench) -> None:
    promote(place, "first", 1, None)
    promote(place, "second", 2, 1)
    place.ceremony().registry.point("base", CHAMPION, 1)
    with pytest.raises(PromotionError, match="moved by first@test"):
        place.ceremony().promote(*place.package("third", 3, 2))
    place.ceremony().registry.point("base", CHAMPION, 3)
    with pytest.raises(PromotionError, match="moved outside tuner"):
        place.ceremony().promote(*place.package("fourth", 4, 2))


def test_of_two_at_once_one_wins_and_the_other_is_told(place: Bench) -> None:
    promote(place, "first", 1, None)
    both = [place.package("second", 2, 1), place.package("third", 3, 1)]
    told: list[str] = []

    def go(which: int) -> None:
        try:
            told.append(f"version {place.ceremony().promote(*both[which])}")
        except PromotionError as error:
            told.append(str(error))

    threads = [threading.Thread(target=go, args=(which,)) for which in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    won, lost = sorted(told, key=lambda words: not words.startswith("version"))
    ceremony = place.ceremony()
    assert won == f"version {ceremony.registry.champion('base')}"
    assert "meanwhile" in lost or "moved by" in lost
    assert replay(ceremony.ledger.history("base")) == ceremony.registry.aliases("base")


def test_what_the_registry_gives_back_damaged_never_reigns(place: Bench) -> None:
    promote(place, "first", 1, None)
    proposal, package = place.package("second", 2, 1)
    weights = package / "artifacts" / "model" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match="damaged"):
        place.ceremony().promote(proposal, package)
    assert place.ceremony().registry.champion("base") == 1
    assert place.ceremony().undo("base", "me", "it is damaged") == 2
    assert place.ceremony().pending("base") is None
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    assert place.ceremony().promote(proposal, package) == 3


_KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from promotion_helpers import Bench
action, label, name, seed, before = sys.argv[4:9]
def step(reached):
    if reached == label:
        os.kill(os.getpid(), signal.SIGKILL)
place = Bench(Path(sys.argv[2]), sys.argv[3])
ceremony = place.ceremony(step)
if action == "promote":
    ceremony.promote(*place.package(name, int(seed), int(before) or None))
elif action == "resume":
    ceremony.resume("base", "resumer")
else:
    ceremony.undo("base", "undoer", "undone")
"""


def in_a_process(place: Bench, action: str, label: str, name: str = "second", seed: int = 2, before: int = 1) -> int:
    words = [str(Path(__file__).parent), str(place.folder), place.run, action, label, name, str(seed), str(before)]
    return subprocess.run([sys.executable, "-c", _KILLED, *words], timeout=120).returncode


def hold_the_law(place: Bench, old: int | None) -> None:
    """After any crash: the champion is the old one or a sound new one, and the ledger tells what is unfinished."""
    ceremony = place.ceremony()
    champion = ceremony.registry.champion("base")
    pending = ceremony.pending("base")
    if champion != old:
        proposal, _ = place.package("second", 2, 1)
        assert champion is not None
        sound(place, proposal.sha256, champion)
    told = replay(ceremony.ledger.history("base"))
    if pending is None:
        assert told == ceremony.registry.aliases("base")
    else:
        assert told.get(CHAMPION) == old
    assert ceremony.ledger.broken("base") is None


def end(place: Bench, undo: bool, old: int | None) -> None:
    """Resume or undo, whichever: both books agree, nothing is pending, and the model that reigns is sound."""
    ceremony = place.ceremony()
    was = ceremony.pending("base")
    reigned = ceremony.registry.champion("base")
    if undo:
        ceremony.undo("base", "undoer", "undone")
        assert ceremony.registry.champion("base") == (old if was else reigned)
    else:
        ceremony.resume("base", "resumer")
        assert ceremony.registry.champion("base") == (was.version if was else reigned)
    assert ceremony.pending("base") is None
    hold_the_law(place, old)


@pytest.mark.parametrize("undo", [False, True], ids=["resume", "undo"])
@pytest.mark.parametrize("label", LABELS[2:-1])
def test_killed_after_a_write_it_can_be_ended_either_way(place: Bench, label: str, undo: bool) -> None:
    promote(place, "first", 1, None)
    assert in_a_process(place, "promote", label) == -signal.SIGKILL
    assert place.ceremony().pending("base") is not None
    hold_the_law(place, 1)
    with pytest.raises(PromotionError, match="interrupted"):
        place.ceremony().promote(*place.package("third", 3, 1))
    end(place, undo, 1)
    assert promote(place, "second", 2, 1) == (3 if undo else 2)
    assert place.ceremony().registry.champion("base") == (3 if undo else 2)


@pytest.mark.parametrize("label", ["uploaded", "done"])
def test_killed_before_the_first_or_after_the_last_write_there_is_nothing_to_end(place: Bench, label: str) -> None:
    promote(place, "first", 1, None)
    assert in_a_process(place, "promote", label) == -signal.SIGKILL
    assert place.ceremony().pending("base") is None
    hold_the_law(place, 1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_kills_leave_no_half_promotion(place: Bench) -> None:
    """Each run: a promotion killed at a random write, then a resume or an undo killed too, then one that ends."""
    rng, clean = random.Random(4), place
    promote(clean, "first", 1, None)
    steps = {
        "resume": ["challenger", "intent", "champion", "done"],
        "undo": ["champion back", "challenger back", "undone"],
    }
    killed = 0
    while killed < 100:
        place = copy(clean, f"run-{killed}")
        killed += in_a_process(place, "promote", rng.choice(SECOND)) == -signal.SIGKILL
        hold_the_law(place, 1)
        action = rng.choice(list(steps))
        if rng.random() < 0.5:
            killed += in_a_process(place, action, rng.choice(steps[action])) == -signal.SIGKILL
            hold_the_law(place, 1)
        end(place, undo=rng.random() < 0.5, old=1)
    print(f"{killed} kills")
