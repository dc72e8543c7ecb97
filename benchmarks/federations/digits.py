"""scikit-learn's handwritten digits, dealt to many sites: by label, by feature, or evenly.

Invariants: every training image is at exactly one site; held-out images are at none, unless a
function says so; all of it depends on the generator alone.

Shape suffixes: n images, d = 64 pixels each, from 0 to 1.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from sklearn import datasets

SIDE, CLASSES = 8, 10
PIXELS = SIDE * SIDE

Shift = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Images as another scanner would have them, (N, 8, 8) to the same."""


@dataclass(frozen=True, slots=True)
class Images:
    """Some digits."""

    x_nd: NDArray[np.float32]
    y_n: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.y_n)

    def take(self, rows: NDArray[np.int64]) -> "Images":
        """Return these rows."""
        return Images(self.x_nd[rows], self.y_n[rows])

    def seen_by(self, shift: Shift) -> "Images":
        """Return them as `shift` has them."""
        shifted = shift(self.x_nd.reshape(-1, SIDE, SIDE))
        return Images(np.ascontiguousarray(shifted, np.float32).reshape(-1, PIXELS), self.y_n)


@lru_cache
def all_digits() -> Images:
    """Return all 1797."""
    bunch = cast("Any", datasets.load_digits())
    pixels = np.asarray(bunch.data, np.float32) / np.float32(16)
    return Images(pixels, np.asarray(bunch.target).astype(np.int64))


def held_out(images: Images, rng: np.random.Generator, share: float = 0.2) -> tuple[Images, Images]:
    """Return (rest, a share of it drawn at random)."""
    rows = rng.permutation(len(images))
    cut = round(share * len(images))
    return images.take(np.sort(rows[cut:])), images.take(np.sort(rows[:cut]))


def deal(
    images: Images, sites: int, alpha: float, rng: np.random.Generator, fewest: int = 10
) -> list[Images]:
    """Deal to sites: of each digit, shares drawn from a symmetric Dirichlet distribution.

    Hsu, Qi and Brown 2019: the smaller `alpha`, the more the sites differ; 100 is nearly even. A
    site that would have fewer than `fewest` takes images at random from those with the most.
    """
    owners = np.empty(len(images), np.int64)
    for digit in range(CLASSES):
        rows = rng.permutation(np.flatnonzero(images.y_n == digit))
        cuts = np.rint(np.cumsum(rng.dirichlet([alpha] * sites))[:-1] * len(rows))
        for site, part in enumerate(np.split(rows, cuts.astype(np.int64))):
            owners[part] = site
    counts = np.bincount(owners, minlength=sites)
    while counts.min() < fewest:
        poor, rich = int(counts.argmin()), int(counts.argmax())
        owners[rng.choice(np.flatnonzero(owners == rich))] = poor
        counts = np.bincount(owners, minlength=sites)
    return [images.take(np.flatnonzero(owners == site)) for site in range(sites)]


def upright(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Change nothing."""
    return images


def inverted(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Swap ink and paper."""
    return 1 - images


def turned(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn by a quarter."""
    return np.rot90(images, axes=(1, 2))


def mirrored(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Swap left and right."""
    return images[:, :, ::-1]


def faint(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Leave a fifth of the contrast, on grey."""
    return np.float32(0.6) + np.float32(0.2) * images


def glaring(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Three times the contrast."""
    return 3 * images


SHIFTS: Sequence[Shift] = (upright, inverted, faint, glaring)
