"""The PyTorch trainer: a model, a loader and a loss become a `hansa.trainer.Trainer`.

    trainer = TorchTrainer(
        config=Config, model=build_model, train_data=load_train, loss=nn.functional.mse_loss
    )

Invariants:
- the same tensors, config, seed and data give the same bytes on the same machine: torch and
  the shuffling are seeded, deterministic kernels are on, CPU threads are fixed, and the caller's
  own random state and switches are as before afterwards;
- the state dict is complete, buffers included; tied weights travel once, under the first name;
- the run's configuration never chooses the data: loaders take no arguments.
"""

import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import Any, Generic, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from hansa.trainer import (
    EvalResult,
    Tensors,
    TensorsError,
    TrainContext,
    TrainerError,
    TrainingDivergedError,
    TrainingStopped,
    TrainResult,
)
from hansa_core.dtypes import DType

try:
    import torch
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ImportError('hansa.pytorch needs PyTorch: pip install "hansa[torch]"') from error

from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

_DTYPES = {
    torch.float64: DType.F64,
    torch.float32: DType.F32,
    torch.float16: DType.F16,
    torch.bfloat16: DType.BF16,
    torch.int64: DType.I64,
    torch.int32: DType.I32,
    torch.int16: DType.I16,
    torch.int8: DType.I8,
    torch.uint8: DType.U8,
    torch.bool: DType.BOOL,
}

Pairs = Dataset[tuple[Tensor, ...]] | tuple[Tensor, Tensor]
"""Data as a loader returns it: a map-style dataset of (input, target), or both as tensors."""

Loss = Callable[[Tensor, Tensor], Tensor]
"""(outputs, targets) to a scalar, the mean over the batch."""

Metric = Callable[[Tensor, Tensor], float]
"""(outputs, targets) over all held-out data, on the CPU; NaN where undefined, then left out."""


class OptimizerName(StrEnum):
    SGD = "sgd"
    ADAM = "adam"
    ADAMW = "adamw"


