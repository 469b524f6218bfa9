"""The model card: what a packaged model is, how it was found and judged, and what it is not, as Markdown.
Words about records; nothing here measures or decides.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tuner.promotion.candidate import Candidate
from tuner.promotion.gates import Answer
from tuner.spec.records import Evidence, auxiliary_of, classes_of

_CONTINUES = (
    "It continues text like the one it was trained on, and knows nothing else: no facts, no instructions, no safety "
    "training. What it read it may repeat. It looks back"
)
_NAMES = (
    "It names one of its classes for any text, also for one that is of none, and its probabilities are not calibrated. "
    "It reads of a text the first"
)
_CONTINUED = (
    'model.predict([{"prompt": "To be"}], params={"max_tokens": 50, "seed": 1})\n'
    'model.predict([{"text": "a text to score"}])\n```'
)
_NAMED = 'model.predict([{"text": "a text"}])  # its label, and the probability of each class\n```'


_NAMED_CLASSES = 20


def card(candidate: Candidate, evidence: Evidence, answers: Sequence[Answer], overridden: Sequence[str]) -> str:
    """The card of a package."""
    facts, spec = candidate.facts, candidate.spec
    classes = classes_of(facts)
    parts = [
        f"# {candidate.model}",
        f"Trial {candidate.trial} of study `{candidate.study}`: a GPT of {spec['model']['depth']} layers x "
        f"{spec['model']['width']}, {_number(evidence.parameters)} parameters, context {spec['data']['context']}.",
        *_warning(overridden),
        _table(
            "Data",
            {
                "source": _source(spec["data"]),
                "mixed in": _mixed(spec["data"].get("mix", {})),
                "text fingerprint": facts.get("data_fingerprint"),
                "tokenizer": f"{spec['data']['tokenizer']['kind']}, vocabulary {facts.get('vocab')}, "
                f"fingerprint {facts.get('tokenizer_fingerprint')}",
                "split (train, validation, test)": ", ".join(f"{share:g}" for share in spec["data"]["split"]),
            },
        ),
        *_lineage(spec.get("init", {}), facts),
        _table(
            f"Losses (nats a {'text' if classes else 'token'})",
            {
                "classes": _classes(classes),
                **{f"also told: {name}": _classes(told) for name, told in auxiliary_of(facts).items()},
                "accuracy on the test part": _share(evidence.test_accuracy),
                "validation": _loss(evidence.val_loss),
                f"test, {evidence.test_windows} {'texts' if classes else 'windows'}, 95 %": _loss(
                    evidence.test_loss, evidence.test_error
                ),
                "against the champion before, on the same": _gain(evidence),
            },
        ),
        _table(
            "How it was found",
            {
                "budget": candidate.spent,
                "FLOPs": _flops(candidate),
                "chosen from": f"{candidate.looked_at} settings, by {candidate.metric}",
                f"{candidate.metric} of each seed": ", ".join(
                    f"{value:.4f} ({seed})" for seed, value in candidate.values.items() if len(candidate.values) > 1
                ),
                "searched": ", ".join(f"{path} = {value}" for path, value in candidate.point.items()) or "nothing",
                "made smaller": _smaller(spec),
                "seed": spec["seed"],
                "code": facts.get("code_version"),
                "MLflow run": candidate.run,
                "weights sha256": candidate.sha256,
            },
        ),
        "## Gates\n\n" + "\n".join(f"- **{one.gate}**: {one.result}. {one.sentence}" for one in answers),
        "## Samples\n\n" + "\n\n".join("```\n" + text.replace("```", "'''") + "\n```" for text in evidence.samples),
        "## Limits\n\n"
        + (_NAMES if classes else _CONTINUES)
        + f" {spec['data']['context']} tokens. Its losses hold for the "
        "text above alone.",
        "## Use\n\n```python\nimport mlflow\n"
        f'model = mlflow.pyfunc.load_model("models:/{candidate.model}@champion")\n'
        + (_NAMED if classes else _CONTINUED),
    ]
    return "\n\n".join(parts) + "\n"


def _warning(overridden: Sequence[str]) -> list[str]:
    if not overridden:
        return []
    return [f"**Promoted against its gates by an override: {', '.join(overridden)}.**"]


def _lineage(init: Mapping[str, Any], facts: Mapping[str, object]) -> list[str]:
    """What it was before it was trained on the text above; nothing where it began from nothing."""
    if not init.get("source"):
        return []
    lora = init["lora"]
    adapted = f"rank {lora['rank']}, alpha {lora['alpha']:g}, on {lora['on']}" if lora["rank"] else ""
    rows = {
        "began with": init["source"],
        "of it": "" if init.get("take", "all") == "all" else f"{init['take']}, as the model above has",
        "its weights sha256": init["sha256"],
        "layers frozen": init["freeze"] or "",
        "adapters, merged since": adapted,
        "parameters trained": facts.get("trained_parameters"),
    }
    return [_table("Lineage", rows), "What that model had read before, its own card tells; this one may repeat it too."]


def _smaller(spec: Mapping[str, Any]) -> str:
    """What is left of its weights, where they are not all of them and whole."""
    compress = spec.get("compress")
    if not compress:
        return ""
    said = f"{compress['sparsity']:.0%} of the layers' weights are zero, {compress['bits']} bits a weight in the file"
    return f"{said}, products of 8-bit numbers" if compress.get("compute") == "int8" else said


def _table(title: str, rows: dict[str, object]) -> str:
    lines = [f"| {name} | {_cell(str(value))} |" for name, value in rows.items() if value not in (None, "")]
    return f"## {title}\n\n| | |\n|---|---|\n" + "\n".join(lines)


def _cell(text: str) -> str:
    """Text of users as a table has it: on one line, and no markup of its own."""
    return " ".join(text.split()).replace("|", "/").replace("<", "&lt;").replace("`", "'")


def _classes(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED_CLASSES} more" if len(names) > _NAMED_CLASSES else ""
    return ", ".join(names[:_NAMED_CLASSES]) + more


def _source(data: dict[str, object]) -> str:
    return ", ".join(
        f"{name} {data[name]}" for name in ("source", "path", "name", "revision", "column", "label") if data.get(name)
    )


def _mixed(mix: Mapping[str, Any]) -> str:
    return "; ".join(f"{name}, {one['share']:.0%}: {_source(one)}" for name, one in mix.items())


def _number(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _loss(value: float | None, error: float | None = None) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" + (f" ± {1.96 * error:.4f}" if error is not None and math.isfinite(error) else "")


def _gain(evidence: Evidence) -> str:
    if evidence.gain is None or evidence.gain_error is None:
        return ""
    return f"{evidence.gain:+.4f} ± {1.96 * evidence.gain_error:.4f} better"


def _flops(candidate: Candidate) -> str:
    flops = candidate.facts.get("flops")
    return f"{flops:.3g}" if isinstance(flops, int | float) else ""
