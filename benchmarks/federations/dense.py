"""A trainer in numpy for the network and the softmax regression of models.py, ten times as fast.

It is what a site without PyTorch could run (docs/trainers.md): plain SGD, corrections, base loss.
Tensors are called as PyTorch calls them, so one can take the place of the other; the tests hold its
steps against those of `TorchTrainer`.

Shape suffixes: n images, d pixels, h hidden units, c classes; g_ is a gradient.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.federations.digits import CLASSES, PIXELS, Images
from hansa.pytorch import OptimizerName, TorchConfig
from hansa.trainer import (
    EvalResult,
    Tensors,
    TrainContext,
    TrainerError,
    TrainingDivergedError,
    TrainResult,
)
from hansa_core.corrections import LocalTerm
from hansa_core.local_work import Scalar

Array = NDArray[np.float32]
Weights = dict[str, Array]


@dataclass(frozen=True, slots=True)
class DenseTrainer:
    """A trainer over digits."""

    train_data: Images
    eval_data: Images
    hidden: int  # units; 0: a softmax regression

    @property
    def applies_term(self) -> bool:
        """It does."""
        return True

    @property
    def config_type(self) -> type[TorchConfig]:
        """PyTorch's, of which only plain SGD works."""
        return TorchConfig

    def initial_tensors(self, config: TorchConfig, seed: int) -> Weights:
        """Return uniform values up to 1 / sqrt(inputs), as nn.Linear begins."""
        del config
        rng = np.random.default_rng(seed)
        widths = {"body.0": (self.hidden, PIXELS), "head": (CLASSES, self.hidden)}
        layers = widths if self.hidden else {"": (CLASSES, PIXELS)}
        tensors: Weights = {}
        for name, (outputs, inputs) in layers.items():
            prefix, bound = f"{name}." if name else "", 1 / math.sqrt(inputs)
            tensors[f"{prefix}weight"] = rng.uniform(-bound, bound, (outputs, inputs)).astype("f4")
            tensors[f"{prefix}bias"] = rng.uniform(-bound, bound, outputs).astype("f4")
        return tensors

    def train(self, tensors: Tensors, context: TrainContext[TorchConfig]) -> TrainResult:
        """Take SGD steps over shuffled batches. Raises TrainerError and TrainingDivergedError."""
        config, data = context.config, self.train_data
        if config.optimizer is not OptimizerName.SGD or config.momentum or context.fixed:
            raise TrainerError("wanted plain SGD over all tensors")
        weights: Weights = {name: np.array(array) for name, array in tensors.items()}
        base_loss = None
        if Scalar.BASE_LOSS in context.wants:
            base_loss = _loss(_forward(weights, data.x_nd)[1], data.y_n)
        rng = np.random.default_rng(context.seed)
        steps, total = 0, 0.0
        for _ in range(config.epochs):
            rows_n, total = rng.permutation(len(data)), 0.0
            for start in range(0, len(data), config.batch_size):
                batch = data.take(rows_n[start : start + config.batch_size])
                loss, gradients = gradients_of(weights, batch)
                if not math.isfinite(loss):
                    raise TrainingDivergedError(f"the loss is {loss}: wanted a finite number")
                for name, gradient in gradients.items():
                    if config.weight_decay:
                        np.add(gradient, config.weight_decay * weights[name], out=gradient)
                    if context.term is not None:
                        _correct(gradient, name, context.term, weights[name] - tensors[name])
                    weights[name] -= config.learning_rate * gradient
                steps, total = steps + 1, total + loss * len(batch)
        return TrainResult(
            weights,
            len(data),
            {"loss": total / len(data)},
            steps=steps,
            learning_rate=config.learning_rate,
            normaliser=float(steps),
            base_loss=base_loss,
        )

    def evaluate(self, tensors: Tensors, context: TrainContext[TorchConfig]) -> EvalResult:
        """Return loss and accuracy on what is held out."""
        del context
        z_nc = _forward(tensors, self.eval_data.x_nd)[1]
        right = float((z_nc.argmax(axis=1) == self.eval_data.y_n).mean())
        loss = _loss(z_nc, self.eval_data.y_n)
        metrics = {"accuracy": right} | ({"loss": loss} if math.isfinite(loss) else {})
        return EvalResult(len(self.eval_data), metrics)


def gradients_of(tensors: Tensors, images: Images) -> tuple[float, Weights]:
    """Return the mean cross-entropy and its gradient by every tensor."""
    with np.errstate(over="ignore", invalid="ignore"):  # found in the loss
        h_nh, z_nc = _forward(tensors, images.x_nd)
        log_p_nc = z_nc - z_nc.max(axis=1, keepdims=True)
        log_p_nc -= np.log(np.exp(log_p_nc).sum(axis=1, keepdims=True))
        rows = np.arange(len(images))
        loss = -float(log_p_nc[rows, images.y_n].mean())
        g_nc = np.exp(log_p_nc)
        g_nc[rows, images.y_n] -= 1
        g_nc /= np.float32(len(images))
        last = "head." if "head.weight" in tensors else ""
        found = {f"{last}weight": g_nc.T @ h_nh, f"{last}bias": g_nc.sum(axis=0)}
        if last:
            g_nh = (g_nc @ tensors["head.weight"]) * (h_nh > 0)
            found["body.0.weight"] = g_nh.T @ images.x_nd
            found["body.0.bias"] = g_nh.sum(axis=0)
    return loss, found


def _correct(gradient: Array, name: str, term: LocalTerm, moved: Array) -> None:
    """Add a strategy's term to a gradient in place (docs/trainers.md)."""
    if name not in term.tensors:
        return
    if term.shift is not None:
        gradient += term.shift[name]
    if term.pull:
        gradient += term.pull * moved


def _forward(tensors: Mapping[str, NDArray[Any]], x_nd: Array) -> tuple[Array, Array]:
    """Return what the last layer sees, and logits."""
    if "head.weight" not in tensors:
        return x_nd, x_nd @ tensors["weight"].T + tensors["bias"]
    h_nh = np.maximum(x_nd @ tensors["body.0.weight"].T + tensors["body.0.bias"], 0)
    return h_nh, h_nh @ tensors["head.weight"].T + tensors["head.bias"]


def _loss(z_nc: Array, y_n: NDArray[np.int64]) -> float:
    top_n1 = z_nc.max(axis=1, keepdims=True)
    log_sum_n = np.log(np.exp(z_nc - top_n1).sum(axis=1)) + top_n1[:, 0]
    return float((log_sum_n - z_nc[np.arange(len(y_n)), y_n]).mean())
