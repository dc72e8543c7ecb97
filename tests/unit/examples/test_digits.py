"""The digits example: skewed sites, and a network whose integer buffers take part."""

import tomllib
from pathlib import Path

import numpy as np
import pytest

from examples.digits.compare import evaluate
from examples.digits.data import DATA_DIR_VARIABLE, SITES, load, prepare
from examples.digits.trainer import Config, trainer, trainer_for
from examples.offline import Plan, federate, load_plan
from hansa.trainer import Tensors, TrainContext, delta, load_trainer, parse_config
from hansa_core.plans import parse_plan

PLAN_PATH = Path(__file__).parents[3] / "examples/digits/plan.toml"
SHORT = Plan(seed=11, rounds=2, training={**load_plan(PLAN_PATH).training, "epochs": 1})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    prepare(folder, seed=3)
    return folder


@pytest.fixture(scope="module")
def federated(root: Path) -> Tensors:
    return federate({site: trainer_for(root / site) for site in SITES}, SHORT)


def test_every_image_is_dealt_once_and_sites_differ(root: Path, tmp_path: Path) -> None:
    counts = prepare(tmp_path, seed=3)
    assert sum(train + heldout for train, heldout in counts.values()) == 1797
    shares: list[float] = []
    for site, (train, heldout) in counts.items():
        images, labels = load(root / site / "train.csv")
        assert images.shape == (train, 1, 8, 8)
        assert len(load(root / site / "heldout.csv")[1]) == heldout
        assert float(images.min()) == 0
        assert float(images.max()) == 1
        shares.append(float(np.bincount(labels.numpy(), minlength=10).max()) / train)
        for name in ("train.csv", "heldout.csv"):
            assert (root / site / name).read_bytes() == (tmp_path / site / name).read_bytes()
    # Dealt evenly no share would leave 0.05 to 0.15; here every site has a favourite.
    assert min(shares) > 0.2


def test_a_smaller_alpha_skews_more(tmp_path: Path) -> None:
    spreads: list[float] = []
    for alpha in (0.3, 100):
        prepare(tmp_path / str(alpha), seed=3, alpha=alpha)
        labels = [load(tmp_path / str(alpha) / site / "train.csv")[1] for site in SITES]
        spreads.append(
            float(np.mean([np.std(np.bincount(y.numpy(), minlength=10) / len(y)) for y in labels]))
        )
    assert spreads[0] > 5 * spreads[1]


def test_integer_buffers_take_part_in_update_and_average(
    root: Path, federated: Tensors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATA_DIR_VARIABLE, str(root / "visby"))
    config = Config(batch_size=32)
    start = trainer.initial_tensors(config, 0)
    result = trainer.train(start, TrainContext(config, 0))
    update = delta(result.tensors, start)
    steps = -(-result.num_examples // 32) - (result.num_examples % 32 == 1)
    assert update["1.num_batches_tracked"].dtype == np.int64
    assert int(update["1.num_batches_tracked"]) == steps
    assert federated["1.num_batches_tracked"].dtype == np.int64
    assert int(federated["1.num_batches_tracked"]) > 0


def test_two_short_rounds_learn_digits_that_a_site_hardly_sees(
    root: Path, federated: Tensors
) -> None:
    fresh = trainer.initial_tensors(parse_config(Config, SHORT.training), SHORT.seed)
    for site in SITES:
        before, after = (evaluate(t, root / site, SHORT) for t in (fresh, federated))
        assert after > max(before, 0.2)


def test_the_plan_fits_run_plan_and_the_trainer_that_it_names() -> None:
    plan = parse_plan(tomllib.loads(PLAN_PATH.read_text(encoding="utf-8")))
    assert plan.cohort.min_sites < len(SITES)
    named = load_trainer("examples.digits.trainer:trainer")
    assert parse_config(named.config_type, plan.training) == Config.model_validate(plan.training)
