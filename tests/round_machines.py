"""Any interleaving of what can happen to a run, and what has to hold after each of it.

The rules drive a `World`: the pure round logic over plain values (tests/property) or the services
on Postgres (tests/integration). What is expected of an answer is worked out here, beside them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from hypothesis import event
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from app.domain.errors import IllegalTransitionError
from app.domain.runs import ENDED
from hansa_core.plans import RunPlan, parse_plan
from hansa_core.states import RoundKind, RoundState, RunState, SiteState, TaskState
from tests.round_invariants import (
    UNFINISHED,
    Snapshot,
    check_rounds,
    check_tasks,
    check_updates,
    check_what_is_final,
)

ONLINE_FOR = timedelta(seconds=120)
LEASE_FOR = timedelta(seconds=60)
AGGREGATION_LEASE = timedelta(seconds=30)
ROUND_SECONDS = 300
SIZE = 100  # bytes of a checkpoint, and of an update
LASTING = ("bergen", "oslo")  # never revoked: two are enough for every plan below
SITES = (*LASTING, "turku", "vaasa")
CENTRAL = "central"  # evaluates and never trains
QUIET_WITHIN = 8  # steps until nothing moves at a standing clock
ENDS_WITHIN = 60  # turns of honest sites and workers until a run is over


@dataclass(frozen=True, slots=True)
class Handle:
    """A lease as the site's process remembers it."""

    task: str
    site: str
    token: str
    kind: RoundKind


@dataclass(frozen=True, slots=True)
class Lease:
    """An aggregation as its worker remembers it."""

    round: str
    token: str
    updates: tuple[str, ...]  # the tasks that they answer
    inner: object = None  # the world's own


class World(Protocol):
    """What the rules act on. An answer is true when it is news; None when it is refused."""

    now: datetime

    def enroll(self, site: str) -> None: ...
    def seen(self, site: str) -> None: ...
    def site_state(self, site: str) -> SiteState: ...
    def change(self, site: str, state: SiteState) -> None: ...
    def claim(self, site: str) -> Handle | None: ...
    def heartbeat(self, handle: Handle) -> bool: ...
    def answer(self, handle: Handle, content: int) -> bool | None: ...
    def fail(self, handle: Handle) -> bool: ...
    def step(self) -> None: ...
    def deadline(self) -> datetime | None: ...
    def lease(self) -> Lease | None: ...
    def finish(self, lease: Lease) -> bool: ...
    def spoil(self, lease: Lease) -> None: ...
    def pause(self, *, burn: bool) -> None: ...
    def resume(self) -> None: ...
    def cancel(self) -> None: ...
    def snapshot(self) -> Snapshot: ...


@st.composite
def plans(draw: st.DrawFn) -> RunPlan:
    """Short runs of every shape, that two sites can hold."""
    rounds = draw(st.sampled_from([2, 1, 3, 0]))
    cohort: dict[str, object] = {"min_sites": draw(st.integers(1, 2))}
    cohort["retries"] = draw(st.integers(0, 2))
    document: dict[str, object] = {
        "name": "machine",
        "model": "tumor",
        "rounds": rounds,
        "cohort": cohort,
        "deadlines": {"round_seconds": ROUND_SECONDS},
        "evaluation": {
            "every": draw(st.integers(0, 2)),
            "final": rounds == 0 or draw(st.booleans()),
            "evaluators": draw(st.sampled_from([[], [CENTRAL]])),
        },
    }
    match draw(st.sampled_from(["over-selected", "plain", "buffered"])):
        case "over-selected":
            cohort |= {
                "choose": draw(st.sampled_from(["random", "weighted"])),
                "size": 2,
                "over_select": draw(st.integers(0, 1)),
                "pinned": draw(st.sampled_from([[], ["oslo"]])),
            }
        case "buffered":
            document["buffer"] = {
                "size": draw(st.integers(2, 3)),
                "concurrency": draw(st.integers(1, 3)),
                "max_staleness": draw(st.integers(0, 2)),
            }
        case _:
            pass
    match draw(st.sampled_from(["free", "free", "seconds", "bytes", "early"])):
        case "seconds":
            document["budget"] = {"seconds": 1.5 * ROUND_SECONDS}
        case "bytes":
            document["budget"] = {"bytes": 7 * SIZE}
        case "early":
            document["early_stopping"] = {"metric": "loss", "source": "train", "patience": 1}
        case _:
            pass
    return parse_plan(document)


handles: Bundle[Handle] = Bundle("handles")
leases: Bundle[Lease] = Bundle("leases")
contents = st.integers(1, 3)
RARELY = st.sampled_from([False] * 7 + [True])


