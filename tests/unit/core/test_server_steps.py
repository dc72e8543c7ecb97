"""Server optimisers against the papers' lines, over several rounds."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hansa_core.problems import AggregationError, UpdateRefusedError
from tests.jobs import Sent, Server, a_server, of
from tests.tensors import Tensors, encode

Vector = NDArray[np.float64]

ROUNDS, SITES, ELEMENTS = 4, 3, 5
SECTIONS: tuple[dict[str, Any], ...] = (
    {"name": "fedavgm", "lr": 0.5, "momentum": 0.8},
    {"name": "diloco", "lr": 0.7, "momentum": 0.9},
    {"name": "fedadagrad", "lr": 0.3, "beta1": 0.2, "tau": 0.01},
    {"name": "fedadam", "lr": 0.3, "beta1": 0.7, "beta2": 0.8, "tau": 0.01},
    {"name": "fedyogi", "lr": 0.3, "beta1": 0.7, "beta2": 0.8, "tau": 0.01},
    {"name": "scaffold", "server_lr": 0.5},
    {"name": "feddyn", "alpha": 0.1},
)
NAMED = pytest.mark.parametrize("section", SECTIONS, ids=lambda it: it["name"])
POPULATION = 6


def sent(rng: np.random.Generator, name: str) -> list[Sent]:
    control = name == "scaffold"
    return [
        Sent(
            of(*rng.standard_normal(ELEMENTS)),
            num_examples=1 + site,
            parts={"control": of(*rng.standard_normal(ELEMENTS))} if control else None,
        )
        for site in range(SITES)
    ]


class Plain:
    """The papers' server side, in the plainest numpy."""

    def __init__(self, section: dict[str, Any]) -> None:
        self.s = section
        self.w = np.zeros(ELEMENTS)
        self.m = np.zeros(ELEMENTS)
        self.v = np.full(ELEMENTS, section.get("tau", 0.0) ** 2)

    def round(self, updates: list[Sent]) -> None:
        s, name = self.s, self.s["name"]
        deltas = np.stack([it.delta["w"] for it in updates])
        weights = np.array([it.num_examples for it in updates], float)
        if name in {"diloco", "scaffold", "feddyn"}:
            weights[:] = 1
        d = weights @ deltas / weights.sum()
        if name in {"fedavgm", "diloco"}:
            self.m = s["momentum"] * self.m + d
            step = d + s["momentum"] * self.m if name == "diloco" else self.m
            self.w = self.w + s["lr"] * step
        elif name == "scaffold":
            changes = np.stack([(it.parts or {})["control"]["w"] for it in updates])
            self.m = self.m + changes.sum(axis=0) / POPULATION
            self.w = self.w + s["server_lr"] * d
        elif name == "feddyn":
            self.m = self.m - s["alpha"] / POPULATION * deltas.sum(axis=0)
            self.w = self.w + d - self.m / s["alpha"]
        else:
            self.m = s["beta1"] * self.m + (1 - s["beta1"]) * d
            if name == "fedadagrad":
                self.v = self.v + d**2
            elif name == "fedadam":
                self.v = s["beta2"] * self.v + (1 - s["beta2"]) * d**2
            else:
                self.v = self.v - (1 - s["beta2"]) * d**2 * np.sign(self.v - d**2)
            self.w = self.w + s["lr"] * self.m / (np.sqrt(self.v) + s["tau"])


@NAMED
def test_a_step_is_the_papers(section: dict[str, Any]) -> None:
    rng = np.random.default_rng(1)
    server, plain = a_server(of(*[0.0] * ELEMENTS), strategy=section), Plain(section)
    for _ in range(ROUNDS):
        updates = sent(rng, section["name"])
        server = server.round(updates, population=POPULATION)
        plain.round(updates)
        np.testing.assert_allclose(server.model["w"], plain.w, rtol=1e-12, atol=1e-13)


