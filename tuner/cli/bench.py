"""The doors of ``tuner bench``: each measures one thing side by side with something outside ourselves.
Options and one call each; the measuring is done in tuner/bench/.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tuner.spec.errors import SpecError
from tuner.study.command import errors_as_sentences

bench = typer.Typer(help="Measure this machine against something outside ourselves.", no_args_is_help=True)


@bench.command("trial")
def bench_trial(
    pairs: Annotated[int, typer.Option(min=1, help="alternating pairs; the median counts")] = 5,
    steps: Annotated[int, typer.Option(min=20, help="optimizer steps of a trial")] = 400,
    depth: Annotated[int, typer.Option(min=1)] = 4,
    width: Annotated[int, typer.Option(min=8)] = 128,
    context: Annotated[int, typer.Option(min=2, help="tokens a sequence")] = 64,
    batch: Annotated[int, typer.Option(min=1, help="sequences a step")] = 12,
    optim: Annotated[str, typer.Option(help="adamw or muon")] = "adamw",
    threads: Annotated[int | None, typer.Option(min=1, help="of each side [default: all cores]")] = None,
) -> None:
    """A whole trial, with tracking, milestones and checkpoints, against the same model in a bare PyTorch loop."""
    from tuner.bench.lab import Case
    from tuner.bench.trial import compare_trial
    from tuner.run.hands.limits import cores

    with errors_as_sentences():
        compare_trial(Case(depth, width, batch, context, steps), pairs, optim, threads or cores())


@bench.command("generate")
def bench_generate(
    pairs: Annotated[int, typer.Option(min=1, help="alternating pairs; the median counts")] = 5,
    depth: Annotated[int, typer.Option(min=1)] = 4,
    width: Annotated[int, typer.Option(min=8)] = 128,
    context: Annotated[int, typer.Option(min=2, help="tokens the model sees")] = 256,
    tokens: Annotated[int, typer.Option(min=1, help="tokens to generate")] = 256,
) -> None:
    """Tokens a second of generation with the key-value cache, against recomputing the window for each token."""
    from tuner.bench.generate import compare_generation

    with errors_as_sentences():
        compare_generation(pairs, depth, width, context, tokens)


@bench.command("overfit")
def bench_overfit(
    text: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="a UTF-8 text")],
    kilobytes: Annotated[int, typer.Option(min=10, help="so much of its beginning")] = 100,
    epochs: Annotated[int, typer.Option(min=1, help="how often it is read")] = 30,
    seeds: Annotated[int, typer.Option(min=1, help="trials of each option")] = 3,
) -> None:
    """Dropout, weight decay, label smoothing and each augmentation on a text that a model can learn by heart."""
    from tuner.bench.learning.overfit import compare_options
    from tuner.run.hands.limits import cores

    with errors_as_sentences():
        compare_options(text.absolute(), kilobytes, epochs, seeds, cores())


@bench.command("descend")
def bench_descend(
    text: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="a UTF-8 text to go on with")],
    first: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="what was read before [default: Python's source]")
    ] = None,
    depth: Annotated[int, typer.Option(min=2)] = 4,
    width: Annotated[int, typer.Option(min=8)] = 128,
    budget: Annotated[str, typer.Option(help="of the ancestor, and of its students")] = "2M tokens",
    more: Annotated[str, typer.Option(help="of those that go on with the other text")] = "500k tokens",
    seeds: Annotated[int, typer.Option(min=1, help="trials of each kind")] = 3,
    students: Annotated[bool, typer.Option(help="also those of half the depth")] = True,
) -> None:
    """A trained model that goes on with another text against a fresh one, and its students of half the depth."""
    from tuner.bench.learning.descend import compare_descent

    with errors_as_sentences():
        before = None if first is None else first.absolute()
        compare_descent(before, text.absolute(), depth, width, (budget, more), seeds, students)


@bench.command("compress")
def bench_compress(
    text: Annotated[Path | None, typer.Option(help="a text [default: the standard library's source]")] = None,
    depth: Annotated[int, typer.Option(help="layers")] = 4,
    width: Annotated[int, typer.Option(help="width")] = 128,
    budget: Annotated[str, typer.Option(help="of the model, and of a part of it")] = "2M tokens",
    recovery: Annotated[str, typer.Option(help="of what keeps its shape")] = "400k tokens",
    seeds: Annotated[int, typer.Option(help="trials a way")] = 3,
) -> None:
    """What making a model smaller costs: bits, zeros, heads and neurons, layers, each with its loss, bytes and pace."""
    from tuner.bench.learning.compress import compare_sizes

    with errors_as_sentences():
        compare_sizes(text and text.resolve(), depth, width, (budget, recovery), seeds)


@bench.command("classify")
def bench_classify(
    classes: Annotated[int, typer.Option(min=2, help="packages of the standard library to tell apart")] = 10,
    labels: Annotated[int, typer.Option(min=20, help="docstrings whose package is told")] = 200,
    depth: Annotated[int, typer.Option(min=1)] = 4,
    width: Annotated[int, typer.Option(min=8)] = 128,
    budget: Annotated[str, typer.Option(help="of the trunk")] = "3M tokens",
    more: Annotated[str, typer.Option(help="of a classifier")] = "200k tokens",
    seeds: Annotated[int, typer.Option(min=1, help="trials of each kind")] = 3,
) -> None:
    """Classifiers whose trunk has read unlabelled source against the same ones begun from nothing; few labels."""
    from tuner.bench.learning.classify import compare_trunks

    with errors_as_sentences():
        compare_trunks(classes, labels, depth, width, (budget, more), seeds)


@bench.command("shapes")
def bench_shapes(rounds: Annotated[int, typer.Option(min=1, help="rounds in turns; the median counts")] = 3) -> None:
    """Tokens a second: precision auto against fp32 and bf16, and workers against threads, for a few shapes."""
    from tuner.bench.shapes import LARGE, MIDDLE, SMALL, compare_shapes

    with errors_as_sentences():
        compare_shapes(rounds, [MIDDLE, LARGE], [SMALL, MIDDLE, LARGE])


@bench.command("workers")
def bench_workers(
    pairs: Annotated[int, typer.Option(min=1, help="alternating pairs; the median counts")] = 3,
) -> None:
    """Tokens a second: two workers of one thread against one worker of two threads, at width 128."""
    from tuner.bench.shapes import MIDDLE, compare_ways

    with errors_as_sentences():
        compare_ways(pairs, [MIDDLE], [(1, 2), (2, 1)])


@bench.command("repeats")
def bench_repeats(
    studies: Annotated[int, typer.Option(min=1, help="simulated studies")] = 50,
    trials: Annotated[int, typer.Option(min=2, help="trials of each")] = 200,
    top: Annotated[int, typer.Option(min=1, help="settings run again")] = 3,
    seeds: Annotated[int, typer.Option(min=2, help="seeds of each then")] = 3,
) -> None:
    """Simulated: the true rank of what one seed would ship, and of what the repeats of the best would."""
    from tuner.bench.search.repeats import compare_repeats

    with errors_as_sentences():
        compare_repeats(studies, trials, top, seeds)


@bench.command("search")
def bench_search(
    seeds: Annotated[int, typer.Option(min=1, help="simulated studies of each rival")] = 20,
    trials: Annotated[int, typer.Option(min=10, help="trials of each at most")] = 150,
    text: Annotated[Path | None, typer.Option(help="not simulated: a text to train on, ours against one rival")] = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="with --text: of each study")] = 25.0,
    seed: Annotated[int, typer.Option(min=0, help="with --text: of both studies")] = 1,
) -> None:
    """What a search spends until it is near the best: ours, random, Optuna's, keep-top-K; simulated, or on a text."""
    from tuner.bench.search.race import race
    from tuner.bench.search.real import race_for_real

    with errors_as_sentences():
        if text is None:
            race(seeds, trials)
        else:
            race_for_real(text, minutes, [seed])


