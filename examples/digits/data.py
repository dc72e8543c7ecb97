"""scikit-learn's handwritten digits, dealt unevenly to five sites, one directory each.

    <out_dir>/<site>/train.csv       label, then 64 pixels from 0 to 16, row by row
    <out_dir>/<site>/heldout.csv

Invariants: every image is in exactly one file; the split depends on seed and alpha alone.

Shape legend: x_N1HW, N images of one channel, H = W = 8; y_N, their digits.
"""

import os
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn import datasets
from torch import Tensor

DATA_DIR_VARIABLE = "HANSA_DATA_DIR"
SITES = ("bergen", "bremen", "hamburg", "luebeck", "visby")
CLASSES, SIDE = 10, 8
HELDOUT_SHARE = 0.2
_FEWEST = 100  # images a site must get, or the deal is repeated


def prepare(out_dir: Path, seed: int = 0, alpha: float = 0.3) -> dict[str, tuple[int, int]]:
    """Write every site's directory; return its (training, held-out) image counts.

    Of each digit every site gets a share drawn from a symmetric Dirichlet distribution (Hsu,
    Qi and Brown 2019): the smaller `alpha`, the more the sites differ.
    """
    pixels, labels = _read_digits()
    rng = np.random.default_rng(seed)
    owners = _deal(labels, rng, alpha)
    counts: dict[str, tuple[int, int]] = {}
    for index, site in enumerate(SITES):
        own = rng.permutation(np.flatnonzero(owners == index))
        cut = round(len(own) * HELDOUT_SHARE)
        folder = out_dir / site
        folder.mkdir(parents=True, exist_ok=True)
        for name, rows in (("heldout", np.sort(own[:cut])), ("train", np.sort(own[cut:]))):
            table = np.column_stack([labels[rows], pixels[rows]])
            np.savetxt(folder / f"{name}.csv", table, fmt="%d", delimiter=",")
        counts[site] = len(own) - cut, cut
    return counts


def site_dir() -> Path:
    """Return the directory this site reads, from the environment.

    Raises:
        RuntimeError: the variable is not set.
    """
    value = os.environ.get(DATA_DIR_VARIABLE)
    if not value:
        raise RuntimeError(f"{DATA_DIR_VARIABLE} is not set: wanted this site's directory")
    return Path(value)


def load(path: Path) -> tuple[Tensor, Tensor]:
    """Return one file as (x_N1HW float32 from 0 to 1, y_N int64)."""
    table = np.loadtxt(path, dtype=np.int64, delimiter=",", ndmin=2)
    images = torch.from_numpy(table[:, 1:].astype(np.float32) / 16)
    return images.reshape(-1, 1, SIDE, SIDE), torch.from_numpy(table[:, 0].copy())


def _read_digits() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    bunch = cast("Any", datasets.load_digits())
    return np.asarray(bunch.data).astype(np.int64), np.asarray(bunch.target).astype(np.int64)


def _deal(labels: NDArray[np.int64], rng: np.random.Generator, alpha: float) -> NDArray[np.int64]:
    """Return for every image the index of the site that gets it."""
    while True:
        owners = np.empty(len(labels), np.int64)
        for digit in range(CLASSES):
            rows = rng.permutation(np.flatnonzero(labels == digit))
            shares = rng.dirichlet([alpha] * len(SITES))
            cuts = np.rint(np.cumsum(shares)[:-1] * len(rows)).astype(np.int64)
            for index, part in enumerate(np.split(rows, cuts)):
                owners[part] = index
        if np.bincount(owners, minlength=len(SITES)).min() >= _FEWEST:
            return owners