class TorchConfig(BaseModel):
    """Local training's knobs; subclass it to add the model's own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(default=1, ge=1, le=10_000, description="passes over local data a round")
    batch_size: int = Field(default=32, ge=1, le=1_000_000, description="examples a step")
    learning_rate: float = Field(default=0.01, gt=0, le=100, allow_inf_nan=False)
    optimizer: OptimizerName = OptimizerName.SGD
    momentum: float = Field(default=0.0, ge=0, lt=1, description="SGD only")
    weight_decay: float = Field(default=0.0, ge=0, le=10, allow_inf_nan=False)

    @model_validator(mode="after")
    def _momentum_is_for_sgd(self) -> "TorchConfig":
        if self.momentum and self.optimizer is not OptimizerName.SGD:
            raise ValueError(f"momentum is {self.momentum}, but {self.optimizer} takes none")
        return self


ConfigT = TypeVar("ConfigT", bound=TorchConfig)


def build_optimizer(
    parameters: Iterable[nn.Parameter], config: TorchConfig
) -> torch.optim.Optimizer:
    """Return the optimizer that `config` names; it starts afresh every round."""
    rate, decay = config.learning_rate, config.weight_decay
    match config.optimizer:
        case OptimizerName.SGD:
            return torch.optim.SGD(
                parameters, lr=rate, weight_decay=decay, momentum=config.momentum
            )
        case OptimizerName.ADAM:
            return torch.optim.Adam(parameters, lr=rate, weight_decay=decay)
        case OptimizerName.ADAMW:
            return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchTrainer(Generic[ConfigT]):
    """A trainer out of plain functions."""

    config: type[ConfigT]
    model: Callable[[ConfigT], nn.Module]
    train_data: Callable[[], Pairs]
    loss: Loss
    eval_data: Callable[[], Pairs] | None = None
    metrics: Mapping[str, Metric] = field(default_factory=dict[str, Metric])
    optimizer: Callable[[Iterable[nn.Parameter], ConfigT], torch.optim.Optimizer] = build_optimizer
    threads: int = 1  # CPU threads; more are faster on big models, and give other bytes

    @property
    def config_type(self) -> type[ConfigT]:
        """The typed configuration of the run's `[training]` table."""
        return self.config

    def initial_tensors(self, config: ConfigT, seed: int) -> dict[str, NDArray[Any]]:
        """Return the freshly built model's state.

        Raises:
            TensorsError: the state holds something that no update can carry.
        """
        with _repeatable(seed, "cpu", self.threads):
            return to_tensors(self.model(config))

    def train(self, tensors: Tensors, context: TrainContext[ConfigT]) -> TrainResult:
        """Train `config.epochs` passes from `tensors`; report once a pass.

        The metric `loss` is the last pass's mean over its examples, taken while training.

        Raises:
            TensorsError: `tensors` is not this model's state.
            TrainingDivergedError: the loss is no longer finite.
            TrainingStopped: `context.stop_requested()` turned true between two batches.
        """
        config = context.config
        with _repeatable(context.seed, context.device, self.threads):
            model = self._load(tensors, context)
            data = _as_dataset(self.train_data())
            count = len(cast("Sized", data))
            if count == 0:
                raise TrainerError("the training data is empty, wanted at least 1 example")
            optimizer = self.optimizer(model.parameters(), config)
            batches = _shuffled(data, count, config.batch_size, context.seed)
            mean_loss = 0.0
            for epoch in range(1, config.epochs + 1):
                mean_loss = self._train_epoch(model, optimizer, batches, context, epoch)
                context.report(epoch / config.epochs, loss=mean_loss)
            return TrainResult(to_tensors(model), count, {"loss": mean_loss})

    def evaluate(self, tensors: Tensors, context: TrainContext[ConfigT]) -> EvalResult | None:
        """Return loss and metrics of `tensors` on held-out data, None where there is none.

        Raises:
            TensorsError: `tensors` is not this model's state.
            TrainingStopped: `context.stop_requested()` turned true between two batches.
        """
        if self.eval_data is None:
            return None
        with _repeatable(context.seed, context.device, self.threads), torch.no_grad():
            data = _as_dataset(self.eval_data())
            count = len(cast("Sized", data))
            if count == 0:
                return None
            model = self._load(tensors, context).eval()
            outputs: list[Tensor] = []
            targets: list[Tensor] = []
            for inputs, wanted in _batches(data, context.config.batch_size):
                _stop_if_asked(context)
                outputs.append(model(inputs.to(context.device)).cpu())
                targets.append(wanted)
            output, target = torch.cat(outputs), torch.cat(targets)
            values = {"loss": float(self.loss(output, target))}
            values |= {name: float(metric(output, target)) for name, metric in self.metrics.items()}
        return EvalResult(count, {name: v for name, v in values.items() if np.isfinite(v)})

    def _load(self, tensors: Tensors, context: TrainContext[ConfigT]) -> nn.Module:
        model = self.model(context.config)
        load_tensors(model, tensors)
        return model.to(context.device).train()

    def _train_epoch(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        batches: Iterable[tuple[Tensor, Tensor]],
        context: TrainContext[ConfigT],
        epoch: int,
    ) -> float:
        total, seen = 0.0, 0
        for step, (inputs, targets) in enumerate(batches, start=1):
            _stop_if_asked(context)
            optimizer.zero_grad(set_to_none=True)
            loss = self.loss(model(inputs.to(context.device)), targets.to(context.device))
            value = float(loss.detach())
            if not np.isfinite(value):
                raise TrainingDivergedError(
                    f"the loss is {value} in epoch {epoch}, step {step}, with learning rate"
                    f" {context.config.learning_rate}: wanted a finite number"
                )
            loss.backward()  # pyright: ignore[reportUnknownMemberType]
            optimizer.step()
            total, seen = total + value * len(targets), seen + len(targets)
        return total / seen


def to_tensors(model: nn.Module) -> dict[str, NDArray[Any]]:
    """Return the model's state dict as numpy copies; tied weights once, under the first name.

    Raises:
        TensorsError: an entry is no dense tensor, has a dtype that no update carries, or
            shares part of its memory with another.
    """
    state = _state(model)
    aliases = _aliases(state)
    return {name: _to_numpy(name, state[name]) for name in state if name not in aliases}


def load_tensors(model: nn.Module, tensors: Tensors) -> None:
    """Copy `tensors` into the model, which must have exactly these names, shapes and dtypes.

    Raises:
        TensorsError: with everything that differs.
    """
    state = _state(model)
    aliases = _aliases(state)
    wanted = {name: tensor for name, tensor in state.items() if name not in aliases}
    problems = [f"{name}: the model has no such tensor" for name in tensors if name not in wanted]
    for name, tensor in wanted.items():
        dtype, shape = _dtype_of(name, tensor).numpy, tuple(tensor.shape)
        if name not in tensors:
            problems.append(f"{name}: missing, the model has {dtype}{list(shape)}")
        elif tensors[name].dtype != dtype or tensors[name].shape != shape:
            seen = tensors[name]
            problems.append(
                f"{name}: got {seen.dtype}{list(seen.shape)}, the model has {dtype}{list(shape)}"
            )
    if problems:
        lines = "".join(f"\n  {line}" for line in problems)
        raise TensorsError(f"these tensors are not this model's:{lines}")
    loaded = {name: _to_torch(tensors[name]) for name in wanted}
    model.load_state_dict(loaded | {alias: loaded[first] for alias, first in aliases.items()})


