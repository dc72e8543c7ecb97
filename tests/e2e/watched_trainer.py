"""The trainer of the other tests, in a site whose words are kept before they are masked.

HANSA_E2E_WORDS names the folder: one file per round's digest, the one that was masked last. So a
test can add up what no hub may see.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hansa.secure import tasks
from hansa_core.secagg.messages import Header
from hansa_core.secagg.rosters import Group
from hansa_core.secagg.site import mask
from tests.e2e.numpy_trainer import trainer

__all__ = ["trainer"]


def _keep_and_mask(
    group: Group, header: Header, *, words: NDArray[np.uint64], **others: Any
) -> bytes:
    folder = Path(os.environ["HANSA_E2E_WORDS"])
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f"{header.digest()}.{os.getpid()}.tmp.npy"
    np.save(beside, words)
    beside.replace(folder / f"{header.digest()}.npy")
    return mask(group, header, words=words, **others)


tasks.mask = _keep_and_mask  # pyright: ignore[reportPrivateImportUsage]
