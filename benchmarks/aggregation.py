"""How fast each rule combines updates that lie in the page cache, one thread, and in what memory.

    python -m benchmarks.aggregation --sites 10 50 --parameters 10e6 25e6

Writes float32 updates of random values to the hub's folder store, in a temporary folder, and times
every rule of hansa_core.aggregation from the store to a sink that drops the bytes; then, as
`fedavg, int8`, the mean of the same updates encoded in int8 blocks. Gigabytes a second (10**9) are
those of the stored values, and count each update once, however often the rule reads it. Beside them
stand numpy's plain loop (in float32, over PLAIN_BYTES that are in memory already) and the machine's
limit: an in-place add of two float32 arrays. The last line is one JSON object.

Extra memory is by how much resident memory grows at its peak, pages of the page cache that the
rule has mapped included: they are the most of it. What numba and its compiled loops take is there
before (`compiled_loops_mb`); so is the time to compile or load them (`compiled_loops_seconds`).
"""

import argparse
import ctypes
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from app.storage.filesystem import FilesystemArtifacts, open_filesystem
from benchmarks.rounds.machine import load_average, this_machine
from hansa_core.aggregation import compiled
from hansa_core.aggregation.inputs import Contribution, Source
from hansa_core.aggregation.jobs import Job, Sinks, aggregate
from hansa_core.codecs.blocks import quantize
from hansa_core.codecs.files import encode
from hansa_core.codecs.plans import CodecPlan, ExactPlan, Int8Plan
from hansa_core.plans import parse_plan
from hansa_core.strategies import Strategy
from hansa_core.tensors import Sink

FEDERATION = UUID(int=1)
PIECE = 1 << 20  # bytes of one write: an upload's
TENSOR = 1_000_000  # parameters of one tensor, but for the last
PLAIN_BYTES = 32 << 20
INT8 = "fedavg, int8"
MEASURED_SECONDS, QUICK_SECONDS = 2.0, 0.2  # a short rule is repeated for so long
MOST_REPEATS = 5

Rows = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Result:
    """One rule on one set of files."""

    rule: str
    sites: int
    parameters: int
    gigabytes_per_second: float  # the best of the repeats
    extra_mb: float  # resident memory over that before, at its peak; 10**6 bytes
    plain_gigabytes_per_second: float  # numpy's plain loop


@dataclass(frozen=True, slots=True)
class Files:
    """A base, the first of the digests, and updates against it."""

    store: FilesystemArtifacts
    digests: tuple[str, ...]
    parameters: int
    codec: CodecPlan
    input_bytes: int  # of the updates, as they are stored


def main() -> int:
    """Measure, print, and return the exit status."""
    parser = argparse.ArgumentParser(description="Measure the aggregation rules.")
    parser.add_argument("--sites", type=int, nargs="+", default=[10, 50])
    parser.add_argument("--parameters", type=float, nargs="+", default=[10e6, 25e6])
    parser.add_argument(
        "--rules", nargs="+", help=f"names of strategies, or {INT8!r}; all without it"
    )
    parser.add_argument("--quick", action="store_true", help="10 and 50 sites x 1M parameters")
    parser.add_argument("--directory", type=Path, help="where the temporary folder goes")
    given = parser.parse_args()
    parameters = [1e6] if given.quick else given.parameters
    seconds = QUICK_SECONDS if given.quick else MEASURED_SECONDS
    before, limit = load_average(), in_place_add()
    loops = _warmed()
    results: list[Result] = []
    left_out: list[str] = []
    _print_head(limit)
    for sites in given.sites:
        for count in (int(number) for number in parameters):
            needed = 4 * count * (sites + 1)
            lacking = _lacking(needed, given.directory)
            if lacking:
                left_out.append(f"{sites} sites x {count} parameters: {lacking}")
                print(f"left out: {left_out[-1]}")
                continue
            for codec in (ExactPlan(), Int8Plan(name="int8")):
                names = [it for it in _names(sites, codec) if it in (given.rules or [it])]
                if not names:
                    continue
                with written(sites, count, given.directory, codec) as files:
                    for result in measure(files, names, seconds):
                        _print(result, limit)
                        results.append(result)
    summary = {
        "results": [_rounded(asdict(result)) for result in results],
        "limit_gigabytes_per_second": round(limit, 3),
        "left_out": left_out,
        **loops,
        "machine": asdict(this_machine()),
        "load_average": [before, load_average()],
    }
    print(json.dumps(summary))
    return 0


