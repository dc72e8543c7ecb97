"""Many runs over a few processes, each with one thread."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

Job = TypeVar("Job")
Out = TypeVar("Out")

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def runs_in(processes: int, run: Callable[[Job], Out], jobs: Sequence[Job]) -> Iterator[Out]:
    """Yield what `run` gives for every job, in their order; one process: in this one.

    `run` is a module's function, and gives the same in any process.
    """
    if processes == 1:
        yield from map(run, jobs)
        return
    for name in _THREADS:  # read when a process loads its libraries; small products need no more
        os.environ[name] = "1"
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(run, jobs)
