"""What a text is before anybody trains on it: ``tuner data`` builds the corpus that trials will use, and tells of it.
It prints; what is counted is counted where the corpus is built.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tuner.spec.errors import short
from tuner.spec.load import load
from tuner.spec.parts.data import DataSpec
from tuner.spec.records import CorpusInfo, Preparing
from tuner.study.prepare import ancestry
from tuner.train.examples import class_counts
from tuner.train.text.corpus import corpus_report, open_corpus
from tuner.train.text.mixed.mixture import open_mixed, require_foreign
from tuner.train.text.prepare.watch import require_apart, strangeness

_NAMED = 10  # classes whose texts are counted before the eyes; the others are in --json

_PARTS = ("training", "validation", "test")


def tell_text(yaml: Path, overrides: list[str], runs: Path, as_json: bool) -> None:
    """Build the corpus of the YAML's ``data``, as it stands under ``trial``, unless it is there, and print its report.

    Raises:
        SpecError: the YAML is wrong.
        DataError: the text cannot be read, nothing is left of it, or its parts are the same text.
    """
    data = load(yaml, overrides, ancestry(runs, None, keep=False)).trial.data
    waiting = Console(stderr=True)

    def progress(work: Preparing) -> None:
        if waiting.is_terminal:
            share = "" if work.fraction is None else f" {work.fraction:.0%}"
            waiting.print(Text(f"{work.task}{share}"), end="\r", soft_wrap=True)

    corpus = open_corpus(data, runs / ".corpora", progress)
    mixed, info = open_mixed(data, corpus, runs / ".corpora", progress), corpus.info
    report = corpus_report(Path(info.folder))
    if as_json:
        told = {name: _facts(one.info, corpus_report(Path(one.info.folder))) for name, one in mixed.items()}
        more = {"classes": class_counts(corpus, data), "mix": told}
        print(json.dumps({**_facts(info, report), **{name: one for name, one in more.items() if one}}, indent=1))
        return
    console = Console()
    console.print(_table(info, report))
    classes = [_classes(*one, info.documents[0]) for one in class_counts(corpus, data).items()]
    for sentence in (*classes, *_sentences(data, report)):
        console.print(Text(sentence))
    for name, one in mixed.items():
        console.print(
            _table(one.info, corpus_report(Path(one.info.folder)), f"{name}, {data.mix[name].share:.0%} mixed in: ")
        )
    require_apart(report.get("overlap", {}), data.overlap)
    require_foreign(data)


def _facts(info: CorpusInfo, report: dict[str, Any]) -> dict[str, Any]:
    parts = {
        part: {"documents": info.documents[k], "bytes": info.bytes[k], "tokens": info.tokens[k]}
        for k, part in enumerate(_PARTS)
    }
    return {"fingerprint": info.fingerprint, "vocab": info.vocab, "parts": parts, **report}


def _table(info: CorpusInfo, report: dict[str, Any], name: str = "") -> Table:
    table = Table(title=f"{name}corpus {info.fingerprint}, vocabulary {info.vocab:,}", title_justify="left")
    table.add_column("")
    names = ("documents", "bytes", "tokens", "bytes a token", "also in training")
    for name in names:
        table.add_column(name, justify="right")
    shares = [None, *(report.get("overlap", {}).get(part) for part in ("val", "test"))]
    for k, part in enumerate(_PARTS):
        size, tokens = info.bytes[k], info.tokens[k]
        share = "-" if shares[k] is None else f"{shares[k]:.1%}"
        documents = f"{info.documents[k]:,}" if sum(info.documents) else "-"
        table.add_row(part, documents, f"{size:,}", f"{tokens:,}", f"{size / tokens:.2f}" if tokens else "-", share)
    return table


def _classes(column: str, counts: dict[str, int], texts: int) -> str:
    often = sorted(counts, key=counts.__getitem__, reverse=True)
    told = [f"{short(name, 40)} {counts[name]:,}" for name in often[:_NAMED]]
    more = f" and {len(often) - _NAMED:,} more" if len(often) > _NAMED else ""
    said = sum(counts.values())
    known = "" if said == texts else f", told of {said:,} of {texts:,}"
    return f"{column}, {len(often):,} classes in training: {', '.join(told)}{more}{known}"


def _sentences(data: DataSpec, report: dict[str, Any]) -> list[str]:
    if not report:
        return ["this corpus is from before texts were looked at; remove its folder to have it built again"]
    said = []
    if data.clean.filters:
        left_out = ", ".join(f"{count:,} {reason}" for reason, count in sorted(report["left_out"].items()))
        said.append(f"training documents left out: {left_out or 'none'}")
    for kind, words in (("email", "e-mail addresses"), ("key", "strings that look like a key or a password")):
        count = report["found"].get(kind, 0)
        if kind in data.mask:
            said.append(f"{words}: masked, {count:,} left")
        elif count:
            said.append(f"{words}: {count:,}; a model may learn them by heart: mask them with data.mask: [{kind}]")
        else:
            said.append(f"{words}: none found")
    if strange := strangeness(report.get("unknown", {})):
        said.append(strange)
    return said