@bench.command("prior")
def bench_prior(
    text: Annotated[Path | None, typer.Option(help="another text, beside the standard library's source")] = None,
    trials: Annotated[int, typer.Option(min=3, help="random trials that the first guess is ranked among")] = 60,
    seeds: Annotated[int, typer.Option(min=1, help="simulated studies with each prior")] = 20,
) -> None:
    """Is the first guess good, and does a wrong prior cost much?"""
    from tuner.bench.search.guess import compare_wrong, rank_guess

    with errors_as_sentences():
        compare_wrong(seeds, 60)
        rank_guess(text, trials)


@bench.command("traps")
def bench_traps(
    trials: Annotated[int, typer.Option(min=3, help="real trials in a space that does not all fit into 2 GB")] = 40,
    seeds: Annotated[int, typer.Option(min=1, help="simulated studies in a space that does not all converge")] = 20,
) -> None:
    """What a search loses to trials that memory cannot hold, or that diverge: deaths, refusals, shares by thirds."""
    from tuner.bench.search.traps import measure_divergence, measure_memory

    with errors_as_sentences():
        measure_divergence(seeds, 60)
        measure_memory(trials)


@bench.command("scale")
def bench_scale(
    storage: Annotated[str | None, typer.Option(help="a PostgreSQL; a schema is made there and removed")] = None,
    workers: Annotated[list[int] | None, typer.Option(min=1, help="simulated workers [default: 1, 8, 64, 512]")] = None,
    rate: Annotated[float, typer.Option(min=0.1, help="reports a second of the most of them, in real time")] = 50.0,
    seconds: Annotated[float, typer.Option(min=1, help="of that")] = 60.0,
    trials: Annotated[
        list[int] | None, typer.Option(min=10, help="trials in a store [default: 1,000, 10,000 and 100,000]")
    ] = None,
) -> None:
    """One driver with hundreds of simulated workers, and with many trials in its store: SQLite or PostgreSQL."""
    from tuner.bench.scale.reach import measure_reach

    with errors_as_sentences():
        measure_reach(storage, workers or [1, 8, 64, 512], rate, seconds, trials or [1_000, 10_000, 100_000])


