"""Elements of several files side by side, wherever they lie."""

import json

import numpy as np
import pytest

from hansa_core.aggregation.readers import Rows
from tests.combines import ViewedBytes, opened
from tests.tensors import encode

N = 10_000


def a_file(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "a": rng.standard_normal(N // 2).astype("f4"),
        "b": rng.standard_normal(N // 2).astype("f4"),
    }


def section_values(delta: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([delta["a"], delta["b"]])


@pytest.mark.parametrize("viewed", [True, False])
@pytest.mark.parametrize(
    ("window", "large"), [(4096, 2048), (4096, 4096), (64, 1 << 20), (1 << 20, 1000)]
)
@pytest.mark.parametrize("step", [1, 64, 1000])
def test_spans_have_all_elements_once_and_in_order(
    viewed: bool, window: int, large: int, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hansa_core.aggregation.readers.MOST_WINDOW", window)
    monkeypatch.setattr("hansa_core.aggregation.readers.LEAST_WINDOW", 1)
    monkeypatch.setattr("hansa_core.aggregation.readers.READ_BYTES", 3 * window)
    monkeypatch.setattr("hansa_core.aggregation.readers.LEAST_READ", 8)
    monkeypatch.setattr("hansa_core.aggregation.inputs.LARGE_PAGE", large)
    deltas = [a_file(k) for k in range(3)]
    inputs, which = opened(deltas, ViewedBytes) if viewed else opened(deltas)
    section = inputs.sections[0]
    wanted = [section_values(deltas[k]) for k in which]
    rows = Rows(inputs.files)
    for start, stop in ((0, N), (0, 3000), (3000, N), (17, 18), (N - 1, N), (5, 5)):
        at = start
        for span in rows.spans(section, start, stop, most=2500, step=step):
            assert span.start == at
            assert span.count <= max(2500, step)
            at += span.count
            assert span.count % step == 0 or at == stop
            for row, values in zip(span.rows, wanted, strict=True):
                assert np.array_equal(row.view("<f4"), values[span.start : at])
        assert at == stop
        at = start
        for first, count, addresses in rows.addresses(section, start, stop, step=step):
            assert first == at
            assert count % step == 0 or first + count == stop
            assert not (addresses % 4).any()
            at += count
        assert at == stop


def test_a_file_whose_elements_lie_across_is_read_in_pieces() -> None:
    # Tensors in the other order, and the data one byte off: neither a run nor aligned.
    def across(file: bytes) -> ViewedBytes:
        delta = {name: np.frombuffer(file, "<f4", N // 2, offset=len(file) - at) for name, at in
                 (("a", 4 * N), ("b", 2 * N))}  # fmt: skip
        fields = {
            "b": {"dtype": "F32", "shape": [N // 2], "data_offsets": [0, 2 * N]},
            "a": {"dtype": "F32", "shape": [N // 2], "data_offsets": [2 * N, 4 * N]},
        }
        head = json.dumps(fields).encode()
        head += b" " * (-(len(head) + 8) % 4 + 1)
        raw = delta["b"].tobytes() + delta["a"].tobytes()
        return ViewedBytes(len(head).to_bytes(8, "little") + head + raw)

    deltas = [a_file(k) for k in range(2)]
    assert len(encode(deltas[0])) > 4 * N
    inputs, which = opened(deltas, across)
    seen = [
        np.concatenate([row.copy().view("<f4") for row in rows])
        for rows in zip(
            *[
                [row.copy() for row in span.rows]
                for span in Rows(inputs.files).spans(inputs.sections[0], 0, N)
            ],
            strict=True,
        )
    ]
    for index, values in enumerate(seen):
        assert np.array_equal(values, section_values(deltas[which[index]]))