class RoundMachine(RuleBasedStateMachine):
    """One run under everything that people, sites, workers and the clock can do to it."""

    def __init__(self, make_world: Callable[[RunPlan], World]) -> None:
        super().__init__()
        self.make_world = make_world
        self.accepted: dict[str, int] = {}  # task: what was accepted
        self.newest_token: dict[str, str] = {}  # task: its last claim
        self.newest_lease: dict[str, str] = {}  # round: its last aggregation
        self.summed: dict[str, tuple[str, ...]] = {}  # round: the updates in its checkpoint
        self.before: Snapshot | None = None

    @initialize(plan=plans())
    def begin(self, plan: RunPlan) -> None:
        self.plan = plan
        self.world = self.make_world(plan)
        self.names = [*SITES[:3], *plan.evaluation.evaluators]
        for name in self.names:
            self.world.enroll(name)
            self.world.seen(name)

    # People and sites' presence

    @rule(index=st.integers(0, 4))
    def a_site_is_seen(self, index: int) -> None:
        site = self.name(index)
        if self.world.site_state(site) is SiteState.ACTIVE:
            self.world.seen(site)

    @precondition(lambda self: "vaasa" not in self.names)
    @rule()
    def a_site_enrolls(self) -> None:
        self.names.append("vaasa")
        self.world.enroll("vaasa")

    @rule(index=st.integers(0, 4))
    def a_site_is_suspended(self, index: int) -> None:
        if self.world.site_state(self.name(index)) is SiteState.ACTIVE:
            self.world.change(self.name(index), SiteState.SUSPENDED)

    @rule(index=st.integers(0, 4))
    def a_site_is_let_in(self, index: int) -> None:
        if self.world.site_state(self.name(index)) is not SiteState.REVOKED:
            self.world.change(self.name(index), SiteState.ACTIVE)

    @rule(index=st.integers(0, 4))
    def a_site_is_revoked(self, index: int) -> None:
        if self.name(index) not in {*LASTING, CENTRAL}:
            self.world.change(self.name(index), SiteState.REVOKED)

    # Sites at work

    @rule(target=handles, index=st.integers(0, 4))
    def a_site_claims(self, index: int) -> Handle | MultipleResults[Handle]:
        handle = self.claim(self.name(index))
        return multiple() if handle is None else handle

    @rule(handle=handles)
    def a_site_gives_a_sign_of_life(self, handle: Handle) -> None:
        expected = self.is_held(handle)
        assert self.world.heartbeat(handle) == expected

    @rule(handle=handles, content=contents)
    def an_answer_comes(self, handle: Handle, content: int) -> None:
        self.answer(handle, content)

    @rule(handle=handles)
    def an_answer_comes_again(self, handle: Handle) -> None:
        if handle.task in self.accepted:
            self.answer(handle, self.accepted[handle.task])

    @rule(handle=handles)
    def a_site_fails(self, handle: Handle) -> None:
        failed = self.world.snapshot().task(handle.task).state is TaskState.FAILED
        expected = self.is_held(handle) or (failed and self.is_active(handle.site))
        assert self.world.fail(handle) == expected

    @rule(content=contents)
    def everybody_works(self, content: int) -> None:
        self.work(content)

    @rule(content=contents)
    def a_round_goes_well(self, content: int) -> None:
        for name in self.names:
            if self.is_active(name):
                self.world.seen(name)
        self.world.step()
        self.work(content)
        self.world.step()
        self.a_round_is_summed()

    # The clock and the workers

    @rule(seconds=st.sampled_from([1, 29, 30, 60, 61, 121, ROUND_SECONDS]))
    def time_passes(self, seconds: int) -> None:
        self.world.now += timedelta(seconds=seconds)

    @rule(over=st.sampled_from([-1, 0, 1]))
    def the_deadline_comes(self, over: int) -> None:
        deadline = self.world.deadline()
        if deadline is not None:
            self.world.now = max(self.world.now, deadline + timedelta(microseconds=over))

    @rule()
    def a_worker_looks(self) -> None:
        self.world.step()

    @rule()
    def workers_look_until_nothing_moves(self) -> None:
        last = self.world.snapshot()
        for _ in range(QUIET_WITHIN):
            self.world.step()
            now = self.world.snapshot()
            if now == last:
                self.assert_nothing_is_due(now)
                return
            last = now
        raise AssertionError(f"{QUIET_WITHIN} steps at {self.world.now} moved the run each time")

    @rule(target=leases)
    def a_worker_begins_to_sum(self) -> Lease | MultipleResults[Lease]:
        lease = self.lease()
        return multiple() if lease is None else lease

    @rule(lease=leases)
    def a_worker_finishes(self, lease: Lease) -> None:
        self.finish(lease)

    @rule()
    def a_worker_is_overtaken(self) -> None:
        slow = self.lease()
        if slow is not None:
            self.world.now += AGGREGATION_LEASE
            fast = self.lease()
            self.finish(slow)
            if fast is not None:
                self.finish(fast)

    @rule()
    def a_round_is_summed(self) -> None:
        lease = self.lease()
        if lease is not None:
            self.finish(lease)

    @rule(lease=leases, hit=RARELY)
    def a_worker_finds_the_updates_unusable(self, lease: Lease, hit: bool) -> None:
        before = self.world.snapshot()
        held = hit and self.is_leased(lease, before)
        if hit:
            self.world.spoil(lease)
            after = self.world.snapshot()
            assert (after.state is RunState.FAILED) if held else (after == before)

    @rule(burn=st.booleans(), hit=RARELY)
    def somebody_pauses(self, burn: bool, hit: bool) -> None:
        if hit:
            self.ask(lambda: self.world.pause(burn=burn))

    @rule(burn=st.booleans())
    def somebody_pauses_for_a_moment(self, burn: bool) -> None:
        self.ask(lambda: self.world.pause(burn=burn))
        self.ask(self.world.resume)

    @rule()
    def somebody_resumes(self) -> None:
        self.ask(self.world.resume)

    @rule(hit=RARELY)
    def somebody_cancels(self, hit: bool) -> None:
        if hit:
            self.ask(self.world.cancel, again=RunState.CANCELLED)
            state = self.world.snapshot().state
            assert state in ENDED

    # What has to hold, always

    @invariant()
    def holds(self) -> None:
        """Check everything after every rule."""
        if not hasattr(self, "world"):
            return
        now = self.world.snapshot()
        check_rounds(now, self.summed)
        check_tasks(now, self.plan)
        check_updates(now, self.plan, set(self.accepted), self.summed)
        if self.before is not None:
            check_what_is_final(self.before, now)
        self.before = now

    def teardown(self) -> None:
        """However the run was treated: honest sites and workers bring it to an end."""
        if not hasattr(self, "world"):
            return
        event(f"left {self.world.snapshot().state} after {len(self.summed)} rounds")
        for _ in range(ENDS_WITHIN):
            state = self.world.snapshot().state
            if state in ENDED:
                break
            if state is RunState.PAUSED:
                self.world.resume()
            for name in self.names:
                if self.world.site_state(name) in {SiteState.PENDING, SiteState.SUSPENDED}:
                    self.world.change(name, SiteState.ACTIVE)
            self.a_round_goes_well(1)
            self.holds()
            self.world.now += AGGREGATION_LEASE
        else:
            raise AssertionError(f"the run goes on for ever: {self.world.snapshot()}")
        self.holds()

    # The same acts for several rules

    def assert_nothing_is_due(self, now: Snapshot) -> None:
        """Fail for what the last step should have seen: a deadline, a silent or a barred site."""
        deadline = self.world.deadline()
        for row in now.rounds:
            if row.state is RoundState.COLLECTING:
                assert deadline is not None
                assert self.world.now < deadline
                asked = [task for task in now.tasks if task.state in UNFINISHED]
                assert all(self.is_active(task.site) for task in asked)

    def name(self, index: int) -> str:
        return self.names[index % len(self.names)]

    def is_active(self, site: str) -> bool:
        return self.world.site_state(site) is SiteState.ACTIVE

    def is_held(self, handle: Handle) -> bool:
        """Tell whether the lease may still answer its task."""
        unfinished = self.world.snapshot().task(handle.task).state in UNFINISHED
        newest = self.newest_token[handle.task] == handle.token
        return unfinished and newest and self.is_active(handle.site)

    def is_leased(self, lease: Lease, now: Snapshot) -> bool:
        """Tell whether the worker still holds the aggregation."""
        summing = now.round(lease.round).state is RoundState.AGGREGATING
        return summing and self.newest_lease[lease.round] == lease.token

    def work(self, content: int) -> None:
        """Let every site that has a task answer it."""
        for name in self.names:
            handle = self.claim(name)
            if handle is not None:
                self.answer(handle, content)

    def claim(self, site: str) -> Handle | None:
        handle = self.world.claim(site) if self.is_active(site) else None
        if handle is not None:
            assert self.world.snapshot().state is RunState.RUNNING
            assert handle.token not in self.newest_token.values()
            self.newest_token[handle.task] = handle.token
        return handle

    def answer(self, handle: Handle, content: int) -> None:
        """Send an answer: it is news, or what is known already, or refused."""
        expected: bool | None
        if not self.is_active(handle.site):
            expected = None
        elif handle.task in self.accepted:
            expected = False if self.accepted[handle.task] == content else None
        else:
            expected = True if self.is_held(handle) else None
        found = self.world.answer(handle, content)
        assert found is expected, f"{handle}, {content}: {found}, wanted {expected}"
        if found:
            self.accepted[handle.task] = content

    def lease(self) -> Lease | None:
        lease = self.world.lease()
        if lease is not None:
            self.newest_lease[lease.round] = lease.token
        return lease

    def finish(self, lease: Lease) -> None:
        """Write a round's checkpoint, unless the worker was overtaken."""
        expected = self.is_leased(lease, self.world.snapshot())
        assert self.world.finish(lease) == expected
        if expected:
            self.summed[lease.round] = lease.updates

    def ask(self, act: Callable[[], None], *, again: RunState | None = None) -> None:
        """Do what a person wants; only a run that is over refuses, and does not change."""
        before = self.world.snapshot()
        try:
            act()
        except IllegalTransitionError:
            assert before.state in ENDED
            assert self.world.snapshot() == before
        else:
            assert before.state not in ENDED or before.state is again
