"""A checkpoint's card as Markdown: what people keep beside the file."""

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import groupby

from hansa_core import wire
from hansa_core.plans import RunPlan

SHOWN_DIGITS = 6  # of a metric
_ESCAPED = str.maketrans(
    {**{mark: f"\\{mark}" for mark in "\\`*_{}[]|#"}, "<": "&lt;", ">": "&gt;", "&": "&amp;"}
)
_KINDS = {"eval": "On held-out data", "train": "In local training"}


def card_markdown(card: wire.ModelCard) -> str:
    """Return the card as a Markdown document. What people wrote is quoted, never interpreted."""
    title = "uploaded" if card.round_number is None else f"round {card.round_number}"
    if card.made_by is not None:
        title = f"{title} of {_plain(card.made_by)}"
    sections = [
        f"# {_plain(card.model)}, {title}",
        *_description(card.description),
        _table(("", ""), _facts(card)),
        *_metrics(card.metrics),
        *_origin(card),
        *_plan(card.plan),
    ]
    return "\n\n".join(sections) + "\n"


def _facts(card: wire.ModelCard) -> Iterator[tuple[str, str]]:
    checkpoint = card.checkpoint
    yield "federation", _plain(card.federation)
    yield "made at", _when(checkpoint.created_at)
    yield "SHA-256", f"`{checkpoint.digest}`"
    yield "size", f"{checkpoint.size:,} bytes, safetensors"
    if card.parameters is not None:
        yield "parameters", f"{card.parameters:,} in {card.tensors:,} tensors"
    if card.run_id is not None:
        yield "run", f"{_plain(card.made_by or '')} (`{card.run_id}`)"
        yield "sites", f"{card.sites:,} contributed up to this round"
    if card.examples is not None:
        yield "examples", f"{card.examples:,} behind the updates of this round"
    if card.run_id is not None:
        seen = "no: sums of masked updates (secure aggregation)" if card.secure else "yes"
        yield "single updates seen by the hub", seen
    if card.receipt is not None:
        yield "receipt", f"`{card.receipt}`"


def _description(text: str) -> Iterator[str]:
    if text.strip():
        yield "\n".join(f"> {_plain(line)}".rstrip() for line in text.strip().splitlines())


def _metrics(metrics: Iterable[wire.CardMetric]) -> Iterator[str]:
    ordered = sorted(metrics, key=lambda it: (it.kind, it.name))
    for kind, found in groupby(ordered, key=lambda it: it.kind):
        yield f"## {_KINDS.get(kind, _plain(kind))}"
        yield _table(
            ("metric", "mean over sites", "examples"),
            (
                (_plain(it.name), f"{it.value:.{SHOWN_DIGITS}g}", f"{it.num_examples:,}")
                for it in found
            ),
        )


def _origin(card: wire.ModelCard) -> Iterator[str]:
    if not card.lineage:
        return
    yield "## Comes from"
    steps = [
        (
            "uploaded" if it.run_name is None else _plain(it.run_name),
            "" if it.round_number is None else str(it.round_number),
            f"`{it.digest}`",
            _when(it.created_at),
        )
        for it in card.lineage
    ]
    if card.lineage_more:
        steps.append(("and more", "", "", ""))
    yield _table(("run", "round", "SHA-256", "made at"), steps)


def _plan(plan: RunPlan | None) -> Iterator[str]:
    if plan is None:
        return
    yield "## Plan"
    said = plan.model_dump(mode="json", exclude_defaults=True)
    yield f"```json\n{json.dumps(said, indent=2, ensure_ascii=False)}\n```"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _when(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _plain(text: str) -> str:
    """Return text that Markdown shows as it is."""
    return text.translate(_ESCAPED)
