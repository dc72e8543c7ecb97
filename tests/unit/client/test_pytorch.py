"""The PyTorch trainer on small real trainings: repeatable bytes, whole state, honest reports."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from hansa.pytorch import Pairs, TorchConfig, TorchTrainer, load_tensors, to_tensors
from hansa.trainer import (
    ConfigError,
    TensorsError,
    TrainContext,
    Trainer,
    TrainerError,
    TrainingDivergedError,
    TrainingStopped,
    load_trainer,
    parse_config,
)
from hansa_core.dtypes import BFLOAT16

SLOPE = torch.tensor([[2.0], [-3.0]])


def _line(count: int = 65) -> tuple[Tensor, Tensor]:
    inputs = torch.rand(count, 2, generator=torch.Generator().manual_seed(count))
    return inputs, inputs @ SLOPE + 1


class NormConfig(TorchConfig):
    hidden: int = 4


def _norm_net(config: NormConfig) -> nn.Module:
    return nn.Sequential(
        nn.Linear(2, config.hidden),
        nn.BatchNorm1d(config.hidden),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(config.hidden, 1),
    )


def _trainer(
    data: Callable[[], Pairs] = _line,
    model: Callable[[NormConfig], nn.Module] = _norm_net,
    loss: Callable[[Tensor, Tensor], Tensor] = nn.functional.mse_loss,
    **more: Any,
) -> TorchTrainer[NormConfig]:
    return TorchTrainer(config=NormConfig, model=model, train_data=data, loss=loss, **more)


def _linear(config: NormConfig) -> nn.Module:
    return nn.Linear(2, 1)


def _bytes(tensors: dict[str, NDArray[Any]]) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in tensors.items()}


CONFIG = NormConfig(epochs=3, batch_size=16, learning_rate=0.05)


def test_torch_trainer_is_a_trainer() -> None:
    trainer: Trainer[NormConfig] = _trainer()
    assert trainer.config_type is NormConfig


def test_same_inputs_give_the_same_bytes_whatever_happened_before() -> None:
    trainer = _trainer()
    start = trainer.initial_tensors(CONFIG, 5)
    first = trainer.train(start, TrainContext(CONFIG, seed=9))
    torch.rand(17)
    torch.manual_seed(1234)  # pyright: ignore[reportUnknownMemberType]
    assert _bytes(trainer.initial_tensors(CONFIG, 5)) == _bytes(start)
    second = trainer.train(start, TrainContext(CONFIG, seed=9))
    assert _bytes(dict(second.tensors)) == _bytes(dict(first.tensors))
    assert second.metrics == first.metrics


def test_another_seed_gives_another_model_and_another_training() -> None:
    trainer = _trainer()
    start = trainer.initial_tensors(CONFIG, 5)
    assert _bytes(trainer.initial_tensors(CONFIG, 6)) != _bytes(start)
    trained = [dict(trainer.train(start, TrainContext(CONFIG, seed=s)).tensors) for s in (1, 2)]
    assert _bytes(trained[0]) != _bytes(trained[1])


def test_the_callers_random_state_and_switches_are_restored() -> None:
    torch.manual_seed(3)  # pyright: ignore[reportUnknownMemberType]
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    trainer = _trainer(threads=threads + 1)
    trainer.train(trainer.initial_tensors(CONFIG, 5), TrainContext(CONFIG, seed=9))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_training_learns_the_line() -> None:
    trainer = _trainer(model=_linear, eval_data=lambda: _line(20))
    config = NormConfig(epochs=200, batch_size=16, learning_rate=0.2)
    start = trainer.initial_tensors(config, 0)
    result = trainer.train(start, TrainContext(config, seed=0))
    np.testing.assert_allclose(result.tensors["weight"], SLOPE.numpy().T, atol=0.01)
    assert result.num_examples == 65
    before = trainer.evaluate(start, TrainContext(config, seed=0))
    after = trainer.evaluate(result.tensors, TrainContext(config, seed=0))
    assert before is not None
    assert after is not None
    assert after.num_examples == 20
    assert after.metrics["loss"] < 1e-3 < before.metrics["loss"]


def test_a_dataset_trains_as_its_tensors_do() -> None:
    start = _trainer().initial_tensors(CONFIG, 5)
    context = TrainContext(CONFIG, seed=9)
    from_tensors = _trainer().train(start, context)
    from_dataset = _trainer(data=lambda: TensorDataset(*_line())).train(start, context)
    assert _bytes(dict(from_tensors.tensors)) == _bytes(dict(from_dataset.tensors))


def test_the_given_tensors_stay_as_they_are_even_read_only() -> None:
    trainer = _trainer()
    start = trainer.initial_tensors(CONFIG, 5)
    for array in start.values():
        array.flags.writeable = False
    before = _bytes(start)
    trainer.train(start, TrainContext(CONFIG, seed=9))
    assert _bytes(start) == before


def test_state_holds_buffers_and_counts_their_batches() -> None:
    trainer = _trainer()
    start = trainer.initial_tensors(CONFIG, 5)
    assert start["1.num_batches_tracked"].dtype == np.int64
    assert start["1.num_batches_tracked"].shape == ()
    result = trainer.train(start, TrainContext(CONFIG, seed=9))
    # 65 examples in batches of 16: the lone last one sits out, as batch norm needs two.
    assert int(result.tensors["1.num_batches_tracked"]) == 3 * 4
    assert np.any(result.tensors["1.running_mean"] != start["1.running_mean"])


def test_progress_is_reported_once_an_epoch_with_the_loss() -> None:
    seen: list[tuple[float, dict[str, float]]] = []

    def report(progress: float, **metrics: float) -> None:
        seen.append((progress, metrics))

    trainer = _trainer()
    result = trainer.train(
        trainer.initial_tensors(CONFIG, 5), TrainContext(CONFIG, seed=9, report=report)
    )
    assert [progress for progress, _ in seen] == [1 / 3, 2 / 3, 1.0]
    assert seen[-1][1] == result.metrics
    assert seen[0][1]["loss"] > seen[-1][1]["loss"]


def test_stop_is_noticed_before_the_next_batch() -> None:
    asked: list[int] = []

    def stop_after_two() -> bool:
        asked.append(1)
        return len(asked) > 2

    trainer = _trainer(eval_data=_line)
    start = trainer.initial_tensors(CONFIG, 5)
    context = TrainContext(CONFIG, seed=9, round_number=4, stop_requested=stop_after_two)
    with pytest.raises(TrainingStopped, match="round 4"):
        trainer.train(start, context)
    assert len(asked) == 3
    with pytest.raises(TrainingStopped):
        trainer.evaluate(start, context)


def test_divergence_is_an_error_and_not_an_update() -> None:
    config = NormConfig(epochs=500, learning_rate=100)
    trainer = _trainer(model=_linear)
    with pytest.raises(TrainingDivergedError, match=r"epoch \d+, step \d, with learning rate 100"):
        trainer.train(trainer.initial_tensors(config, 0), TrainContext(config, seed=0))


def test_empty_training_data_is_refused_and_empty_held_out_data_is_no_evaluation() -> None:
    def empty() -> tuple[Tensor, Tensor]:
        return torch.zeros(0, 2), torch.zeros(0, 1)

    trainer = _trainer(data=empty, eval_data=empty)
    start = trainer.initial_tensors(CONFIG, 5)
    with pytest.raises(TrainerError, match="training data is empty"):
        trainer.train(start, TrainContext(CONFIG, seed=9))
    assert trainer.evaluate(start, TrainContext(CONFIG, seed=9)) is None
    assert _trainer().evaluate(start, TrainContext(CONFIG, seed=9)) is None


def test_metrics_see_all_held_out_data_in_order_and_undefined_ones_are_left_out() -> None:
    def largest(outputs: Tensor, targets: Tensor) -> float:
        assert torch.equal(targets, _line(50)[1])
        return float(outputs.max())

    def undefined(outputs: Tensor, targets: Tensor) -> float:
        return float("nan")

    trainer = _trainer(
        model=_linear,
        eval_data=lambda: _line(50),
        metrics={"largest": largest, "undefined": undefined},
    )
    tensors = {"weight": SLOPE.numpy().T, "bias": np.ones(1, np.float32)}
    result = trainer.evaluate(tensors, TrainContext(CONFIG, seed=0))
    assert result is not None
    assert set(result.metrics) == {"loss", "largest"}
    assert result.metrics["largest"] == pytest.approx(float(_line(50)[1].max()))
    assert result.metrics["loss"] == pytest.approx(0, abs=1e-12)


def test_evaluation_drops_nothing_out_and_uses_the_running_statistics() -> None:
    trainer = _trainer(eval_data=_line)
    tensors = trainer.train(
        trainer.initial_tensors(CONFIG, 5), TrainContext(CONFIG, seed=9)
    ).tensors
    small = CONFIG.model_copy(update={"batch_size": 5})
    contexts = (TrainContext(CONFIG, seed=1), TrainContext(small, seed=2))
    one, other = (trainer.evaluate(tensors, context) for context in contexts)
    assert one is not None
    assert other is not None
    assert one.metrics["loss"] == pytest.approx(other.metrics["loss"], rel=1e-5)


class _Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 3)
        self.out = nn.Linear(3, 5, bias=False)
        self.out.weight = self.embed.weight


def test_tied_weights_travel_once_and_stay_tied() -> None:
    tensors = to_tensors(_Tied())
    assert list(tensors) == ["embed.weight"]
    other = _Tied()
    load_tensors(other, tensors)
    np.testing.assert_array_equal(other.out.weight.detach().numpy(), tensors["embed.weight"])
    assert other.out.weight is other.embed.weight


class _Views(nn.Module):
    def __init__(self, first: Tensor, second: Tensor) -> None:
        super().__init__()
        self.register_buffer("first", first)
        self.register_buffer("second", second)


def test_neighbours_in_one_memory_are_fine_and_overlaps_are_refused() -> None:
    memory = torch.arange(10.0)
    apart = to_tensors(_Views(memory[:5], memory[5:]))
    assert (apart["first"].tolist(), apart["second"].tolist()) == ([0, 1, 2, 3, 4], [5, 6, 7, 8, 9])
    with pytest.raises(TensorsError, match="first and second share part of their memory"):
        to_tensors(_Views(memory[:6], memory[5:]))
    with pytest.raises(TensorsError, match="first and second are different views"):
        to_tensors(_Views(memory, memory.view(2, 5)))


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32,
        torch.int16, torch.int8, torch.uint8, torch.bool,
    ],
)  # fmt: skip
@pytest.mark.parametrize("shape", [(), (0,), (3, 2)])
def test_every_dtype_survives_the_journey(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    values = (torch.rand(shape, generator=torch.Generator().manual_seed(2)) * 100).to(dtype)
    tensors = to_tensors(_Views(values.t() if values.dim() > 1 else values, torch.zeros(1)))
    assert (tensors["first"].dtype == BFLOAT16) is (dtype is torch.bfloat16)
    assert tensors["first"].shape == shape[::-1]
    other = _Views(torch.zeros(shape[::-1], dtype=dtype), torch.ones(1))
    load_tensors(other, tensors)
    assert torch.equal(other.state_dict()["first"], values.t() if values.dim() > 1 else values)


def test_a_dtype_that_no_update_carries_is_named() -> None:
    with pytest.raises(TensorsError, match="second is complex64, wanted one of float64,"):
        to_tensors(_Views(torch.zeros(1), torch.zeros(1, dtype=torch.complex64)))


def test_a_bfloat16_model_trains() -> None:
    def half(count: int = 64) -> tuple[Tensor, Tensor]:
        inputs, targets = _line(count)
        return inputs.bfloat16(), targets.bfloat16()

    trainer = _trainer(data=half, model=lambda _: nn.Linear(2, 1).bfloat16())
    start = trainer.initial_tensors(CONFIG, 5)
    result = trainer.train(start, TrainContext(CONFIG, seed=9))
    assert result.tensors["weight"].dtype == BFLOAT16
    assert result.tensors["weight"].tobytes() != start["weight"].tobytes()


def test_tensors_of_another_model_are_refused_with_every_difference() -> None:
    trainer = _trainer(model=_linear)
    wrong = {"weight": np.zeros((1, 3), np.float32), "extra": np.zeros(1, np.float32)}
    with pytest.raises(TensorsError) as caught:
        trainer.train(wrong, TrainContext(CONFIG, seed=9))
    lines = [line.strip() for line in str(caught.value).splitlines()[1:]]
    assert lines == [
        "extra: the model has no such tensor",
        "weight: got float32[1, 3], the model has float32[1, 2]",
        "bias: missing, the model has float32[1]",
    ]


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"learning_rate": float("inf")}, "learning_rate"),
        ({"momentum": 1}, "momentum"),
        ({"optimizer": "lion"}, "optimizer"),
        ({"learning_rat": 1}, "learning_rat"),
    ],
)
def test_senseless_settings_are_refused(wrong: dict[str, Any], path: str) -> None:
    with pytest.raises(ValidationError, match=path):
        TorchConfig.model_validate(wrong)


def test_momentum_belongs_to_sgd() -> None:
    with pytest.raises(ConfigError, match=r"momentum is 0\.9, but adam takes none") as caught:
        parse_config(TorchConfig, {"optimizer": "adam", "momentum": 0.9})
    assert [path for path, _ in caught.value.problems] == ["training"]


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_each_optimizer_trains(name: str) -> None:
    config = parse_config(NormConfig, {"optimizer": name, "weight_decay": 0.01, "epochs": 2})
    trainer = _trainer()
    start = trainer.initial_tensors(config, 5)
    result = trainer.train(start, TrainContext(config, seed=9))
    assert np.any(result.tensors["0.weight"] != start["0.weight"])


def test_a_torch_trainer_instance_is_loaded_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "site_trainer_under_test.py").write_text(
        "import torch\n"
        "from hansa.pytorch import TorchConfig, TorchTrainer\n"
        "trainer = TorchTrainer(config=TorchConfig, model=lambda c: torch.nn.Linear(1, 1),\n"
        "    train_data=lambda: (torch.zeros(1, 1), torch.zeros(1, 1)),\n"
        "    loss=torch.nn.functional.mse_loss)\n",
        encoding="utf-8",
    )
    trainer = load_trainer("site_trainer_under_test:trainer")
    assert set(trainer.initial_tensors(TorchConfig(), 1)) == {"weight", "bias"}


def test_without_torch_the_error_says_what_to_install() -> None:
    # The finder makes `import torch` fail as it does where torch is not installed.
    script = (
        "import sys\n"
        "import hansa.trainer\n"
        "assert 'torch' not in sys.modules\n"
        "class Hide:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch':\n"
        "            raise ModuleNotFoundError('No module named torch', name='torch')\n"
        "sys.meta_path.insert(0, Hide())\n"
        "import hansa.pytorch\n"
    )
    done = subprocess.run(  # noqa: S603 -- our own interpreter, our own script
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert 'ImportError: hansa.pytorch needs PyTorch: pip install "hansa[torch]"' in done.stderr