def strategies(sites: int) -> dict[str, Strategy]:
    """Return every rule as it is measured: set to withstand a fifth of the sites.

    Bulyan cannot: it takes as many as it has updates for.
    """
    bad = sites // 5
    sections: list[dict[str, Any]] = [
        {"name": "fedavg"},
        {"name": "median"},
        {"name": "trimmed-mean", "trim": 0.2},
        {"name": "krum", "byzantine": bad},
        {"name": "multi-krum", "byzantine": bad, "keep": sites - 2 * bad},
        {"name": "bulyan", "byzantine": (sites - 3) // 4},
        {"name": "geometric-median"},
        {"name": "centred-clipping", "radius": 100.0},
        {"name": "norm-clipping", "bound": 100.0},
        {"name": "fltrust", "root": "root"},
    ]
    return {section["name"]: _strategy(section, sites) for section in sections}


def _names(sites: int, codec: CodecPlan) -> list[str]:
    """Return what is measured of updates in a codec."""
    return list(strategies(sites)) if isinstance(codec, ExactPlan) else [INT8]


def _strategy(section: dict[str, Any], sites: int) -> Strategy:
    cohort = {"min_sites": sites, "pinned": ["root"]}
    plan = {"name": "measured", "model": "m", "rounds": 1, "cohort": cohort, "strategy": section}
    return parse_plan(plan).strategy


def measure(files: Files, names: Sequence[str], repeat_seconds: float) -> Iterator[Result]:
    """Yield the result of each rule."""
    sites = len(files.digests) - 1
    rows = np.random.default_rng(1).standard_normal((sites, PLAIN_BYTES // 4 // sites), np.float32)
    for name in names:
        strategy = strategies(sites)["fedavg" if name == INT8 else name]
        with opened(files) as job:
            run = partial(aggregate, strategy, job, Sinks(len))
            extra = _extra_memory(run)
            seconds = _best(run, repeat_seconds)
        if name == INT8:
            plain_bytes, work = _plain_int8(rows)
        else:
            plain_bytes, work = rows.nbytes, partial(_plain, strategy, rows)
        plain = _best(work, repeat_seconds)
        yield Result(
            rule=name,
            sites=sites,
            parameters=files.parameters,
            gigabytes_per_second=files.input_bytes / 1e9 / seconds,
            extra_mb=extra,
            plain_gigabytes_per_second=plain_bytes / 1e9 / plain,
        )


def _plain(strategy: Strategy, rows: Rows) -> NDArray[Any]:
    """Combine as one would write it down first, with all of it in memory."""
    settings = strategy.model_dump()
    match strategy.name:
        case "median":
            made = np.median(rows, axis=0)
        case "trimmed-mean":
            off = int(settings["trim"] * len(rows))
            made = np.sort(rows, axis=0)[off : len(rows) - off].mean(axis=0)
        case "krum" | "multi-krum":
            near = len(rows) - settings["byzantine"] - 2
            scores = np.sort(_plain_distances(rows), axis=1)[:, 1 : near + 1].sum(axis=1)
            made = rows[np.argsort(scores)[: settings.get("keep", 1)]].mean(axis=0)
        case "bulyan":
            made = _plain_bulyan(rows, settings["byzantine"])
        case "fltrust":
            lengths = np.linalg.norm(rows, axis=1)
            trust = np.maximum(0, rows[1:] @ rows[0] / (lengths[1:] * lengths[0]))
            made = (trust * lengths[0] / lengths[1:]) @ rows[1:] / trust.sum()
        case "geometric-median" | "centred-clipping":
            made = _plain_centre(rows, settings)
        case _:
            made = np.zeros_like(rows[0])
            for row in rows:
                made += row * np.float32(_clip(row, settings.get("bound", np.inf)))
            made /= np.float32(len(rows))
    return made


def _plain_int8(rows: Rows) -> tuple[int, Callable[[], NDArray[Any]]]:
    """Return the mean of encoded rows as a call, and the bytes that it reads."""
    blocks = [row[: len(row) - len(row) % 256].reshape(-1, 256) for row in rows]
    encoded = [quantize(it, 127, None) for it in blocks]

    def work() -> NDArray[Any]:
        made = np.zeros_like(blocks[0])
        for scales, codes in encoded:
            made += codes * scales[:, np.newaxis]
        made /= np.float32(len(encoded))
        return made

    return sum(scales.nbytes + codes.nbytes for scales, codes in encoded), work


def _plain_distances(rows: Rows) -> NDArray[Any]:
    return np.array([[np.linalg.norm(one - other) ** 2 for other in rows] for one in rows])


def _plain_centre(rows: Rows, settings: dict[str, Any]) -> NDArray[Any]:
    centre = np.zeros_like(rows[0])
    for _ in range(settings["iterations"]):
        if settings["name"] == "centred-clipping":
            factors = [_clip(row - centre, settings["radius"]) / len(rows) for row in rows]
            steps = [(row - centre) * f for row, f in zip(rows, factors, strict=True)]
            centre = centre + np.sum(steps, axis=0)
        else:
            pulls = 1 / np.array(
                [max(settings["smoothing"], np.linalg.norm(row - centre)) for row in rows]
            )
            centre = (rows * (pulls / pulls.sum())[:, None].astype(np.float32)).sum(axis=0)
    return centre


def _plain_bulyan(rows: Rows, bad: int) -> NDArray[Any]:
    apart = _plain_distances(rows)
    left, chosen = list(range(len(rows))), list[int]()
    while len(chosen) < len(rows) - 2 * bad:
        near = max(1, len(left) - bad - 2)
        scores = np.sort(apart[np.ix_(left, left)], axis=1)[:, 1 : near + 1].sum(axis=1)
        chosen.append(left.pop(int(np.argmin(scores))))
    taken = rows[chosen]
    closest = np.argsort(np.abs(taken - np.median(taken, axis=0)), axis=0)
    kept = closest[: len(chosen) - 2 * bad]
    return np.take_along_axis(taken, kept, axis=0).mean(axis=0)


def _clip(row: Rows, bound: float) -> float:
    return 1.0 if np.isinf(bound) else min(1.0, bound / float(np.linalg.norm(row)))


def in_place_add(megabytes: int = 200) -> float:
    """Return how many gigabytes a second one thread adds to an array in place."""
    values = np.ones(megabytes * 250_000, np.float32)
    total = np.zeros_like(values)
    return values.nbytes / 1e9 / _best(lambda: np.add(total, values, out=total))


@contextmanager
def written(sites: int, parameters: int, where: Path | None, codec: CodecPlan) -> Generator[Files]:
    """Store a base and updates; they are gone afterwards. Digests are invented: hashing is slow."""
    sizes = [min(TENSOR, parameters - at) for at in range(0, parameters, TENSOR)]
    with tempfile.TemporaryDirectory(prefix="aggregation-", dir=where) as folder:
        store = open_filesystem(Path(folder))
        digests = tuple(f"{index:064x}" for index in range(sites + 1))
        stored = 0
        for index, digest in enumerate(digests):
            rng = np.random.default_rng(index)
            tensors = {
                f"layer{n:04}": rng.standard_normal(size, np.float32)
                for n, size in enumerate(sizes)
            }
            with store.begin(FEDERATION) as writer:
                encode(codec if index else ExactPlan(), tensors, _in_pieces(writer.write))
                writer.commit(digest)
                stored += writer.size if index else 0
        yield Files(store, digests, parameters, codec, stored)


def _in_pieces(sink: Sink) -> Sink:
    """Return a sink that passes bytes on as an upload does."""

    def write(data: memoryview) -> None:
        for at in range(0, len(data), PIECE):
            sink(data[at : at + PIECE])

    return write


@contextmanager
def opened(files: Files) -> Generator[Job]:
    """Open all files for reading; the first update is the trusted one."""
    with ExitStack() as stack:
        base, *updates = (
            stack.enter_context(files.store.open(FEDERATION, digest)).read_at
            for digest in files.digests
        )
        contributions = [
            Contribution(digest, 1 + index, read, root=index == 0)
            for index, (digest, read) in enumerate(zip(files.digests[1:], updates, strict=True))
        ]
        yield Job(Source(files.digests[0], base), contributions, codec=files.codec)


def _warmed() -> dict[str, float | bool]:
    """Get the compiled loops ready; return what that took."""
    before, began = _status("VmRSS"), time.perf_counter()
    found = compiled.warm()
    return {
        "compiled_loops": found,
        "compiled_loops_seconds": round(time.perf_counter() - began, 3),
        "compiled_loops_mb": round((_status("VmRSS") - before) / 1e6, 1),
    }


def _best(work: Callable[[], object], repeat_seconds: float = MEASURED_SECONDS) -> float:
    """Return the least seconds of a few runs."""
    found: list[float] = []
    while len(found) < MOST_REPEATS and sum(found) < repeat_seconds:
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return min(found)


def _extra_memory(work: Callable[[], object]) -> float:
    """Return by how many 10**6 bytes resident memory grows at its peak."""
    ctypes.CDLL(None).malloc_trim(0)  # what earlier runs have freed is no head start
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak to what is resident now
    before = _status("VmRSS")
    work()
    return (_status("VmHWM") - before) / 1e6


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return 1024 * int(line.split()[1])
    raise KeyError(name)


def _lacking(size: int, where: Path | None) -> str:
    """Say what is short for files of `size` bytes that stay in the page cache, or nothing."""
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") + _cached()
    free = shutil.disk_usage(where or tempfile.gettempdir()).free
    if available < 1.3 * size:
        return f"{available / 1e9:.1f} GB of memory for {size / 1e9:.1f} GB of files"
    if free < 1.1 * size:
        return f"{free / 1e9:.1f} GB of disk for {size / 1e9:.1f} GB of files"
    return ""


def _cached() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("Cached:"):
            return 1024 * int(line.split()[1])
    return 0


def _print_head(limit: float) -> None:
    machine = this_machine()
    print(f"machine   {machine.cores} cores, {machine.cpu}, {machine.memory_mb / 1e3:.0f} GB")
    print(f"load      {load_average():.1f} (1 min)")
    print(f"limit     {limit:.2f} GB/s, in-place add of float32 in memory, one thread\n")
    print("rule               sites  parameters    GB/s  of limit  plain GB/s  extra MB")
    print("---------------------------------------------------------------------------")


def _print(result: Result, limit: float) -> None:
    rate = result.gigabytes_per_second
    print(
        f"{result.rule:18} {result.sites:5} {result.parameters:11} {rate:7.2f} {rate / limit:9.0%}"
        f" {result.plain_gigabytes_per_second:11.2f} {result.extra_mb:9.1f}",
        flush=True,
    )


def _rounded(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: round(it, 3) if isinstance(it, float) else it for key, it in fields.items()}


if __name__ == "__main__":
    sys.exit(main())
