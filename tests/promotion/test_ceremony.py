"""The ceremony with a real registry and ledger: whole or not at all, killed (-9) between any two writes or not."""

from __future__ import annotations

import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from cases import few
from promotion_helpers import Bench, bench

from tuner.promotion.ledger import Ledger, Stage
from tuner.promotion.package.folder import verify
from tuner.promotion.truth import CHALLENGER, CHAMPION, Pending, replay
from tuner.spec.errors import CheckpointError, PromotionError
from tuner.tracking.store import connect
from tuner.train.use.examine import prove

LABELS = ["begun", "uploaded", "named", "registered", "challenger", "intent", "champion", "done"]
SECOND = [label for label in LABELS if label != "named"]
"""What a second promotion of a model writes: it has its name already."""

BOTH = [("begun", False), ("uploaded", True), ("challenger", True), ("intent", False)]
"""The label that a promotion is killed at, and whether it is undone then."""


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
    assert [entry.stage for entry in history] == [Stage.BEGUN, Stage.INTENT, Stage.DONE]
    assert history[0].answers == proposal.answers
    assert history[0].candidate == proposal.candidate
    assert replay(history) == ceremony.registry.aliases("base")
    sound(place, str(proposal.candidate["sha256"]), 1)


def test_a_champion_moved_before_the_first_write_is_named_and_nothing_is_written(place: Bench) -> None:
    promote(place, "first", 1, None)
    before = place.ceremony().ledger.history("base")
    with pytest.raises(PromotionError, match="moved by first@test"):
        promote(place, "second", 2, None)
    assert place.ceremony().registry.champion("base") == 1
    assert place.ceremony().ledger.history("base") == before
    assert promote(place, "second", 2, 1) == 2


def test_a_champion_moved_between_the_writes_stops_them(place: Bench) -> None:
    promote(place, "first", 1, None)
    promote(place, "second", 2, 1)

    def meddle(label: str) -> None:
        if label == "intent":
            place.ceremony().registry.point("base", CHAMPION, 1)

    with pytest.raises(PromotionError, match="moved by first@test"):
        place.ceremony(meddle).promote(*place.package("third", 3, 2))
    ceremony = place.ceremony()
    assert ceremony.registry.champion("base") == 1
    assert ceremony.ledger.history("base")[-1].stage is Stage.STOPPED
    assert ceremony.pending("base") is None
    ceremony.registry.point("base", CHAMPION, 3)
    with pytest.raises(PromotionError, match="moved outside tuner"):
        place.ceremony().promote(*place.package("fourth", 4, 1))


def test_another_store_on_the_same_registry_sees_nothing_to_end(place: Bench) -> None:
    """Two ledgers, one MLflow: what one has promoted is no interrupted promotion to the other."""
    promote(place, "first", 1, None)
    sqlite3.connect(place.folder / "other.db").execute("CREATE TABLE other (x)").close()
    other = replace(place.ceremony(), ledger=Ledger(f"sqlite:///{place.folder}/other.db"))
    assert other.pending("base") is None
    assert not other.undo("base", "me", "x")
    assert other.registry.champion("base") == 1


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
    ceremony = place.ceremony()
    assert ceremony.registry.aliases("base") == {CHAMPION: 1, CHALLENGER: 1}
    assert ceremony.ledger.history("base")[-1].stage is Stage.STOPPED
    assert ceremony.pending("base") is None
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    assert place.ceremony().promote(proposal, package) == 3


def test_going_on_that_fails_leaves_it_to_be_ended(place: Bench) -> None:
    """An alias may have moved already: what does not verify now, or for want of a registry, is not over."""
    promote(place, "first", 1, None)

    class Stop(BaseException):
        pass

    def stop(label: str) -> None:
        if label == "champion":
            raise Stop

    with pytest.raises(Stop):
        place.ceremony(stop).promote(*place.package("second", 2, 1))

    def refuse(folder: Path) -> None:
        raise CheckpointError("no memory to load it")

    with pytest.raises(CheckpointError):
        replace(place.ceremony(), prove=refuse).resume("base", "me")
    ceremony = place.ceremony()
    assert ceremony.pending("base") is not None
    assert ceremony.undo("base", "me", "it does not load")
    assert ceremony.registry.champion("base") == 1
    assert replay(ceremony.ledger.history("base")) == ceremony.registry.aliases("base")


@pytest.mark.parametrize("label", ["uploaded", "registered"])
def test_interrupted_before_an_alias_moves_it_is_over_and_may_be_begun_again(place: Bench, label: str) -> None:
    def interrupt(reached: str) -> None:
        if reached == label:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        place.ceremony(interrupt).promote(*place.package("first", 1, None))
    ceremony = place.ceremony()
    assert ceremony.pending("base") is None
    assert ceremony.ledger.history("base")[-1].reason == "interrupted"
    promote(place, "first", 1, None)


@pytest.mark.long
@pytest.mark.parametrize("gone", [1, 2])
def test_a_version_deleted_by_hand_does_not_block_the_model(place: Bench, gone: int) -> None:
    promote(place, "first", 1, None)
    assert in_a_process(place, "promote", "champion") == -signal.SIGKILL
    client = connect(place.uri)
    client.delete_model_version("base", str(gone))
    ceremony = place.ceremony()
    assert ceremony.undo("base", "me", "it is gone")
    assert ceremony.pending("base") is None
    assert ceremony.registry.champion("base") == (None if gone == 1 else 1)
    assert promote(place, "third", 3, None if gone == 1 else 1) == 3


_KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from promotion_helpers import Bench
action, label, name, seed, before = sys.argv[4:9]
seed, before = int(seed), int(before) or None
def step(reached):
    if reached == label:
        os.kill(os.getpid(), signal.SIGKILL)
place = Bench(Path(sys.argv[2]), sys.argv[3])
ceremony = place.ceremony(step)
if action == "promote":
    ceremony.promote(*place.package(name, seed, before))
elif action == "rollback":
    from dataclasses import replace
    ceremony.rollback(replace(place.package(name, seed, before)[0], action="rollback"), seed)
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
        assert champion is not None
        begun = next(row for row in reversed(ceremony.ledger.history("base")) if row.stage is Stage.BEGUN)
        sound(place, str(begun.candidate["sha256"]), champion)
    told = replay(ceremony.ledger.history("base"))
    if pending is None:
        assert told == ceremony.registry.aliases("base")
    else:
        assert told.get(CHAMPION) == old
    assert ceremony.ledger.broken("base") is None


def registered(place: Bench, pending: Pending) -> int | None:
    """The version of an interrupted ceremony, as the registry's tags tell it."""
    if pending.begun.after is not None:  # a rollback
        return pending.begun.after
    versions = place.ceremony().registry.versions("base")
    return next((one.number for one in versions if one.begun == pending.begun.seal), None)


def end(place: Bench, undo: bool, old: int | None) -> None:
    """Resume or undo, whichever: both books agree, nothing is pending, and the model that reigns is sound."""
    ceremony = place.ceremony()
    was = ceremony.pending("base")
    reigned = ceremony.registry.champion("base")
    if was is not None and not undo and not registered(place, was):
        with pytest.raises(PromotionError, match="before its version was registered"):
            ceremony.resume("base", "resumer")
        undo = True
    if undo:
        assert ceremony.undo("base", "undoer", "undone") is (was is not None)
        assert ceremony.registry.champion("base") == (old if was else reigned)
    else:
        assert ceremony.resume("base", "resumer") == (registered(place, was) if was else None)
        assert ceremony.registry.champion("base") == (registered(place, was) if was else reigned)
    assert ceremony.pending("base") is None
    hold_the_law(place, old)


@pytest.mark.parametrize(("label", "undo"), few(("champion", True), ("registered", False), *BOTH))
def test_killed_after_a_write_it_can_be_ended_either_way(place: Bench, label: str, undo: bool) -> None:
    promote(place, "first", 1, None)
    assert in_a_process(place, "promote", label) == -signal.SIGKILL
    assert place.ceremony().pending("base") is not None
    hold_the_law(place, 1)
    with pytest.raises(PromotionError, match="has not ended"):
        place.ceremony().promote(*place.package("third", 3, 1))
    with pytest.raises(PromotionError, match="--resume` goes on"):
        promote(place, "second", 2, 1)
    end(place, undo, 1)
    now = place.ceremony().registry.champion("base")
    assert promote(place, "third", 3, now) == len(place.ceremony().registry.versions("base"))


@pytest.mark.long
def test_killed_after_the_last_write_there_is_nothing_to_end(place: Bench) -> None:
    promote(place, "first", 1, None)
    assert in_a_process(place, "promote", "done") == -signal.SIGKILL
    assert place.ceremony().pending("base") is None
    hold_the_law(place, 1)


@pytest.mark.parametrize(("label", "undo"), few(("champion", False), ("begun", False), ("challenger", True)))
def test_a_rollback_killed_can_be_ended_either_way(place: Bench, label: str, undo: bool) -> None:
    promote(place, "second", 2, None)
    promote(place, "first", 1, 1)
    assert in_a_process(place, "rollback", label, "second", 1, 2) == -signal.SIGKILL
    ceremony = place.ceremony()
    assert ceremony.pending("base") is not None
    if undo:
        assert ceremony.undo("base", "me", "no")
    else:
        assert ceremony.resume("base", "me") == 1
    assert ceremony.registry.champion("base") == (2 if undo else 1)
    assert replay(ceremony.ledger.history("base")) == ceremony.registry.aliases("base")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_kills_leave_no_half_promotion(place: Bench) -> None:
    """Each run: a promotion or a rollback killed at a random write, then a resume or an undo killed too, then one that
    ends.
    """
    rng, clean = random.Random(4), place
    promote(clean, "second", 2, None)
    promote(clean, "first", 1, 1)
    steps = {
        "resume": ["challenger", "intent", "champion", "done"],
        "undo": ["champion back", "challenger back", "tagged", "undone"],
    }
    killed = 0
    while killed < 100:
        place = copy(clean, f"run-{killed}")
        if rng.random() < 0.7:
            killed += in_a_process(place, "promote", rng.choice(SECOND), "third", 3, 2) == -signal.SIGKILL
        else:
            label = rng.choice(["begun", "challenger", "intent", "champion", "done"])
            killed += in_a_process(place, "rollback", label, "second", 1, 2) == -signal.SIGKILL
        hold_the_law(place, 2)
        action = rng.choice(list(steps))
        if rng.random() < 0.5:
            killed += in_a_process(place, action, rng.choice(steps[action])) == -signal.SIGKILL
            hold_the_law(place, 2)
        end(place, undo=rng.random() < 0.5, old=2)
    print(f"{killed} kills")