def _state(model: nn.Module) -> dict[str, Tensor]:
    state = cast("dict[str, object]", model.state_dict())
    wrong = [
        f"{name}: a {type(value).__name__}"
        for name, value in state.items()
        if not isinstance(value, Tensor) or value.layout is not torch.strided
    ]
    if wrong:
        raise TensorsError(f"the model's state holds more than dense tensors: {'; '.join(wrong)}")
    return cast("dict[str, Tensor]", state)


def _aliases(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Return, for every repeated name of one tensor, the first name in state dict order.

    Raises:
        TensorsError: two tensors overlap without being the same.
    """
    aliases: dict[str, str] = {}
    spans: dict[tuple[int, int], tuple[str, Tensor]] = {}  # (first byte, past the last)
    for name, tensor in state.items():
        if tensor.numel() == 0:
            continue
        reach = sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True)) + 1
        start = tensor.data_ptr()
        span = (start, start + reach * tensor.element_size())
        first, twin = spans.setdefault(span, (name, tensor))
        if first == name:
            continue
        if (twin.shape, twin.stride(), twin.dtype) != (tensor.shape, tensor.stride(), tensor.dtype):
            raise TensorsError(f"{first} and {name} are different views of the same memory")
        aliases[name] = first
    ordered = sorted((*span, name) for span, (name, _) in spans.items())
    for (_, end, first), (start, _, second) in pairwise(ordered):
        if start < end:
            raise TensorsError(f"{first} and {second} share part of their memory")
    return aliases


def _dtype_of(name: str, tensor: Tensor) -> DType:
    dtype = _DTYPES.get(tensor.dtype)
    if dtype is None:
        wanted = ", ".join(str(known).removeprefix("torch.") for known in _DTYPES)
        seen = str(tensor.dtype).removeprefix("torch.")
        raise TensorsError(f"{name} is {seen}, wanted one of {wanted}")
    return dtype


def _to_numpy(name: str, tensor: Tensor) -> NDArray[Any]:
    dtype = _dtype_of(name, tensor)
    copy = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
    if dtype is DType.BF16:  # numpy has none: pass the bits
        copy = copy.view(torch.int16)
    return copy.numpy().view(dtype.numpy)


def _to_torch(array: NDArray[Any]) -> Tensor:
    copy = np.array(array, order="C")  # torch would share memory, and warn if it is read-only
    if array.dtype == DType.BF16.numpy:
        return torch.from_numpy(copy.view("<i2")).view(torch.bfloat16)
    return torch.from_numpy(copy)


def _as_dataset(pairs: Pairs) -> Dataset[Any]:
    if isinstance(pairs, tuple):
        return TensorDataset(*pairs)
    if not isinstance(pairs, Sized):
        raise TrainerError(f"{type(pairs).__qualname__} has no length: wanted a map-style dataset")
    return pairs


def _shuffled(
    data: Dataset[Any], count: int, batch_size: int, seed: int
) -> Iterable[tuple[Tensor, Tensor]]:
    # A last batch of one example has no variance, which batch normalization refuses: it sits
    # out this pass, another one the next.
    lone = count > batch_size and count % batch_size == 1
    generator = torch.Generator().manual_seed(seed)
    return DataLoader(data, batch_size, shuffle=True, generator=generator, drop_last=lone)


def _batches(data: Dataset[Any], batch_size: int) -> Iterable[tuple[Tensor, Tensor]]:
    return DataLoader(data, batch_size)


def _stop_if_asked(context: TrainContext[Any]) -> None:
    if context.stop_requested():
        raise TrainingStopped(f"asked to stop in round {context.round_number}")


@contextmanager
def _repeatable(seed: int, device: str, threads: int) -> Generator[None]:
    """Seed torch and switch to deterministic kernels inside; leave no trace outside."""
    target = torch.device(device)
    if target.type == "cuda":
        # cuBLAS reads it at its first use, and is not repeatable without it.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    was_on = torch.are_deterministic_algorithms_enabled()
    only_warned = torch.is_deterministic_algorithms_warn_only_enabled()
    had_threads = torch.get_num_threads()
    cuda = [target] if target.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(seed)  # pyright: ignore[reportUnknownMemberType]
        torch.use_deterministic_algorithms(True)
        torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(had_threads)
            torch.use_deterministic_algorithms(was_on, warn_only=only_warned)
