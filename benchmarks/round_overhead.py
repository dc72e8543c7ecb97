"""What a round costs beyond training: the real stack, real sites, a trainer that hardly trains.

    python -m benchmarks.round_overhead --sites 8 --megabytes 100 --rounds 6

Starts `hansa-hub up` and every site as processes of their own in a temporary folder, runs one
run and prints where the rounds' time went. A round's seconds are those between its row and the
next round's row, by the hub's own clock; the first round is a warm-up. The last line is one
JSON object. The floor is what this machine's loopback, disk and SHA-256 need for the same bytes.
"""

import argparse
import json
import signal
import statistics
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

from benchmarks.rounds.machine import (
    Floor,
    Machine,
    load_average,
    measure_floor,
    this_machine,
)
from benchmarks.rounds.phases import PHASES, cut, read_traces
from benchmarks.rounds.processes import SAMPLES_PER_SECOND, Sampler, Usage, cpu_seconds
from benchmarks.rounds.site import Config, initial_tensors
from benchmarks.rounds.stack import (
    FEDERATION,
    BenchmarkError,
    Sites,
    Stack,
    await_true,
    running_sites,
    running_stack,
)
from hansa.client import ENDED
from hansa.journal import store_tensors
from hansa_core import wire
from hansa_core.plans import parse_plan
from hansa_core.states import RunState

MODEL = "shifted"


@dataclass(frozen=True, slots=True)
class Setup:
    """What is measured."""

    sites: int
    megabytes: float  # of one model, 10**6 bytes each
    rounds: int  # measured ones; a warm-up round and the last one's successor come on top
    timeout_seconds: float


@dataclass(frozen=True, slots=True)
class Result:
    """What came out."""

    seconds: list[float]  # of every measured round
    phases: list[list[float]]  # seconds, by round and phase
    cpu: dict[str, float]  # processor seconds a round, by part
    hub: Usage
    worker: Usage  # the worker process that became the largest
    floor: Floor
    load_before: float
    load_after: float


def main() -> int:
    """Measure, print, and return the exit status."""
    parser = argparse.ArgumentParser(description="Measure what a round costs beyond training.")
    parser.add_argument("--sites", type=int, default=2)
    parser.add_argument("--megabytes", type=float, default=1.0, help="of one model")
    parser.add_argument("--rounds", type=int, default=20, help="measured ones, after a warm-up")
    parser.add_argument("--quick", action="store_true", help="2 sites, 1 MB, 5 rounds")
    parser.add_argument("--directory", type=Path, help="where the temporary folder goes")
    parser.add_argument("--timeout", type=float, default=600, help="seconds for all rounds")
    given = parser.parse_args()
    setup = (
        Setup(2, 1.0, 5, given.timeout)
        if given.quick
        else Setup(given.sites, given.megabytes, given.rounds, given.timeout)
    )
    signal.signal(signal.SIGTERM, _stop)
    try:
        result = measure(setup, given.directory)
    except BenchmarkError as error:
        print(f"round_overhead: {error}", file=sys.stderr)
        return 1
    report(setup, this_machine(), result)
    return 0


def _stop(_number: int, _frame: FrameType | None) -> None:
    sys.exit(1)  # through the `with` blocks, which stop what they started


def measure(setup: Setup, where: Path | None) -> Result:
    """Run the whole benchmark.

    Raises:
        BenchmarkError: a process does not start, or the run does not complete in time.
    """
    load_before = load_average()
    with running_stack(where) as stack:
        floor = measure_floor(stack.folder)
        with Sampler([stack.pids["hub"], *stack.worker_pids]) as memory:
            _add_model(stack, setup)
            with running_sites(stack, setup.sites) as sites:
                before = _cpu_by_part(stack, sites)
                rounds, events = _run(stack, setup)
                after = _cpu_by_part(stack, sites)
            phases = cut(rounds, events, read_traces(sites.traces))
            hub = memory.largest([stack.pids["hub"]])
            worker = memory.largest(stack.worker_pids)
    measured = phases[1:]
    return Result(
        seconds=[sum(row) for row in measured],
        phases=measured,
        cpu={part: (after[part] - used) / len(rounds) for part, used in before.items()},
        hub=hub,
        worker=worker,
        floor=floor,
        load_before=load_before,
        load_after=load_average(),
    )


def _cpu_by_part(stack: Stack, sites: Sites) -> dict[str, float]:
    used = {name: cpu_seconds(pid) for name, pid in stack.pids.items()}
    return {**used, "all sites": sum(cpu_seconds(pid) for pid in sites.pids)}


def _add_model(stack: Stack, setup: Setup) -> None:
    path = stack.folder / "initial.safetensors"
    store_tensors(path, initial_tensors(Config(megabytes=setup.megabytes), seed=7))
    stack.client.create_model(FEDERATION, MODEL)
    stack.client.upload_checkpoint(FEDERATION, MODEL, path)
    path.unlink()


