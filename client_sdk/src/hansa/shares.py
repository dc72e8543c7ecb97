"""What of a model a site trains, keeps to itself and uploads (hansa_core.tensor_groups).

The local model is the checkpoint with the site's own personal tensors in it. Frozen tensors, and
those of groups that the site does not hold, are the checkpoint's whatever a trainer does to them.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hansa.trainer import Tensors, TensorsError
from hansa_core.dtypes import DType, bf16_to_f32, dtype_of
from hansa_core.layouts import Layout
from hansa_core.tensor_groups import TensorsPlan, partition


@dataclass(frozen=True, slots=True)
class Shares:
    """A model's tensors by what this site does with them."""

    uploaded: Layout
    personal: Layout  # stay here
    fixed: frozenset[str]  # not trained here

    @property
    def uploaded_names(self) -> frozenset[str]:
        """The names of what is uploaded."""
        return frozenset(tensor.name for tensor in self.uploaded.tensors)


def shares_of(base: Tensors, plan: TensorsPlan, groups: Collection[str]) -> Shares:
    """Sort a checkpoint's tensors for a site that holds these groups. Raises TensorGroupsError."""
    layout = Layout.of(base)
    if plan == TensorsPlan():
        return Shares(layout, Layout(()), frozenset())
    parts = partition(layout, plan)
    uploaded = parts.upload_layout(groups)
    personal = Layout(tuple(it for it in layout.tensors if it.name in parts.personal))
    trained = {tensor.name for tensor in (*uploaded.tensors, *personal.tensors)}
    return Shares(
        uploaded, personal, frozenset(it.name for it in layout.tensors if it.name not in trained)
    )


def personalised(base: Tensors, own: Tensors | None) -> Tensors:
    """Return the checkpoint with the site's own tensors in their places."""
    return base if own is None else {name: own.get(name, array) for name, array in base.items()}


def personal_of(local: Tensors, shares: Shares) -> Mapping[str, NDArray[Any]]:
    """Return the personal tensors after training. Raises TensorsError if one is not finite."""
    own = {tensor.name: local[tensor.name] for tensor in shares.personal.tensors}
    wrong = [name for name, array in own.items() if not _is_finite(array)]
    if wrong:
        raise TensorsError(f"personal tensors are not finite: {', '.join(sorted(wrong)[:5])}")
    return own


def _is_finite(array: NDArray[Any]) -> bool:
    dtype = dtype_of(array)
    if not dtype.is_float:
        return True
    return bool(np.isfinite(bf16_to_f32(array) if dtype is DType.BF16 else array).all())
