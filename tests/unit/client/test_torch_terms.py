"""What strategies change about PyTorch training, against plain loops written from the papers.

The models are least squares in float64 and every step sees all the data, so that both sides do
the same arithmetic and agree to its last digits.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hansa.pytorch import TorchConfig, TorchTrainer
from hansa.torch_states import parameters_by_name
from hansa.torch_terms import AppliedTerm, constant_rate, normaliser_of, untrained
from hansa.trainer import TrainContext, TrainerError, TrainResult, applies_term
from hansa_core import corrections
from hansa_core.corrections import LocalTerm
from hansa_core.layouts import Layout
from hansa_core.local_work import (
    ControlVariates,
    Correction,
    DynamicRegularisation,
    Proximal,
    Scalar,
)

Tensors = Mapping[str, NDArray[Any]]
Array = NDArray[np.float64]
Gradient = Callable[[Array], Array]

FEATURES, COUNT = 3, 24
STEPS, RATE = 4, 0.05
EXACT = 1e-12  # relative; what differs is the order of a few sums


def data_of(site: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(site)
    x = torch.randn(COUNT, FEATURES, generator=generator, dtype=torch.float64) + site
    truth = torch.arange(FEATURES, dtype=torch.float64).reshape(-1, 1) * (site + 1)
    return x, x @ truth


def gradient_of(site: int) -> Gradient:
    x, y = (array.numpy() for array in data_of(site))

    def gradient(w: NDArray[np.float64]) -> NDArray[np.float64]:
        return (2 / COUNT) * (x @ w.T - y).T @ x

    return gradient


def line(config: TorchConfig) -> nn.Module:
    return nn.Linear(FEATURES, 1, bias=False, dtype=torch.float64)


def trainer_of(site: int, model: Callable[[TorchConfig], nn.Module] = line) -> Any:
    return TorchTrainer(
        config=TorchConfig,
        model=model,
        train_data=lambda: data_of(site),
        loss=nn.functional.mse_loss,
    )


CONFIG = TorchConfig(epochs=STEPS, batch_size=COUNT, learning_rate=RATE)
START = np.array([[1.0, -2.0, 0.5]])


def train(site: int, w: NDArray[np.float64], term: LocalTerm | None, **more: Any) -> TrainResult:
    context = TrainContext(CONFIG, seed=1, term=term, **more)
    return trainer_of(site).train({"weight": w}, context)


def corrected(
    correction: Correction, site: int, w: NDArray[np.float64], slots: Any, kept: Any
) -> tuple[NDArray[np.float64], corrections.Finished]:
    """Train one round as a site does, and return its weights and what the correction leaves."""
    layout = Layout.of({"weight": w})
    result = train(site, w, corrections.begin(correction, layout, slots, kept))
    assert result.learning_rate == RATE
    if isinstance(correction, ControlVariates):
        assert result.normaliser == STEPS
    done = corrections.finish(
        correction,
        layout,
        slots,
        kept,
        base={"weight": w},
        local=result.tensors,
        reach=STEPS * RATE,
    )
    return result.tensors["weight"], done


def test_a_torch_trainer_says_that_it_applies_terms() -> None:
    assert applies_term(trainer_of(0))


def test_the_proximal_gradient_is_that_of_fedprox() -> None:
    mu, gradient = 0.7, gradient_of(0)
    term = corrections.begin(
        Proximal(kind="proximal", mu=mu), Layout.of({"weight": START}), {}, None
    )
    w = START.copy()
    for _ in range(STEPS):
        w = w - RATE * (gradient(w) + mu * (w - START))
    np.testing.assert_allclose(train(0, START, term).tensors["weight"], w, rtol=EXACT)


def test_two_rounds_of_scaffold_are_those_of_the_paper() -> None:
    correction = ControlVariates(kind="control-variates")
    sites = (0, 1)
    x, c, own = START, np.zeros_like(START), {site: np.zeros_like(START) for site in sites}
    server, slot = START, np.zeros_like(START)
    kept: dict[int, Any] = dict.fromkeys(sites)
    for number in range(3):
        moves, changes = list[Array](), list[Array]()
        for site in sites:  # algorithm 1, option II
            y = x
            for _ in range(STEPS):
                y = y - RATE * (gradient_of(site)(y) - own[site] + c)
            renewed = own[site] - c + (x - y) / (STEPS * RATE)
            moves.append(y - x)
            changes.append(renewed - own[site])
            own[site] = renewed
        told, parts = list[Array](), list[Array]()
        for site in sites:
            slots = {"control": {"weight": slot}} if number else {}
            local, done = corrected(correction, site, server, slots, kept[site])
            kept[site] = done.remember["control"]
            told.append(local - server)
            parts.append(done.parts["control"]["weight"])
        x, c = x + np.mean(moves, axis=0), c + np.mean(changes, axis=0)
        server, slot = server + np.mean(told, axis=0), slot + np.mean(parts, axis=0)
        np.testing.assert_allclose(server, x, rtol=1e-10)
        np.testing.assert_allclose(slot, c, rtol=1e-10)
        for site in sites:
            np.testing.assert_allclose(kept[site]["weight"], own[site], rtol=1e-10)


def test_two_rounds_of_feddyn_are_those_of_the_paper() -> None:
    alpha = 0.3
    correction = DynamicRegularisation(kind="dynamic", alpha=alpha)
    sites = (0, 1)
    x, own = START, {site: np.zeros_like(START) for site in sites}
    kept: dict[int, Any] = dict.fromkeys(sites)
    h = np.zeros_like(START)
    for _ in range(3):
        ends = list[Array]()
        for site in sites:  # argmin L_k(w) - <g_k, w> + alpha / 2 |w - x|^2, by gradient descent
            y = x
            for _ in range(STEPS):
                y = y - RATE * (gradient_of(site)(y) - own[site] + alpha * (y - x))
            own[site] = own[site] - alpha * (y - x)
            ends.append(y)
            local, done = corrected(correction, site, x, {}, kept[site])
            kept[site] = done.remember["dual"]
            np.testing.assert_allclose(local, y, rtol=1e-10)
            np.testing.assert_allclose(kept[site]["weight"], own[site], rtol=1e-10)
        mean = np.mean(ends, axis=0)
        h = h - alpha * (mean - x)
        x = mean - h / alpha


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("pull", [0.0, 2.0])
def test_the_normaliser_is_how_far_a_constant_gradient_moves(
    momentum: float, nesterov: bool, pull: float
) -> None:
    weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    if nesterov and not momentum:
        return  # no such optimizer
    optimizer = torch.optim.SGD([weight], lr=RATE, momentum=momentum, nesterov=nesterov)
    for _ in range(STEPS):
        weight.grad = 1 + pull * weight.detach()
        optimizer.step()
    plain_steps = -weight.item() / RATE
    assert normaliser_of(optimizer, STEPS, pull) == pytest.approx(plain_steps, rel=1e-12)
    assert constant_rate(optimizer) == RATE


def test_control_variates_under_momentum_divide_by_the_effective_steps() -> None:
    config = CONFIG.model_copy(update={"momentum": 0.5})
    constant = (torch.ones(COUNT, FEATURES, dtype=torch.float64), torch.zeros(COUNT, 1))
    trainer = TorchTrainer(
        config=TorchConfig,
        model=line,
        train_data=lambda: constant,
        loss=lambda outputs, targets: outputs.mean(),  # the same gradient wherever the model is
    )
    term = LocalTerm(frozenset({"weight"}), None, 0.0)
    result = trainer.train({"weight": START}, TrainContext(config, seed=1, term=term))
    assert result.steps == STEPS
    assert result.normaliser is not None
    assert result.normaliser > STEPS
    mean_gradient = (START - result.tensors["weight"]) / (result.normaliser * RATE)
    np.testing.assert_allclose(mean_gradient, np.ones((1, FEATURES)), rtol=EXACT)


def test_steps_of_other_optimizers_count_one_each_and_have_no_rate() -> None:
    config = CONFIG.model_copy(update={"optimizer": "adam"})
    wants = frozenset({Scalar.NORMALISER})
    result = trainer_of(0).train({"weight": START}, TrainContext(config, seed=1, wants=wants))
    assert (result.steps, result.normaliser, result.learning_rate) == (STEPS, STEPS, None)


def test_two_learning_rates_are_no_one_rate() -> None:
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (0.1, 0.2)]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    assert constant_rate(optimizer) is None
    assert normaliser_of(optimizer, 7, 0.0) == 7


def test_a_lone_example_left_out_is_no_step() -> None:
    config = CONFIG.model_copy(update={"batch_size": COUNT - 1, "epochs": 3})
    result = trainer_of(0).train({"weight": START}, TrainContext(config, seed=1))
    assert result.steps == 3
    assert result.normaliser is None  # nobody asked


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(FEATURES, dtype=torch.float64)
        self.drop = nn.Dropout(0.5)
        self.out = nn.Linear(FEATURES, 1, dtype=torch.float64)
        self.unused = nn.Parameter(torch.ones(2, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.drop(self.norm(x)))


def noisy_start() -> dict[str, NDArray[Any]]:
    return trainer_of(0, lambda _: Noisy()).initial_tensors(CONFIG, 3)


def test_the_base_loss_is_of_all_data_and_changes_nothing() -> None:
    trainer, start = trainer_of(0, lambda _: Noisy()), noisy_start()
    config = CONFIG.model_copy(update={"batch_size": COUNT - 1})
    context = TrainContext(config, seed=1, wants=frozenset({Scalar.BASE_LOSS}))
    asked, plain = (trainer.train(start, it) for it in (context, TrainContext(config, seed=1)))
    x, y = (array.numpy() for array in data_of(0))
    normal = (x - start["norm.running_mean"]) / np.sqrt(start["norm.running_var"] + 1e-5)
    error = normal @ start["out.weight"].T + start["out.bias"] - y
    assert asked.base_loss == pytest.approx(float(np.mean(error**2)), rel=1e-12)
    assert plain.base_loss is None
    assert {n: a.tobytes() for n, a in asked.tensors.items()} == {
        n: a.tobytes() for n, a in plain.tensors.items()
    }


def test_fixed_tensors_are_not_trained_and_buffers_are_put_back() -> None:
    shared = Noisy()
    trainer, start = trainer_of(0, lambda _: shared), noisy_start()
    fixed = frozenset(name for name in start if name.startswith("norm."))
    result = trainer.train(start, TrainContext(CONFIG, seed=1, fixed=fixed))
    for name in start:
        same = result.tensors[name].tobytes() == start[name].tobytes()
        assert same == (name in fixed or name == "unused"), name
    assert all(parameter.requires_grad for parameter in shared.parameters())


def test_a_term_reaches_named_parameters_alone_and_those_without_a_gradient() -> None:
    trainer, start = trainer_of(0, lambda _: Noisy()), noisy_start()
    uploaded = frozenset(start) - {"out.bias"}  # personal
    shift = {name: np.ones(start[name].shape) for name in uploaded}
    context = TrainContext(CONFIG, seed=1)
    plain = trainer.train(start, context)
    result = trainer.train(
        start, TrainContext(CONFIG, seed=1, term=LocalTerm(uploaded, shift, 0.0))
    )
    np.testing.assert_allclose(result.tensors["unused"], 1 - STEPS * RATE, rtol=EXACT)
    np.testing.assert_array_equal(plain.tensors["unused"], 1)
    # One step: the bias, which is not uploaded, goes where it would have gone; weights do not.
    once = CONFIG.model_copy(update={"epochs": 1})
    one, other = (
        trainer.train(start, TrainContext(once, seed=1, term=term))
        for term in (None, LocalTerm(uploaded, shift, 0.0))
    )
    np.testing.assert_array_equal(one.tensors["out.bias"], other.tensors["out.bias"])
    moved = one.tensors["out.weight"] - RATE
    np.testing.assert_allclose(other.tensors["out.weight"], moved, rtol=EXACT)
    np.testing.assert_array_equal(  # a buffer
        one.tensors["norm.running_mean"], other.tensors["norm.running_mean"]
    )


def test_a_shift_that_lacks_a_parameter_is_refused() -> None:
    term = LocalTerm(frozenset({"weight"}), {}, 0.0)
    with pytest.raises(TrainerError, match="no shift for parameter 'weight'"):
        train(0, START, term)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 2, bias=False)
        self.second = nn.Linear(2, 2, bias=False)
        self.second.weight = self.first.weight


def test_tied_parameters_get_the_term_once() -> None:
    model = Tied()
    assert list(parameters_by_name(model)) == ["first.weight"]
    shift = {"first.weight": np.full((2, 2), 0.5, np.float32)}
    term = AppliedTerm(LocalTerm(frozenset(shift), shift, 0.0), model)
    model.first.weight.grad = torch.ones(2, 2)
    term.add()
    assert model.second.weight.grad is not None
    assert model.second.weight.grad.tolist() == [[1.5, 1.5], [1.5, 1.5]]


def test_parameters_are_trained_again_afterwards_even_after_an_error() -> None:
    model = nn.Linear(2, 1)
    model.bias.requires_grad_(False)  # the model's own choice stays

    def fail() -> None:
        with untrained(model, {"weight", "bias"}):
            assert not model.weight.requires_grad
            raise ValueError("training failed")

    with pytest.raises(ValueError, match="training failed"):
        fail()
    assert (model.weight.requires_grad, model.bias.requires_grad) == (True, False)


def test_a_bfloat16_model_takes_a_float32_shift() -> None:
    model = nn.Linear(2, 1, bias=False).bfloat16()
    shift = {"weight": np.array([[0.5, -0.25]], np.float32)}
    term = AppliedTerm(LocalTerm(frozenset(shift), shift, 0.0), model)
    model.weight.grad = torch.zeros(1, 2, dtype=torch.bfloat16)
    term.add()
    assert model.weight.grad.tolist() == [[0.5, -0.25]]
