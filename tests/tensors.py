"""Tensors as sites send them, and a plain implementation of the mean to compare with."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hansa_core.tensors import bytes_reader, read_tensors, write_tensors

Tensors = dict[str, NDArray[Any]]

BASE: Mapping[str, NDArray[Any]] = {
    "layer.weight": np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3),
    "layer.bias": np.array([0.5, -0.25, 0.125], np.float32),
    "steps": np.array(7, np.int64),
}


def a_delta(seed: int, like: Mapping[str, NDArray[Any]] = BASE) -> Tensors:
    """Return tensors as a site might send them, the same for the same seed."""
    generator = np.random.default_rng(seed)
    return {
        name: (
            np.array(generator.normal(size=array.shape), array.dtype)
            if array.dtype.kind == "f"
            else np.array(generator.integers(0, 9, array.shape), array.dtype)
        )
        for name, array in like.items()
    }


def plain_fedavg(
    base: Mapping[str, NDArray[Any]], updates: Iterable[tuple[Tensors, int]]
) -> Tensors:
    """Return base + sum(n_k * delta_k) / sum(n_k): a plain reference for the aggregator."""
    ordered = sorted(updates, key=lambda update: (digest_of(encode(update[0])), update[1]))
    total = float(sum(weight for _, weight in ordered))
    result: Tensors = {}
    for name, array in base.items():
        mean = np.zeros(array.shape)
        for tensors, weight in ordered:
            mean = mean + tensors[name].astype(np.float64) * float(weight)
        mean = mean / total
        if array.dtype.kind == "f":
            result[name] = np.asarray(mean + array.astype(np.float64)).astype(array.dtype)
        else:
            result[name] = array + np.rint(mean).astype(array.dtype)
    return result


def encode(tensors: Mapping[str, NDArray[Any]]) -> bytes:
    """Return the canonical file of `tensors`."""
    data = bytearray()
    write_tensors(tensors, data.extend)
    return bytes(data)


def decode(data: bytes) -> Tensors:
    """Return the tensors of a file."""
    return read_tensors(bytes_reader(data), len(data))


def digest_of(data: bytes) -> str:
    """Return the name of an artifact."""
    return hashlib.sha256(data).hexdigest()
