"""What each codec makes of a real delta: bytes, error and speed, one thread.

    python -m benchmarks.codecs --quick

Trains the digits example at one site for one round; its delta is what is encoded. Bytes per
parameter are of all of it; the error is that of the matrices (vectors stay whole), its L2 norm in
that of theirs: for codecs with error feedback of one update alone, before the next ones make up for
it. Speeds are of the same tensors repeated up to --parameters values, in memory, in gigabytes
(10**9) of float32 a second; inspecting has the SHA-256 of the file in it; decoding is by
EncodedFile.fill in tiles as the aggregator asks for them, with numba's loops if it is installed and
without them (plain). The last table compresses files as transfers do, chunk by chunk. The last line
is one JSON object.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from benchmarks.rounds.machine import load_average, this_machine
from examples.digits.data import SITES, prepare
from examples.digits.trainer import Config, trainer_for
from hansa.trainer import TrainContext, delta
from hansa_core.aggregation.inputs import Section
from hansa_core.codecs.files import EncodedFile, decode, encode
from hansa_core.codecs.inspection import inspector_of
from hansa_core.codecs.parts import PartDecoder, decode_part, decode_plain
from hansa_core.codecs.plans import CodecPlan, ExactPlan
from hansa_core.codecs.shuffle import compress, decompress
from hansa_core.dtypes import DType
from hansa_core.layouts import Layout
from hansa_core.tensors import bytes_reader

Tensors = dict[str, NDArray[Any]]

TILE = 32_768  # elements that the aggregator reads at a time
CHUNK = 4 * 2**20  # bytes of one transfer chunk
MOST_REPEATS = 5
SECTIONS: tuple[dict[str, Any], ...] = (
    {"name": "exact"},
    {"name": "bf16"},
    {"name": "fp16"},
    {"name": "int8"},
    {"name": "int8", "rounding": "stochastic"},
    {"name": "int4"},
    {"name": "topk"},
    {"name": "topk", "fraction": 0.01},
    {"name": "sparse2"},
)
_plans: TypeAdapter[CodecPlan] = TypeAdapter(CodecPlan)


@dataclass(frozen=True, slots=True)
class Result:
    """One codec on the delta."""

    codec: str
    bytes_per_parameter: float
    relative_error: float
    encode_gigabytes_per_second: float
    inspect_gigabytes_per_second: float
    decode_gigabytes_per_second: float
    plain_decode_gigabytes_per_second: float  # without compiled loops


@dataclass(frozen=True, slots=True)
class Transport:
    """Lossless compression of one file's chunks."""

    codec: str
    ratio: float  # of the bytes that are sent to those of the file
    compress_gigabytes_per_second: float  # of the file
    decompress_gigabytes_per_second: float


def main() -> int:
    """Measure, print, and return the exit status."""
    parser = argparse.ArgumentParser(description="Measure the update codecs.")
    parser.add_argument(
        "--parameters", type=float, default=16e6, help="that speeds are measured on"
    )
    parser.add_argument("--channels", type=int, default=192, help="of the model: how large it is")
    parser.add_argument("--quick", action="store_true", help="a small model, 4M parameters")
    given = parser.parse_args()
    before = load_average()
    real = real_delta(64 if given.quick else given.channels)
    large = repeated(real, int(4e6 if given.quick else given.parameters))
    seconds = 0.2 if given.quick else 1.0
    machine = this_machine()
    print(f"machine   {machine.cores} cores, {machine.cpu}, {machine.memory_mb / 1e3:.0f} GB")
    print(f"delta     {Layout.of(real).parameters} parameters, norm {_norm(real):.3g}\n")
    print(
        "codec                         bytes/param     error  encode  inspect  decode   plain GB/s"
    )
    results: list[Result] = []
    for section in SECTIONS:
        result = measure(_plans.validate_python(section), _title(section), real, large, seconds)
        results.append(result)
        print(
            f"{result.codec:29} {result.bytes_per_parameter:11.3f} {result.relative_error:9.2e}"
            f" {result.encode_gigabytes_per_second:7.2f} {result.inspect_gigabytes_per_second:8.2f}"
            f" {result.decode_gigabytes_per_second:7.2f}"
            f" {result.plain_decode_gigabytes_per_second:7.2f}",
            flush=True,
        )
    print("\nshuffled and compressed by zstd     sent  compress  decompress (GB/s)")
    transports: list[Transport] = []
    for section, itemsize in (({"name": "exact"}, 4), ({"name": "bf16"}, 2), ({"name": "int8"}, 1)):
        it = transport(_plans.validate_python(section), _title(section), real, itemsize, seconds)
        transports.append(it)
        print(
            f"{it.codec:30} {it.ratio:9.1%} {it.compress_gigabytes_per_second:9.2f}"
            f" {it.decompress_gigabytes_per_second:11.2f}"
        )
    summary = {
        "codecs": [_rounded(asdict(result)) for result in results],
        "transport": [_rounded(asdict(it)) for it in transports],
        "machine": asdict(machine),
        "load_average": [before, load_average()],
    }
    print(json.dumps(summary))
    return 0


