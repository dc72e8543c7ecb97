"""What the demo says at the end: whether federating was worth it, and where to look next."""

import shutil
from pathlib import Path

from rich.console import Console
from rich.text import Text

from app.embedded import network
from examples.demo.places import ADMIN_EMAIL, HOST, HUB, PORT, Places, command, for_people
from examples.heart_disease.compare import (
    FEDERATED,
    METRICS,
    SECURE,
    TOGETHER,
    Comparison,
    compare,
    comparison_table,
)
from examples.offline import Plan
from hansa.journal import load_tensors
from hansa_core.plans import RunPlan

LOWER_IS_BETTER = frozenset({"loss"})


def show_comparison(console: Console, places: Places, plan: RunPlan) -> None:
    """Train the rivals, score the downloaded model and them on every hospital, and judge."""
    console.print("Each hospital's own model and the pooled one are trained now, to compare.\n")
    offline = Plan(plan.seed, plan.rounds, plan.training)
    secure = load_tensors(places.secure_checkpoint) if places.secure_checkpoint.exists() else None
    federated = load_tensors(places.checkpoint)
    comparison = compare(places.hospitals, offline, federated, secure=secure)
    for metric in METRICS:
        console.print(comparison_table([comparison], metric))
        console.print()
    console.print(Text(reading(comparison), style="bold"))
    if secure is not None:
        console.print(Text(secure_reading(comparison), style="bold"))


def reading(comparison: Comparison) -> str:
    """Return what the tables say in one sentence, and how far to trust it."""
    alone = [model for model in comparison.scores if model not in TOGETHER]
    ahead: list[str] = []
    behind: list[str] = []
    for metric, title in METRICS.items():
        sign = -1 if metric in LOWER_IS_BETTER else 1
        means = {model: comparison.mean(model, metric) for model in (FEDERATED, *alone)}
        best = max(alone, key=lambda model: sign * means[model])
        numbers = f"{title} ({means[FEDERATED]:.3f}, {best} {means[best]:.3f})"
        won = sign * (means[FEDERATED] - means[best]) > 0
        (ahead if won else behind).append(numbers)
    said = f"ahead of every hospital alone in {', '.join(ahead)}" if ahead else ""
    said += " and " if ahead and behind else ""
    said += f"not in {', '.join(behind)}" if behind else ""
    return (
        f"Reading: on average over the hospitals the federated model is {said}. This is one "
        "split of few patients; examples/heart_disease/README.md has ten."
    )


def secure_reading(comparison: Comparison) -> str:
    """Return how far the secure run's model is from the plain one's."""
    pairs = ", ".join(
        f"{title} {comparison.mean(SECURE, metric):.4f} (plain "
        f"{comparison.mean(FEDERATED, metric):.4f})"
        for metric, title in METRICS.items()
    )
    return f"With secure aggregation, where the hub saw sums alone: {pairs}."


def show_whereabouts(
    console: Console, places: Places, port: int, federation: str, *, digest: str
) -> None:
    """Say where the model is, and how to look around."""
    script = HUB if shutil.which(HUB) else for_people(Path(command(HUB)))
    again = f"{script} up --data-dir {for_people(places.hub)}"
    rows = {
        "final model": for_people(places.checkpoint),
        "its SHA-256": digest,
        "federation": federation,
        "look around with": again if port == PORT else f"{again} --port {port}",
        "console, then": f"{network.address_of(HOST, port)}/console/",
        "sign in as": ADMIN_EMAIL,
        "password in": for_people(places.password),
    }
    console.print()
    for name, value in rows.items():  # no table: it would break the digest in two
        console.print(Text(f"{name:<18}", style="dim") + Text(value), soft_wrap=True)
