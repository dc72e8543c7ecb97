"""The networks that experiments train, and PyTorch trainers over digits for them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.federations.digits import CLASSES, PIXELS, Images
from examples.metrics import accuracy
from hansa.pytorch import TorchConfig, TorchTrainer

HIDDEN = 64

Build = Callable[[TorchConfig], nn.Module]


def network(config: TorchConfig) -> nn.Module:
    """Return one hidden layer: `body` and `head`."""
    del config
    return _Layers(nn.Sequential(nn.Linear(PIXELS, HIDDEN), nn.ReLU()))


def wide_network(config: TorchConfig) -> nn.Module:
    """Return one hidden layer of 256: matrices that codecs have something to do with."""
    del config
    return _Layers(nn.Sequential(nn.Linear(PIXELS, 256), nn.ReLU()), 256)


def normalised_network(config: TorchConfig) -> nn.Module:
    """Return two hidden layers with batch normalization, `body.1` and `body.4`."""
    del config
    body = nn.Sequential(
        nn.Linear(PIXELS, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU(),
        nn.Linear(HIDDEN, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU(),
    )  # fmt: skip
    return _Layers(body)


def softmax_regression(config: TorchConfig) -> nn.Module:
    """Return a linear model: its loss has one minimum."""
    del config
    return nn.Linear(PIXELS, CLASSES)


def adapted_by(scanner: str, scanners: tuple[str, ...]) -> Build:
    """Return a network with an input layer for each scanner, of which only one is used."""

    def build(config: TorchConfig) -> nn.Module:
        del config
        return _Adapted(scanner, scanners)

    return build


def trainer_of(build: Build, train: Images, test: Images) -> TorchTrainer[TorchConfig]:
    """Return a trainer over these images."""
    train_pairs, test_pairs = _pairs(train), _pairs(test)
    return TorchTrainer(
        config=TorchConfig,
        model=build,
        train_data=lambda: train_pairs,
        eval_data=lambda: test_pairs,
        loss=nn.functional.cross_entropy,
        metrics={"accuracy": accuracy},
    )


class _Layers(nn.Module):
    def __init__(self, body: nn.Module, width: int = HIDDEN) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x_nd: Tensor) -> Tensor:
        return self.head(self.body(x_nd))


class _Adapted(nn.Module):
    def __init__(self, scanner: str, scanners: tuple[str, ...]) -> None:
        super().__init__()
        self.adapters = nn.ModuleDict({it: nn.Linear(PIXELS, HIDDEN) for it in scanners})
        self.trunk = _Layers(nn.Sequential(nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU()))
        self._scanner = scanner

    def forward(self, x_nd: Tensor) -> Tensor:
        return self.trunk(self.adapters[self._scanner](x_nd))


def _pairs(images: Images) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(images.x_nd.copy()), torch.from_numpy(images.y_n.copy())
