"""What every hospital runs: `--trainer examples.heart_disease.trainer:trainer`."""

from pathlib import Path

from pydantic import Field
from torch import nn

from examples.heart_disease.data import FEATURES, load, site_dir
from examples.metrics import accuracy, roc_auc
from hansa.pytorch import TorchConfig, TorchTrainer


class Config(TorchConfig):
    hidden: int = Field(default=16, ge=0, le=1024, description="0 is logistic regression")


def build_model(config: Config) -> nn.Module:
    """Return the network from features to one logit."""
    if not config.hidden:
        return nn.Linear(FEATURES, 1)
    return nn.Sequential(nn.Linear(FEATURES, config.hidden), nn.ReLU(), nn.Linear(config.hidden, 1))


def trainer_for(folder: Path | None = None) -> TorchTrainer[Config]:
    """Return the trainer of the hospital whose data is in `folder`, HANSA_DATA_DIR if None."""
    return TorchTrainer(
        config=Config,
        model=build_model,
        train_data=lambda: load((folder or site_dir()) / "train.csv"),
        eval_data=lambda: load((folder or site_dir()) / "heldout.csv"),
        loss=nn.functional.binary_cross_entropy_with_logits,
        metrics={"accuracy": accuracy, "roc_auc": roc_auc},
    )


trainer = trainer_for()
