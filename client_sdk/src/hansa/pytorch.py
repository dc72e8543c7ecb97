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
from typing import Any, Generic, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from hansa.trainer import (
    EvalResult,
    Tensors,
    TrainContext,
    TrainerError,
    TrainingDivergedError,
    TrainingStopped,
    TrainResult,
)
from hansa_core.local_work import Scalar

try:
    import torch
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ImportError('hansa.pytorch needs PyTorch: pip install "hansa[torch]"') from error

from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from hansa.torch_states import load_tensors, to_tensors
from hansa.torch_terms import AppliedTerm, constant_rate, normaliser_of, untrained

__all__ = [
    "Loss",
    "Metric",
    "OptimizerName",
    "Pairs",
    "TorchConfig",
    "TorchTrainer",
    "build_optimizer",
    "load_tensors",
    "to_tensors",
]

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
    def applies_term(self) -> bool:
        """Whether a strategy's correction reaches the gradients: it does."""
        return True

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
            TrainerError: the loss to begin with is wanted and is not finite.
            TrainingDivergedError: the loss is no longer finite.
            TrainingStopped: `context.stop_requested()` turned true between two batches.
        """
        config = context.config
        # By itself, so that being asked changes no bit of the training.
        base_loss = self._loss_of(tensors, context) if Scalar.BASE_LOSS in context.wants else None
        with _repeatable(context.seed, context.device, self.threads):
            model = self._load(tensors, context)
            data = _as_dataset(self.train_data())
            count = len(cast("Sized", data))
            if count == 0:
                raise TrainerError("the training data is empty, wanted at least 1 example")
            with untrained(model, context.fixed):
                optimizer = self.optimizer(model.parameters(), config)
                term = None if context.term is None else AppliedTerm(context.term, model)
                batches = _shuffled(data, count, config.batch_size, context.seed)
                mean_loss, steps = 0.0, 0
                for epoch in range(1, config.epochs + 1):
                    mean_loss, done = self._train_epoch(
                        model, optimizer, term, batches, context, epoch
                    )
                    steps += done
                    context.report(epoch / config.epochs, loss=mean_loss)
            told = context.term is not None or Scalar.NORMALISER in context.wants
            pull = 0.0 if context.term is None else context.term.pull
            return TrainResult(
                to_tensors(model) | {name: tensors[name] for name in context.fixed},
                count,
                {"loss": mean_loss},
                steps=steps,
                learning_rate=constant_rate(optimizer),
                normaliser=normaliser_of(optimizer, steps, pull) if told else None,
                base_loss=base_loss,
            )

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

    def _loss_of(self, tensors: Tensors, context: TrainContext[ConfigT]) -> float:
        """Return the mean loss of a model over all training data, without dropout."""
        total, seen = 0.0, 0
        with _repeatable(context.seed, context.device, self.threads), torch.no_grad():
            model = self._load(tensors, context).eval()
            data = _as_dataset(self.train_data())
            for inputs, targets in _batches(data, context.config.batch_size):
                _stop_if_asked(context)
                loss = self.loss(model(inputs.to(context.device)), targets.to(context.device))
                total, seen = total + float(loss) * len(targets), seen + len(targets)
        return total / max(1, seen)

    def _train_epoch(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        term: AppliedTerm | None,
        batches: Iterable[tuple[Tensor, Tensor]],
        context: TrainContext[ConfigT],
        epoch: int,
    ) -> tuple[float, int]:
        """Return the mean loss of one pass, and its steps."""
        total, seen, step = 0.0, 0, 0
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
            if term is not None:
                term.add()
            optimizer.step()
            total, seen = total + value * len(targets), seen + len(targets)
        return total / seen, step


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