def real_delta(channels: int) -> Tensors:
    """Return what one site's training for one round changes."""
    config = Config(channels=channels, epochs=1, learning_rate=0.05, momentum=0.9)
    with tempfile.TemporaryDirectory(prefix="codecs-") as folder:
        prepare(Path(folder))
        trainer = trainer_for(Path(folder, SITES[0]))
        start = trainer.initial_tensors(config, 1)
        return dict(delta(trainer.train(start, TrainContext(config, 1, 1)).tensors, start))


def repeated(tensors: Mapping[str, NDArray[Any]], parameters: int) -> Tensors:
    """Return the tensors so often that they have at least so many values."""
    times = math.ceil(parameters / Layout.of(tensors).parameters)
    return {f"{n:04}.{name}": array for n in range(times) for name, array in tensors.items()}


def measure(plan: CodecPlan, title: str, real: Tensors, large: Tensors, seconds: float) -> Result:
    """Return what the codec makes of the real delta, and how fast of the large one."""
    small, layout = encoded(plan, real), Layout.of(real)
    back = decode(bytes_reader(small), len(small), layout, plan)
    lost = {name: array.astype(np.float64) - back[name] for name, array in real.items()}
    file, whole = encoded(plan, large), Layout.of(large)
    size = 4 * whole.parameters / 1e9

    def inspect() -> None:
        inspector = inspector_of(plan, whole, len(file))
        for start in range(0, len(file), 2**20):
            inspector.feed(memoryview(file)[start : start + 2**20])
        inspector.finish()

    return Result(
        codec=title,
        bytes_per_parameter=len(small) / layout.parameters,
        relative_error=_norm(lost) / _norm(real),
        encode_gigabytes_per_second=size / best(partial(encoded, plan, large), seconds),
        inspect_gigabytes_per_second=size / best(inspect, seconds),
        decode_gigabytes_per_second=size / best(_decoding(plan, file, whole, decode_part), seconds),
        plain_decode_gigabytes_per_second=size
        / best(_decoding(plan, file, whole, decode_plain), seconds),
    )


def transport(
    plan: CodecPlan, title: str, real: Tensors, itemsize: int, seconds: float
) -> Transport:
    """Return how the chunks of the delta's file compress; those that do not, travel as they are."""
    file = encoded(plan, real)
    chunks = [file[start : start + CHUNK] for start in range(0, len(file), CHUNK)]
    sent = [compress(chunk, itemsize) for chunk in chunks]
    pairs = [(data, len(chunk)) for data, chunk in zip(sent, chunks, strict=True) if data]

    def receive() -> None:
        for data, size in pairs:
            decompress(data, size=size)

    total = len(file) / 1e9
    packing = best(lambda: [compress(chunk, itemsize) for chunk in chunks], seconds)
    sizes = [len(data or chunk) for data, chunk in zip(sent, chunks, strict=True)]
    received = sum(size for _, size in pairs) / 1e9
    return Transport(
        codec=title,
        ratio=sum(sizes) / len(file),
        compress_gigabytes_per_second=total / packing,
        decompress_gigabytes_per_second=received / best(receive, seconds) if pairs else math.inf,
    )


def encoded(plan: CodecPlan, tensors: Mapping[str, NDArray[Any]]) -> bytes:
    """Return an update's file."""
    file = bytearray()
    encode(plan, tensors, file.extend, generator=np.random.default_rng(1))
    return bytes(file)


def best(work: Callable[[], object], seconds: float) -> float:
    """Return the least seconds of a few runs, after one that compiles what is compiled."""
    work()
    found: list[float] = []
    while len(found) < MOST_REPEATS and sum(found) < seconds:
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return min(found)


def _decoding(
    plan: CodecPlan, file: bytes, layout: Layout, decoder: PartDecoder
) -> Callable[[], object]:
    read = bytes_reader(file)
    if isinstance(plan, ExactPlan):
        return partial(decode, read, len(file), layout, plan)
    floats = tuple(tensor for tensor in layout.tensors if tensor.dtype is DType.F32)
    count = sum(tensor.count for tensor in floats)
    section = Section(0, DType.F32, floats, count)
    buffer = np.empty(4 * TILE, np.uint8)

    def run() -> None:
        opened = EncodedFile(read, layout, plan, decoder=decoder)
        for start in range(0, count, TILE):
            opened.fill(section, start, buffer[: 4 * min(TILE, count - start)])

    return run


def _norm(tensors: Mapping[str, NDArray[Any]]) -> float:
    """Return the L2 norm of what codecs touch."""
    matrices = [it for it in tensors.values() if it.ndim > 1]
    return math.sqrt(sum(float((it.astype(np.float64) ** 2).sum()) for it in matrices))


def _title(section: Mapping[str, Any]) -> str:
    settings = [f"{key}={value}" for key, value in section.items() if key != "name"]
    return " ".join([section["name"], *settings])


def _rounded(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        key: float(f"{it:.4g}") if isinstance(it, float) and math.isfinite(it) else it
        for key, it in fields.items()
    }


if __name__ == "__main__":
    sys.exit(main())
