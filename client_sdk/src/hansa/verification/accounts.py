"""What a receipt says, against itself and the plan; and the receipt as a sentence."""

from hansa.verification.lineage import Lineage
from hansa.verification.reports import Check, Ledger
from hansa_core.plans import RunPlan
from hansa_core.receipts import EndCause, Receipt, RoundAccount, RunEnd
from hansa_core.states import RunState, TaskState

NAMES_SHOWN = 5  # in a sentence

_STATES = {
    EndCause.FINISHED: RunState.COMPLETED,
    EndCause.CANCELLED: RunState.CANCELLED,
    EndCause.QUORUM: RunState.FAILED,
    EndCause.AGGREGATION: RunState.FAILED,
}


def check_end(
    ledger: Ledger, receipt: Receipt, end: RunEnd, *, plan: RunPlan | None, lineage: Lineage
) -> None:
    """Note what in the receipt of a run's end is not what its rounds say."""
    wrong: list[str] = []
    if _STATES[end.cause] is not end.state:
        wrong.append(f"it is {end.state} because it was {end.cause}")
    if end.rounds_completed != lineage.rounds_completed:
        wrong.append(
            f"it counts {end.rounds_completed} completed rounds, the receipts "
            f"{lineage.rounds_completed}"
        )
    if lineage.head is not None and end.checkpoint.digest != lineage.head:
        wrong.append(f"it leaves checkpoint {end.checkpoint.digest}, the newest is {lineage.head}")
    if end.state is not RunState.COMPLETED and not end.reason:
        wrong.append(f"it is {end.state} without a reason")
    short = plan is not None and end.rounds_completed < plan.rounds
    if end.state is RunState.COMPLETED and short and end.stop_reason is None:
        wanted = plan.rounds if plan is not None else 0
        wrong.append(
            f"it is completed after {end.rounds_completed} of {wanted} rounds without a reason"
        )
    for problem in wrong:
        ledger.fail(Check.END, receipt.subject, problem)
    if not wrong:
        ledger.hold(Check.END)


def quorum_problem(account: RoundAccount, plan: RunPlan | None) -> str | None:
    """Return why a completed round had too few answers, or None."""
    done = {
        entry.task_id
        for entry in account.cohort
        if entry.outcome is TaskState.DONE and not (entry.evaluator and account.updates)
    }
    if account.aggregate is None:
        answers = len(done)
    else:
        used = [update.task_id for update in account.used]
        answers = len(set(used))
        if answers != len(used):
            return "a task's update was used more than once"
        if plan is not None and plan.buffer is None and not set(used) <= done:
            return "it used an update of a task that its cohort does not count as done"
        if plan is not None and account.threshold < plan.cohort.min_sites:
            return (
                f"its threshold is {account.threshold}, the plan's min_sites "
                f"{plan.cohort.min_sites}"
            )
    if answers < account.threshold:
        return f"it is completed with {answers} answers, wanted {account.threshold}"
    return None


def tell_round(receipt: Receipt, account: RoundAccount, made: str) -> str:
    """Return a round's receipt as a sentence; `made` says what is known of its aggregate."""
    missing = [
        f"{entry.site.name} {entry.outcome}" + (f": {entry.reason}" if entry.reason else "")
        for entry in account.cohort
        if entry.outcome is not TaskState.DONE
    ]
    parts = [f"{account.kind} {account.state}"]
    if account.reason:
        parts[0] += f": {account.reason}"
    if account.used:
        parts.append(f"{list_of([it.site.name for it in account.used])} counted")
    elif account.cohort:
        done = [it.site.name for it in account.cohort if it.outcome is TaskState.DONE]
        parts.append(f"{list_of(done) or 'nobody'} answered")
    if missing:
        parts.append(list_of(missing))
    if account.excluded:
        parts.append(f"not asked: {list_of([it.site for it in account.excluded])}")
    if account.aggregate is not None:
        parts.append(f"checkpoint {account.aggregate.checkpoint.digest[:12]} {made}")
    return f"{receipt.subject}: {'; '.join(parts)}"


def tell_end(receipt: Receipt, end: RunEnd) -> str:
    """Return the receipt of a run's end as a sentence."""
    reason = end.reason or end.stop_reason
    because = f": {reason}" if reason else ""
    return (
        f"{receipt.subject}: {end.cause}, {end.state} after {end.rounds_completed} rounds{because}"
    )


def list_of(items: list[str]) -> str:
    """Return the first few of `items`, and how many more there are."""
    more = len(items) - NAMES_SHOWN
    shown = ", ".join(items[:NAMES_SHOWN])
    return f"{shown} and {more} more" if more > 0 else shown
