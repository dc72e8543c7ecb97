"""A site's life as its operator and the federation's see it: approval, refusals, keys, failures."""

import pytest

from hansa.errors import ReenrollError, SiteNotActiveError
from hansa.site import SiteClient
from hansa_core import wire
from hansa_core.states import RunState, SiteState, TaskState
from tests.e2e.conftest import NewFederation
from tests.e2e.federations import NAMES, Federation, plan
from tests.e2e.processes import TRAINER, until


def test_a_site_waits_until_its_fingerprint_is_approved(new_federation: NewFederation) -> None:
    federation = new_federation(requires_approval=True)
    cli, chosen = federation.cli, ("-f", federation.slug)
    site = federation.enroll("alpha")
    fingerprint = federation.identity("alpha").record.fingerprint
    assert fingerprint in cli("site", "status", "--state-dir", str(site.state_dir)).stdout
    site.start()
    until(lambda: "waiting for approval" in site.said, "the site to say what it waits for")
    assert fingerprint in site.said

    wrong = cli("sites", "approve", "alpha", *chosen, "--fingerprint", "aaaa-bbbb", expect=1)
    assert fingerprint in wrong.stdout
    assert federation.client.site(federation.slug, federation.site_id("alpha")).state is (
        SiteState.PENDING
    )
    cli("sites", "approve", "alpha", *chosen, "--fingerprint", fingerprint)
    until(lambda: "the site is active" in site.said, "the site to learn that it is active")

    short = plan(rounds=1, cohort={"min_sites": 1}, training={"steps": 1})
    run = federation.until_ended(federation.client.create_run(federation.slug, short).id)
    assert run.state is RunState.COMPLETED
    federation.close()


def test_a_suspended_or_revoked_site_is_refused_on_its_next_request(
    federation: Federation,
) -> None:
    federation.enroll("alpha")
    cli, chosen = federation.cli, ("-f", federation.slug)
    with SiteClient(federation.identity("alpha")) as site:  # one token throughout
        assert site.view().state is SiteState.ACTIVE
        cli("sites", "suspend", "alpha", *chosen, "--reason", "audit of May")
        with pytest.raises(SiteNotActiveError, match="audit of May"):
            site.claim(wait_seconds=0, hardware=None)
        cli("sites", "reinstate", "alpha", *chosen)
        assert site.claim(wait_seconds=0, hardware=None) is None
        cli("sites", "revoke", "alpha", *chosen, "--reason", "left us")
        with pytest.raises(ReenrollError, match="left us"):
            site.claim(wait_seconds=0, hardware=None)
    cli("sites", "reinstate", "alpha", *chosen, expect=1)
    runner = ("site", "run", "--trainer", TRAINER)
    state_dir = str(federation.sites["alpha"].state_dir)
    assert "left us" in cli(*runner, "--state-dir", state_dir, expect=1).stderr


def test_a_site_works_on_with_its_new_key_and_the_old_one_is_refused(
    federation: Federation,
) -> None:
    federation.enroll_three()
    short = plan(rounds=1, training={"steps": 1})
    federation.until_ended(federation.client.create_run(federation.slug, short).id)
    old = federation.identity("beta")
    beta = federation.sites["beta"]
    beta.stop()
    federation.cli("site", "rotate-key", "--state-dir", str(beta.state_dir))
    beta.start()

    run = federation.until_ended(federation.client.create_run(federation.slug, short).id)
    assert run.state is RunState.COMPLETED
    signed = {
        update.site_name: update.fingerprint
        for update in federation.client.updates(federation.slug, run.id)
    }
    assert signed.keys() == set(NAMES)
    assert signed["beta"] == federation.identity("beta").record.fingerprint
    assert signed["beta"] != old.record.fingerprint
    with SiteClient(old) as stranger, pytest.raises(ReenrollError):
        stranger.view()


def test_a_failing_trainer_is_shown_and_the_others_complete_the_run(
    federation: Federation,
) -> None:
    for name in NAMES[:2]:
        federation.enroll(name).start()
    federation.enroll("gamma", HANSA_E2E_FAILS="the disk with the scans is gone").start()
    federation.until_online(*NAMES)
    pair = plan(rounds=2, cohort={"min_sites": 2})
    run = federation.until_ended(federation.client.create_run(federation.slug, pair).id)
    assert run.state is RunState.COMPLETED
    for number in (1, 2):
        tasks = federation.client.round(federation.slug, run.id, number).tasks
        states = {task.site_name: task.state for task in tasks}
        done, failed = TaskState.DONE, TaskState.FAILED
        assert states == {"alpha": done, "beta": done, "gamma": failed}

    shown = federation.cli("run", "show", str(run.id), "-f", federation.slug).stdout
    assert "round 1, gamma: ValueError: the disk with the scans is gone" in shown
    assert "Traceback (most recent call last)" in shown
    assert "numpy_trainer.py" in shown
    assert "WARNING tests.e2e.numpy_trainer: no scans to be found" in shown
    told = federation.cli("sites", "show", "gamma", "-f", federation.slug).stdout
    assert "40 lines of log" in told


def test_a_site_that_was_never_invited_stays_out(federation: Federation) -> None:
    site = federation.folder / "stranger"
    arguments = (federation.stack.address, "no-such-invitation", "--name", "eve")
    refused = federation.cli("site", "enroll", *arguments, "--state-dir", str(site), expect=1)
    assert "Traceback" not in refused.stderr
    assert list(federation.client.sites(federation.slug)) == []


def test_an_invitation_is_good_for_as_many_sites_as_it_says(federation: Federation) -> None:
    invitation = federation.client.create_invitation(
        federation.slug, wire.InvitationCreate(max_uses=1)
    )
    address, cli = federation.stack.address, federation.cli

    def enroll(name: str, expect: int) -> str:
        state_dir = str(federation.folder / name)
        options = ("--name", name, "--state-dir", state_dir)
        return cli("site", "enroll", address, invitation.token, *options, expect=expect).stderr

    enroll("first", 0)
    assert "1 of 1 times" in enroll("second", 1)
