"""How a site's runner behaves, and what it tells of its work."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hansa.failures import Tracebacks
from hansa.memory import MemoryLimits
from hansa.transfers import TransferOptions
from hansa.transport import RetryPolicy

CALL_RETRY = RetryPolicy(attempts=4)
OUTAGE = RetryPolicy(first_delay_seconds=0.5, max_delay_seconds=30.0)
SHARED_LINES = 40  # of a failed task's log, unless the operator says otherwise
APPROVAL = RetryPolicy(first_delay_seconds=1.0, max_delay_seconds=15.0)


@dataclass(frozen=True, slots=True)
class RunnerEvent:
    """Something that happened, for people (`message`) and for programs."""

    kind: str  # past tense: "task_claimed"
    message: str
    fields: Mapping[str, object] = field(default_factory=dict[str, object])


OnEvent = Callable[[RunnerEvent], None]


@dataclass(frozen=True, slots=True)
class RunnerOptions:
    """How a runner behaves."""

    device: str = "cpu"
    tracebacks: Tracebacks = Tracebacks.FULL
    max_tasks: int | None = None  # None: until stopped
    secure_only: bool = False  # tasks of runs without secure aggregation are refused
    least_sum: int = 3  # secure rounds whose sum may be of fewer updates are refused
    wait_seconds: float = 25.0  # of one long poll
    call_retry: RetryPolicy = CALL_RETRY  # within one call
    outage: RetryPolicy = OUTAGE  # between calls, without an end
    approval: RetryPolicy = APPROVAL  # between looks at the site's state, without an end
    memory: MemoryLimits = field(default_factory=MemoryLimits)  # kept from round to round
    transfers: TransferOptions = field(default_factory=TransferOptions)
    share_log: int | None = None  # lines that go with a failure; None: as `shared_lines` says

    @property
    def shared_lines(self) -> int:
        """How many lines of its log a failed task is reported with.

        A site that keeps tracebacks to itself, or works for secure runs alone, shares its log
        only where its operator asked for it.
        """
        if self.share_log is not None:
            return self.share_log
        reserved = self.secure_only or self.tracebacks is Tracebacks.NONE
        return 0 if reserved else SHARED_LINES


@dataclass(slots=True)
class Summary:
    """What a runner did."""

    done: int = 0
    failed: int = 0
    abandoned: int = 0

    @property
    def tasks(self) -> int:
        """How many tasks came to an end here."""
        return self.done + self.failed + self.abandoned


def log_nothing(event: RunnerEvent) -> None:
    """Drop the event."""
    del event
