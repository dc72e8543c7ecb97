"""FedNova and q-FedAvg against the papers' formulas, and what they refuse."""

from typing import Any

import numpy as np
import pytest

from hansa_core.problems import AggregationError, UpdateRefusedError
from tests.jobs import Sent, a_server, of
from tests.tensors import Tensors


def test_fednova_weighs_what_was_moved_per_step() -> None:
    rng = np.random.default_rng(2)
    deltas, n = rng.standard_normal((3, 4)), np.array([5, 1, 2])
    a = np.array([10.0, 3.5, 40.0])
    p = n / n.sum()
    wanted = (p @ a) * (p / a) @ deltas
    sent = [
        Sent(of(*delta), int(count), {"normaliser": float(steps)})
        for delta, count, steps in zip(deltas, n, a, strict=True)
    ]
    made = a_server(of(0, 0, 0, 0), strategy={"name": "fednova"}).round(sent)
    np.testing.assert_allclose(made.model["w"], wanted, rtol=1e-13)


def test_fednova_of_equal_work_is_the_weighted_mean() -> None:
    sent = [Sent(of(k), 1 + k, {"normaliser": 8.0}) for k in range(4)]
    nova = a_server(of(0), strategy={"name": "fednova"}).round(sent)
    assert nova.model["w"].tolist() == a_server(of(0)).round(sent).model["w"].tolist()


@pytest.mark.parametrize("q", [0.0, 0.5, 2.0])
def test_q_fedavg_is_the_papers_algorithm_2(q: float) -> None:
    rng = np.random.default_rng(3)
    w_k, losses, lipschitz = rng.standard_normal((3, 4)), np.array([0.3, 2.0, 0.9]), 10.0
    w = np.zeros(4)
    delta_w = lipschitz * (w - w_k)
    big_delta = losses[:, None] ** q * delta_w
    h = q * losses ** (q - 1) * (delta_w**2).sum(axis=1) + lipschitz * losses**q
    wanted = w - big_delta.sum(axis=0) / h.sum()
    sent = [
        Sent(of(*local), 1, {"base_loss": float(loss)})
        for local, loss in zip(w_k, losses, strict=True)
    ]
    section = {"name": "qfedavg", "q": q, "lipschitz": lipschitz}
    made = a_server(of(0, 0, 0, 0), strategy=section).round(sent)
    np.testing.assert_allclose(made.model["w"], wanted, rtol=1e-12)


def test_q_fedavg_takes_a_loss_of_zero_for_a_tiny_one() -> None:
    section = {"name": "qfedavg", "q": 0.5, "lipschitz": 1.0}
    sent = [Sent(of(1), 1, {"base_loss": 0.0}), Sent(of(3), 1, {"base_loss": 1.0})]
    assert np.isfinite(a_server(of(0), strategy=section).round(sent).model["w"]).all()


@pytest.mark.parametrize(
    ("section", "scalars", "message"),
    [
        ({"name": "fednova"}, {}, "has normaliser None, wanted above 0"),
        ({"name": "fednova"}, {"normaliser": 0.0}, r"has normaliser 0\.0, wanted above 0"),
        ({"name": "fednova"}, {"normaliser": float("nan")}, "has normaliser nan"),
        ({"name": "qfedavg", "q": 1, "lipschitz": 1}, {}, "has base_loss None"),
        ({"name": "qfedavg", "q": 1, "lipschitz": 1}, {"base_loss": -1.0}, r"has base_loss -1\.0"),
        (
            {"name": "qfedavg", "q": 1, "lipschitz": 1},
            {"base_loss": float("inf")},
            "has base_loss inf",
        ),
    ],
)
def test_an_unusable_scalar_is_refused(
    section: dict[str, Any], scalars: dict[str, float], message: str
) -> None:
    with pytest.raises(UpdateRefusedError, match=message):
        a_server(of(0), strategy=section).round([Sent(of(1), 1, scalars)])


def test_weights_beyond_floats_are_refused() -> None:
    section = {"name": "qfedavg", "q": 100, "lipschitz": 1}
    with pytest.raises(AggregationError, match="q-fair weights leave the range of floats"):
        a_server(of(0), strategy=section).round([Sent(of(1), 1, {"base_loss": 1e300})])


def test_integers_of_weighted_moves_take_the_median() -> None:
    base: Tensors = {"w": np.zeros(1), "n": np.array([0])}
    sent = [
        Sent({"w": np.ones(1), "n": np.array([n])}, 1, {"normaliser": 1.0}) for n in (1, 2, 900)
    ]
    made = a_server(base, strategy={"name": "fednova"}).round(sent)
    assert made.model["n"].tolist() == [2]
