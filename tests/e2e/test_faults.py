"""Kill -9 of anything, at any time: the run completes, with the same bits."""

from tests.e2e.federations import MODEL, NAMES, Federation, plan
from tests.e2e.processes import Stack


def test_killed_parts_change_nothing_but_the_time(
    stack: Stack, federation: Federation, quiet_digest: str
) -> None:
    federation.enroll_three()
    run_id = federation.client.create_run(federation.slug, plan()).id

    federation.until_training(run_id, 1)
    stack.kill("worker")
    federation.until_training(run_id, 2)
    stack.kill("hub")
    federation.until_training(run_id, 3)
    federation.sites["beta"].kill()
    federation.sites["beta"].start()
    federation.until_training(run_id, 4)
    stack.kill("postgres")
    federation.until_training(run_id, 5)
    stack.kill("valkey")

    run = federation.until_ended(run_id)
    federation.require_counted_once(run)
    assert federation.digest_of(run) == quiet_digest


def test_a_killed_site_takes_its_task_again(federation: Federation) -> None:
    federation.enroll_three()
    slow = plan(rounds=1, training={"steps": 300})
    run_id = federation.client.create_run(federation.slug, slow).id
    federation.until_training(run_id, 1, *NAMES)
    gamma = federation.sites["gamma"]
    gamma.kill()
    gamma.start()
    run = federation.until_ended(run_id)
    federation.require_counted_once(run)
    attempts = {
        task.site_name: task.attempts
        for task in federation.client.round(federation.slug, run_id, 1).tasks
    }
    assert attempts == {"alpha": 1, "beta": 1, "gamma": 2}


def test_a_killed_supervisor_takes_its_parts_along_and_the_next_one_goes_on(
    stack: Stack, federation: Federation, quiet_digest: str
) -> None:
    federation.enroll_three()
    run_id = federation.client.create_run(federation.slug, plan()).id
    federation.until_training(run_id, 3)
    stack.kill_supervisor()
    stack.start()
    run = federation.until_ended(run_id)
    federation.require_counted_once(run)
    assert federation.digest_of(run) == quiet_digest


def test_two_runs_at_once_do_not_mix(federation: Federation, quiet_digest: str) -> None:
    federation.enroll_three()
    base = federation.client.model(federation.slug, MODEL).latest_checkpoint_id
    ids = [
        federation.client.create_run(federation.slug, plan(name=name), checkpoint_id=base).id
        for name in ("first", "second")
    ]
    runs = [federation.until_ended(run_id) for run_id in ids]
    assert [federation.digest_of(run) for run in runs] == [quiet_digest, quiet_digest]
