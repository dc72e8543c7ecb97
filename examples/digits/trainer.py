"""What every site runs: `--trainer examples.digits.trainer:trainer`."""

from pathlib import Path

from pydantic import Field
from torch import nn

from examples.digits.data import CLASSES, SIDE, load, site_dir
from examples.metrics import accuracy
from hansa.pytorch import TorchConfig, TorchTrainer


class Config(TorchConfig):
    channels: int = Field(default=16, ge=1, le=256, description="of the first convolution")


def build_model(config: Config) -> nn.Module:
    """Return two convolutions with batch normalization and a linear layer on top."""
    first, second = config.channels, 2 * config.channels
    return nn.Sequential(
        nn.Conv2d(1, first, 3, padding=1), nn.BatchNorm2d(first), nn.ReLU(),
        nn.Conv2d(first, second, 3, padding=1), nn.BatchNorm2d(second), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(second * (SIDE // 2) ** 2, CLASSES),
    )  # fmt: skip


def trainer_for(folder: Path | None = None) -> TorchTrainer[Config]:
    """Return the trainer of the site whose data is in `folder`, HANSA_DATA_DIR if None."""
    return TorchTrainer(
        config=Config,
        model=build_model,
        train_data=lambda: load((folder or site_dir()) / "train.csv"),
        eval_data=lambda: load((folder or site_dir()) / "heldout.csv"),
        loss=nn.functional.cross_entropy,
        metrics={"accuracy": accuracy},
    )


trainer = trainer_for()
