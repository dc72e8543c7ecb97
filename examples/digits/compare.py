"""Accuracy on all sites' held-out digits: federated, each site alone, and all data pooled.

    python -m examples.digits.compare             # the plan's seed
    python -m examples.digits.compare --seeds 5   # mean and deviation, as in the README

All share the plan; a site alone is a federation of one.
"""

import argparse
import statistics
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from examples.digits.data import SITES, prepare
from examples.digits.trainer import Config, trainer_for
from examples.offline import Plan, federate, load_plan
from hansa.trainer import Tensors, TrainContext, parse_config

PLAN = Path(__file__).parent / "plan.toml"


def compare(root: Path, plan: Plan) -> dict[str, float]:
    """Return every model's accuracy on all held-out digits under `root`."""
    everyone = root / "everyone"  # for the comparison only: no site has this
    everyone.mkdir()
    for name in ("train.csv", "heldout.csv"):
        parts = ((root / site / name).read_text(encoding="utf-8") for site in SITES)
        (everyone / name).write_text("".join(parts), encoding="utf-8")
    sites = {site: trainer_for(root / site) for site in SITES}
    models = {"federated": federate(sites, plan)}
    models |= {f"{site} alone": federate({site: sites[site]}, plan) for site in SITES}
    models["pooled"] = federate({"everyone": trainer_for(everyone)}, plan)
    return {name: evaluate(tensors, everyone, plan) for name, tensors in models.items()}


def evaluate(tensors: Tensors, folder: Path, plan: Plan) -> float:
    """Return the accuracy on the held-out digits in `folder`."""
    context = TrainContext(parse_config(Config, plan.training), plan.seed)
    result = trainer_for(folder).evaluate(tensors, context)
    assert result is not None, f"{folder} holds out nothing"  # noqa: S101 -- prepare() saw to it
    return result.metrics["accuracy"]


def _study(seeds: Iterable[int], plan: Plan) -> list[dict[str, float]]:
    found: list[dict[str, float]] = []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as scratch:
            prepare(Path(scratch), seed)
            found.append(compare(Path(scratch), replace(plan, seed=seed)))
    return found


def main() -> None:
    """Print the comparison; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=0, help="splits 0 to N-1, not the plan's one")
    plan = load_plan(PLAN)
    found = _study(range(parser.parse_args().seeds) or [plan.seed], plan)
    table = Table("model", "accuracy on all held-out digits")
    for model in found[0]:
        values = [accuracies[model] for accuracies in found]
        spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
        table.add_row(model, f"{statistics.fmean(values):.3f}{spread}")
    Console().print(table)


if __name__ == "__main__":
    main()
