"""What a strategy changes about PyTorch training: the term, what stays fixed, what is told."""

from collections.abc import Collection, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from hansa.torch_states import parameters_by_name, to_torch
from hansa.trainer import TrainerError
from hansa_core.corrections import LocalTerm, normaliser


@dataclass(frozen=True, slots=True)
class _Addend:
    """One parameter's part of the term, on its device and in its dtype."""

    parameter: nn.Parameter
    shift: Tensor | None
    start: Tensor | None  # the global value, where there is a pull to it


class AppliedTerm:
    """A round's term, ready to be added after every backward pass.

    Parameters that no gradient trains, personal ones and buffers get none.
    """

    def __init__(self, term: LocalTerm, model: nn.Module) -> None:
        """Take the model's present weights as the global ones. Raises TrainerError."""
        self._pull = term.pull
        self._addends: list[_Addend] = []
        for name, parameter in parameters_by_name(model).items():
            if not parameter.requires_grad or name not in term.tensors:
                continue
            shift = None
            if term.shift is not None:
                if name not in term.shift:
                    raise TrainerError(f"the correction has no shift for parameter {name!r}")
                shift = to_torch(term.shift[name]).to(parameter)
            start = parameter.detach().clone() if term.pull else None
            if shift is not None or start is not None:
                self._addends.append(_Addend(parameter, shift, start))

    @torch.no_grad()
    def add(self) -> None:
        """Add it to the gradients; a parameter that the loss does not touch gets it alone."""
        for it in self._addends:
            if it.parameter.grad is None:
                it.parameter.grad = torch.zeros_like(it.parameter)
            if it.shift is not None:
                it.parameter.grad.add_(it.shift)
            if it.start is not None:
                it.parameter.grad.add_(it.parameter - it.start, alpha=self._pull)


@contextmanager
def untrained(model: nn.Module, names: Collection[str]) -> Generator[None]:
    """Let no gradient reach the parameters of these names inside; as before afterwards."""
    chosen = [
        parameter
        for name, parameter in (parameters_by_name(model) if names else {}).items()
        if name in names and parameter.requires_grad
    ]
    for parameter in chosen:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in chosen:
            parameter.requires_grad_(True)


def constant_rate(optimizer: torch.optim.Optimizer) -> float | None:
    """Return the learning rate of SGD, with momentum or without; None for what is not SGD.

    Others move a weight by something other than a sum of gradients, so that no rate turns their
    steps back into a mean gradient.
    """
    if not _is_plain_sgd(optimizer):
        return None
    rates = {float(group["lr"]) for group in _groups(optimizer)}
    return rates.pop() if len(rates) == 1 else None


def normaliser_of(optimizer: torch.optim.Optimizer, steps: int, pull: float) -> float:
    """Return how many plain SGD steps an optimizer's amount to.

    Wang et al. 2020 know it for SGD; of others each step counts as one.
    """
    rate = constant_rate(optimizer)
    if rate is None:
        return float(steps)
    kinds = {(float(it["momentum"]), bool(it["nesterov"])) for it in _groups(optimizer)}
    if len(kinds) != 1:
        return float(steps)
    ((momentum, nesterov),) = kinds
    return normaliser(steps, momentum=momentum, nesterov=nesterov, pull=pull * rate)


def _is_plain_sgd(optimizer: torch.optim.Optimizer) -> bool:
    return isinstance(optimizer, torch.optim.SGD) and all(
        not group["dampening"] and not group["maximize"] for group in _groups(optimizer)
    )


def _groups(optimizer: torch.optim.Optimizer) -> Iterable[dict[str, Any]]:
    return cast("Iterable[dict[str, Any]]", optimizer.param_groups)