def _run(stack: Stack, setup: Setup) -> tuple[list[wire.RoundDetail], list[wire.Event]]:
    """Run the rounds and return them with the run's events."""
    plan = parse_plan(
        {
            "name": "overhead",
            "model": MODEL,
            "rounds": setup.rounds + 2,
            "cohort": {"min_sites": setup.sites},
            "evaluation": {"every": 0, "final": False},
            "training": {"megabytes": setup.megabytes},
        }
    )
    client = stack.client
    run = client.create_run(FEDERATION, plan)
    await_true(
        lambda: client.run(FEDERATION, run.id).state in ENDED,
        "end of the run",
        setup.timeout_seconds,
        every_seconds=1.0,  # seldom: the hub has to answer each look
    )
    ended = client.run(FEDERATION, run.id)
    if ended.state is not RunState.COMPLETED:
        raise BenchmarkError(f"the run is {ended.state}: {ended.state_reason}")
    rounds = [
        client.round(FEDERATION, run.id, row.number) for row in client.rounds(FEDERATION, run.id)
    ]
    return rounds, list(client.watch(FEDERATION, run.id))


def report(setup: Setup, machine: Machine, result: Result) -> None:
    """Print the tables, and the JSON object as the last line."""
    floor, seconds = result.floor, result.seconds
    print(f"machine   {machine.cores} cores, {machine.cpu}, {machine.memory_mb / 1e3:.0f} GB")
    print(f"load      {result.load_before:.1f} before, {result.load_after:.1f} after (1 min)")
    print(
        f"setup     {setup.sites} sites, {setup.megabytes:g} MB float32, "
        f"{len(seconds)} rounds after a warm-up"
    )
    print(
        f"round     median {statistics.median(seconds):.3f} s, "
        f"least {min(seconds):.3f} s, most {max(seconds):.3f} s"
    )
    print("\nphase, along the slowest site     mean s   share   MB moved")
    print("--------------------------------------------------------------")
    total = statistics.fmean(seconds)
    for index, phase in enumerate(PHASES):
        mean = statistics.fmean(row[index] for row in result.phases)
        moved = _copies(phase.copies, setup.sites) * setup.megabytes
        told = f"{moved:10.0f}" if moved else f"{'-':>10}"
        print(f"{phase.name:32} {mean:7.3f} {mean / total:7.0%} {told}")
    print(f"{'all':32} {total:7.3f} {1:7.0%}")
    print("\nprocessor time                    s a round")
    print("-------------------------------------------")
    for part, used in sorted(result.cpu.items(), key=lambda item: -item[1]):
        print(f"{part:32} {used:10.3f}")
    print(f"{'all':32} {sum(result.cpu.values()):10.3f}")
    print("\nfloor of this machine             rate       MB a round    s a round")
    print("--------------------------------------------------------------------")
    lines = floor_of_round(setup, machine, floor)
    for name, rate, megabytes, needed in lines:
        print(f"{name:32} {rate:7.0f} MB/s {megabytes:10.0f} {needed:12.3f}")
    print(f"{'one small fsync':32} {floor.fsync_ms:7.2f} ms")
    print("\nresident memory, MB (10**6)       idle     peak   growth")
    print("--------------------------------------------------------")
    for name, usage in (("hub", result.hub), ("largest worker process", result.worker)):
        print(f"{name:30} {usage.idle:8.0f} {usage.peak:8.0f} {usage.growth:8.0f}")
    print(f"VmRSS, shared pages included, {SAMPLES_PER_SECOND} samples a second\n")
    print(json.dumps(_summary(setup, machine, result)))


def floor_of_round(
    setup: Setup, machine: Machine, floor: Floor
) -> list[tuple[str, float, float, float]]:
    """Return (what, MB/s, MB in a round, seconds) for what no implementation can avoid."""
    sites, size = setup.sites, setup.megabytes
    loopback = 2 * sites * size  # down and up
    stored = (sites + 1) * size  # the updates and the new checkpoint, flushed by the hub
    hashed = (3 * sites + 1) * size  # at a site: down and delta; at the hub: up and checkpoint
    cores = floor.sha256_mb_s * machine.cores
    return [
        ("loopback TCP", floor.loopback_mb_s, loopback, loopback / floor.loopback_mb_s),
        ("disk, written and flushed", floor.disk_mb_s, stored, stored / floor.disk_mb_s),
        ("SHA-256, on all cores", cores, hashed, hashed / cores),
    ]


def _copies(text: str, sites: int) -> int:
    """Return how many models "", "N" or "N+2" stands for."""
    if not text:
        return 0
    return sites + int(text.partition("+")[2] or 0)


def _summary(setup: Setup, machine: Machine, result: Result) -> dict[str, object]:
    means = [statistics.fmean(column) for column in zip(*result.phases, strict=True)]
    return {
        "sites": setup.sites,
        "megabytes": setup.megabytes,
        "rounds": len(result.seconds),
        "median_round_seconds": round(statistics.median(result.seconds), 4),
        "least_round_seconds": round(min(result.seconds), 4),
        "most_round_seconds": round(max(result.seconds), 4),
        "hub_rss_mb": _usage(result.hub),
        "worker_rss_mb": _usage(result.worker),
        "phase_seconds": _rounded({p.name: m for p, m in zip(PHASES, means, strict=True)}),
        "cpu_seconds": _rounded(result.cpu),
        "floor": _rounded(asdict(result.floor)),
        "machine": asdict(machine),
        "load_average": [result.load_before, result.load_after],
    }


def _usage(usage: Usage) -> dict[str, float]:
    return _rounded({"idle": usage.idle, "peak": usage.peak, "growth": usage.growth})


def _rounded(numbers: dict[str, float]) -> dict[str, float]:
    return {name: round(number, 4) for name, number in numbers.items()}


if __name__ == "__main__":
    sys.exit(main())