def played(section: dict[str, Any], rounds: int, **options: Any) -> Server:
    """A few rounds of a model of several dtypes, each update in its own order."""
    base: Tensors = {
        "a": np.zeros(70, "f4"),
        "b": np.zeros((3, 2), "f2"),
        "z": np.zeros(9, "f8"),
        "steps": np.array(3),
    }
    server = a_server(base, strategy=section)
    for number in range(rounds):
        rng = np.random.default_rng(number)
        updates: list[Sent] = []
        for _ in range(SITES):
            delta = {
                name: rng.standard_normal(it.shape).astype(it.dtype) for name, it in base.items()
            }
            part = {
                name: rng.standard_normal(it.shape).astype("f8" if it.dtype == "f8" else "f4")
                for name, it in base.items()
                if it.dtype.kind == "f"
            }
            parts = {"control": part} if section["name"] == "scaffold" else None
            updates.append(Sent(delta, parts=parts))
        if options.get("reverse"):
            updates.reverse()
        server = server.round(
            updates, population=POPULATION, tile_bytes=options.get("tile_bytes", 2**18)
        )
    return server


@NAMED
def test_neither_order_nor_tile_changes_a_bit(section: dict[str, Any]) -> None:
    one = played(section, 3)
    other = played(section, 3, reverse=True, tile_bytes=7 * 8)
    assert (one.checkpoint, one.slots) == (other.checkpoint, other.slots)


@NAMED
def test_a_slot_holds_every_float_and_says_whose_it_is(section: dict[str, Any]) -> None:
    server = played(section, 2)
    for name, file in server.slots.items():
        assert {key: it.dtype.str for key, it in server.slot(name).items()} == {
            "a": "<f4",
            "b": "<f4",
            "z": "<f8",
        }
        assert f'"hansa.state":"{server.plan.strategy.state_kind}"'.encode() in file
        assert f'"hansa.slot":"{name}"'.encode() in file


@NAMED
def test_integers_take_the_mean_whatever_the_step(section: dict[str, Any]) -> None:
    server = a_server({"w": np.zeros(1), "n": np.array([10])}, strategy=section)
    parts = {"control": {"w": np.zeros(1)}} if section["name"] == "scaffold" else None
    delta: Tensors = {"w": np.ones(1), "n": np.array([4])}
    assert server.round([Sent(delta, parts=parts)], population=1).model["n"].tolist() == [14]


@NAMED
def test_state_that_is_not_finite_is_refused_by_name(section: dict[str, Any]) -> None:
    huge = of(0, 1.7e308)
    parts = {"control": huge} if section["name"] == "scaffold" else None
    server = a_server(of(0, 0), strategy=section)

    def two_rounds() -> Server:
        once = server.round([Sent(huge, parts=parts)], population=1)
        return once.round([Sent(huge, parts=parts)], population=1)

    with pytest.raises(UpdateRefusedError, match="tensor 'w' element 1 of"):
        two_rounds()


def test_slots_of_another_strategy_are_refused() -> None:
    adam = a_server(of(0), strategy={"name": "fedadam"}).round([Sent(of(1))])
    changed = a_server(of(0), strategy={"name": "fedavgm"})
    mixed = Server(changed.plan, adam.checkpoint, adam.slots)
    with pytest.raises(AggregationError, match="has the slots momentum, variance, fedavgm has mom"):
        mixed.round([Sent(of(1))])


def test_slots_of_another_model_are_refused() -> None:
    server = a_server(of(0), strategy={"name": "fedavgm"})
    wrong = Server(server.plan, server.checkpoint, {"momentum": encode(of(1, 2))})
    with pytest.raises(UpdateRefusedError, match="is not laid out like the model's floats"):
        wrong.round([Sent(of(1))])


@pytest.mark.parametrize("section", SECTIONS[-2:], ids=lambda it: it["name"])
def test_who_counts_the_population_has_to_be_told_it(section: dict[str, Any]) -> None:
    server = a_server(of(0), strategy=section)
    for population in (None, 0):
        with pytest.raises(AggregationError, match="has to know how many sites there are"):
            server.round([Sent(of(1), parts={"control": of(1)})], population=population)


def test_an_update_without_its_part_is_refused() -> None:
    server = a_server(of(0), strategy={"name": "scaffold"})
    with pytest.raises(UpdateRefusedError, match="comes without its control"):
        server.round([Sent(of(1))], population=1)
