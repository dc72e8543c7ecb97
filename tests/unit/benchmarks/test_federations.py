"""The simulated federations that strategies and attacks are measured in."""

import json
from typing import Any

import numpy as np
import pytest

from benchmarks import attackers, strategies
from benchmarks.federations.attacks import Attack, forge_of, hidden_deviations
from benchmarks.federations.dense import DenseTrainer
from benchmarks.federations.digits import Images, all_digits, deal, held_out
from benchmarks.federations.experiments import plan_of, rounds_to, tried
from benchmarks.federations.models import network, trainer_of
from benchmarks.federations.simulated import Federation, Site, Trained
from examples.offline import average
from hansa.pytorch import TorchConfig
from hansa.trainer import TrainContext, derive_seed
from hansa_core.corrections import LocalTerm
from hansa_core.local_work import Scalar
from hansa_core.plans import parse_plan

HIDDEN = 64


def some_digits(count: int = 60) -> Images:
    return all_digits().take(np.arange(count))


def a_federation(sites: int = 3, **sections: Any) -> Federation:
    train, test = held_out(some_digits(200), np.random.default_rng(0))
    parts = deal(train, sites, 0.5, np.random.default_rng(1))
    least = {"name": "x", "model": "x", "rounds": 1, "cohort": {"min_sites": 1}}
    training = {"training": {"learning_rate": 0.1, "batch_size": 16}}
    return Federation(
        parse_plan({**least, **training, **sections}),
        [Site(f"site-{index}", DenseTrainer(part, test, 8)) for index, part in enumerate(parts)],
    )


def moved(trained: Trained) -> np.ndarray[Any, Any]:
    return np.concatenate([array.reshape(-1) for array in trained.moved.values()])


def test_the_numpy_trainer_takes_pytorchs_steps() -> None:
    images = some_digits()
    plain = DenseTrainer(images, images, HIDDEN)
    torches = trainer_of(network, images, images)
    config = TorchConfig(epochs=4, batch_size=len(images), learning_rate=0.3, weight_decay=0.01)
    start = plain.initial_tensors(config, 3)
    shift = {name: np.full(array.shape, 0.01, np.float32) for name, array in start.items()}
    context = TrainContext(
        config,
        5,
        term=LocalTerm(frozenset(start), shift, 0.5),
        wants=frozenset({Scalar.BASE_LOSS}),
    )
    own, theirs = plain.train(start, context), torches.train(start, context)
    for name, array in theirs.tensors.items():
        np.testing.assert_allclose(own.tensors[name], array, rtol=1e-4, atol=1e-6)
    assert own.base_loss == pytest.approx(theirs.base_loss, rel=1e-5)
    assert (own.steps, own.learning_rate) == (theirs.steps, theirs.learning_rate)
    evaluated, wanted = plain.evaluate(start, context), torches.evaluate(start, context)
    assert wanted is not None
    assert evaluated.metrics == pytest.approx(dict(wanted.metrics), rel=1e-5)


def test_a_round_is_federated_averaging() -> None:
    federation = a_federation()
    base = federation.base.tensors
    config = TorchConfig(learning_rate=0.1, batch_size=16)
    results = [
        site.trainer.train(base, TrainContext(config, derive_seed(0, 1, name, ""), 1))
        for name, site in federation.sites.items()
    ]
    federation.round()
    for name, array in average(base, results).items():
        np.testing.assert_allclose(federation.base.tensors[name], array, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "sections",
    [
        {"strategy": {"name": "scaffold"}, "codec": {"name": "topk"}},
        {"strategy": {"name": "feddyn", "alpha": 0.1}, "tensors": {"personal": ["head.*"]}},
    ],
)
def test_a_run_repeats_itself_to_the_bit(sections: dict[str, Any]) -> None:
    first, second = a_federation(**sections), a_federation(**sections)
    for _ in range(3):
        first.round()
        second.round()
    for name, array in first.base.tensors.items():
        assert np.array_equal(array, second.base.tensors[name])
    assert first.evaluate("site-1") == second.evaluate("site-1")


def test_personal_tensors_stay_at_their_sites() -> None:
    federation = a_federation(tensors={"personal": ["head.*"]})
    before = federation.base.tensors
    federation.round()
    assert np.array_equal(federation.base.tensors["head.weight"], before["head.weight"])
    assert not np.array_equal(federation.base.tensors["body.0.bias"], before["body.0.bias"])
    assert federation.evaluate("site-0").metrics != federation.evaluate("site-1").metrics


def test_attackers_send_what_the_attack_says() -> None:
    federation = a_federation(5)
    honest = [federation.train(name, federation.base) for name in federation.sites]
    own, mean = moved(honest[0]), np.mean([moved(it) for it in honest[1:]], axis=0)
    sent = {attack: [moved(it) for it in forge_of(attack, {"site-0"})(honest)] for attack in Attack}
    for vectors in sent.values():
        for vector, trained in zip(vectors[1:], honest[1:], strict=True):
            assert np.array_equal(vector, moved(trained))
    assert np.array_equal(sent[Attack.SIGN_FLIP][0], -own)
    np.testing.assert_allclose(sent[Attack.SCALED][0], -10 * own)
    assert sent[Attack.INNER_PRODUCT][0] @ mean < 0
    deviation = np.std([moved(it) for it in honest[1:]], axis=0)
    apart = sent[Attack.LITTLE][0] - mean
    np.testing.assert_allclose(apart, -hidden_deviations(5, 1) * deviation, rtol=1e-3, atol=1e-6)


def test_deviations_that_hide_are_a_normal_quantile() -> None:
    # Of 50 sites 24 hostile: 2 more make a majority, so 24 of 26 honest ones lie beyond.
    assert hidden_deviations(50, 24) == pytest.approx(1.43, abs=0.01)


def test_a_target_is_reached_by_a_mean_of_rounds() -> None:
    assert rounds_to(0.9, [0.95, 0.1, 0.9]) == 1
    assert rounds_to(0.9, [0.1, 1.0, 0.9, 0.9, 0.9, 0.9]) == 6
    assert rounds_to(0.9, [0.1, 0.2]) is None


@pytest.mark.parametrize("experiment", strategies.EXPERIMENTS, ids=lambda it: it.name)
def test_every_arm_is_a_plan_that_hubs_take(experiment: strategies.Experiment) -> None:
    for arm in experiment.arms:
        for choice, variant in tried(arm):
            plan = plan_of(variant, 0, experiment.rounds)
            assert all(key.partition(".")[0] in {"strategy", "training"} for key in choice)
            assert plan.strategy.name in arm.label or plan.strategy.name == "fedavg"


def test_the_strategies_benchmark_prints_what_it_measured(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert strategies.main(["--quick", "--only", "unequal-work", "--processes", "1"]) == 0
    (experiment,) = json.loads(capsys.readouterr().out.splitlines()[-1])["experiments"]
    assert [arm["label"] for arm in experiment["arms"]] == ["fedavg", "fednova"]
    assert all(run["excess"] > 0 for arm in experiment["arms"] for run in arm["runs"])


def test_the_attackers_benchmark_prints_what_it_measured(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert attackers.main(["--quick", "--rules", "fedavg", "median", "--processes", "1"]) == 0
    results = json.loads(capsys.readouterr().out.splitlines()[-1])["results"]
    accuracy = {(it["rule"], it["attack"]): it["accuracies"][0] for it in results}
    assert accuracy["median", "scaled-flip"] > accuracy["fedavg", "scaled-flip"] + 0.3