@bench.command("tracking")
def bench_tracking(
    pairs: Annotated[int, typer.Option(help="alternating rounds; the median counts")] = 3,
) -> None:
    """Training time and exit delay with MLflow present, absent from the start, and none at all."""
    from tuner.bench.tracking import compare_tracking

    compare_tracking(pairs)


@bench.command("data")
def bench_data(megabytes: Annotated[int, typer.Option("--mb", help="size of the text")] = 200) -> None:
    """Time and peak memory of tokenising a large text file."""
    from tuner.bench.data import measure_tokenising

    measure_tokenising(megabytes)


@bench.command("dashboard")
def bench_dashboard(
    trials: Annotated[str, typer.Option(help="sizes of the studies, separated by commas")] = "10,1000,10000",
    loads: Annotated[int, typer.Option(min=1, help="loads of each; their 75th percentile counts")] = 10,
    beside: Annotated[bool, typer.Option(help="set the first chart beside optuna-dashboard's")] = True,
) -> None:
    """The dashboard's targets in a real browser: seconds until numbers, chart, table, another filter, another page."""
    from tuner.bench.pages.targets import measure_targets

    with errors_as_sentences():
        measure_targets(_sizes(trials), loads, beside)


def _sizes(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() and 0 < int(word) <= 100_000 for word in words):
        raise SpecError(f"--trials: expected whole numbers from 1 to 100000 such as 10,1000,10000, got {text!r}.")
    return [int(word) for word in words]


@bench.command("watch")
def bench_watch(
    browsers: Annotated[int, typer.Option(min=1, help="pages that watch, each in a browser of its own")] = 5,
    pairs: Annotated[int, typer.Option(min=1, help="alternating pairs; the median counts")] = 5,
    by_page: Annotated[bool, typer.Option(help="also what the server takes for each page")] = True,
) -> None:
    """Training speed of a real study with browsers on its dashboard, against the same study alone."""
    from tuner.bench.pages.watch import compare_watching

    with errors_as_sentences():
        compare_watching(browsers, pairs, by_page)
