"""What a site that refuses something has to do about it, checked alike in every test of lies."""

from hansa.identity import StateDir
from hansa.secure.journal import SecureJournal
from tests.unit.client.secure.hubs import SecureHub
from tests.unit.client.secure.sites import run_secure


def refused_duty(hub: SecureHub, state: StateDir, *, tasks: int = 2) -> str:
    """Run the site until it refuses its one duty; return the reason that all were told."""
    result = run_secure(state, hub, tasks=tasks)
    (said,) = result.messages("secure_refused")
    ((duty_id, reason),) = hub.refusals.items()
    assert duty_id not in hub.duty_answers
    assert reason in said
    assert SecureJournal(state.path).refusal(hub.run_id, duty_id) == reason
    return reason


def refused_task(hub: SecureHub, state: StateDir, *, tasks: int = 1) -> str:
    """Run the site until it refuses a task; return what the researcher reads."""
    uploads = len(hub.uploads)
    result = run_secure(state, hub, tasks=tasks)
    (said,) = result.messages("secure_refused")
    (failure,) = hub.failures
    assert failure.error in said
    assert len(hub.uploads) - uploads == result.done  # nothing of the one that it refused
    return failure.error


def kinds(hub: SecureHub) -> list[str]:
    """Return the kinds of the duties that the site did."""
    return [said.kind for said in hub.duty_answers.values()]
