"""What a site tells of itself and of its failures is kept, and shown; one that does not may not."""

from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response

from app.services.transactions import Transactions
from app.settings import Settings
from hansa_core import wire
from hansa_core.states import TaskState
from tests.factories import (
    ActiveSite,
    Federation,
    a_federation,
    a_model,
    a_run,
    an_active_site,
    sites_online,
    work_off,
)

POLICY = {
    "secure_only": True,
    "least_sum": 4,
    "tracebacks": "none",
    "share_log": 0,
    "peers": "pinned",
    "features": ["secure-aggregation"],
}


@pytest.fixture
def federation(client: TestClient, transactions: Transactions, settings: Settings) -> Federation:
    return a_federation(client, transactions, settings)


def failed_task(federation: Federation, **told: Any) -> wire.TaskView:
    """Let a site fail its task with this report; return what a researcher sees."""
    sites = sites_online(federation, "bergen", "oslo")
    a_model(federation)
    run = a_run(federation)
    work_off(federation)
    task = sites[0].claim()
    body = {"lease_token": str(task.lease.token), "error": "RuntimeError: no memory", **told}
    answer = federation.client.post(
        f"/v1/tasks/{task.id}/failure", json=body, headers=sites[0].identity.headers
    )
    assert answer.status_code == 204, answer.text
    (found,) = [it for it in federation.round(run.id, 1).tasks if it.id == task.id]
    assert found.state is TaskState.FAILED
    return found


def claim(site: ActiveSite, **told: Any) -> Response:
    return site.client.post(
        "/v1/tasks/claim", json={"sdk_version": "0.1.0", **told}, headers=site.identity.headers
    )


def site_of(federation: Federation, site_id: UUID) -> wire.Site:
    return wire.Site.model_validate(federation.get(f"/sites/{site_id}"))


def test_the_log_of_a_failed_task_is_shown_beside_its_traceback(federation: Federation) -> None:
    seen = failed_task(federation, traceback="Traceback ...", log="INFO a\nERROR b \0")
    assert seen.traceback == "Traceback ..."
    assert seen.log == "INFO a\nERROR b \N{REPLACEMENT CHARACTER}"


def test_a_site_that_tells_no_log_has_none(federation: Federation) -> None:
    assert failed_task(federation, traceback="Traceback ...").log is None


def test_a_log_is_bounded(federation: Federation) -> None:
    (site, _) = sites_online(federation, "bergen", "oslo")
    a_model(federation)
    a_run(federation)
    work_off(federation)
    task = site.claim()
    body = {"lease_token": str(task.lease.token), "error": "e", "log": "x" * (wire.MAX_LOG + 1)}
    path, headers = f"/v1/tasks/{task.id}/failure", site.identity.headers
    answer = site.client.post(path, json=body, headers=headers)
    assert answer.status_code == 422
    assert [it["path"] for it in answer.json()["errors"]] == ["log"]
    body["log"] = body["log"][1:]
    assert site.client.post(path, json=body, headers=headers).status_code == 204


def test_the_policy_is_what_the_site_told_last(federation: Federation) -> None:
    site = an_active_site(federation, "bergen")
    assert site_of(federation, site.id).policy is None
    assert claim(site, policy=POLICY).status_code == 204
    assert site_of(federation, site.id).policy == wire.SitePolicy.model_validate(POLICY)
    (listed,) = federation.get("/sites")["items"]
    assert listed["policy"] == POLICY


def test_an_older_sdk_tells_no_policy_and_is_served(federation: Federation) -> None:
    site = an_active_site(federation, "bergen")
    assert claim(site).status_code == 204
    seen = site_of(federation, site.id)
    assert seen.online
    assert seen.policy is None


def test_a_policy_with_fields_that_this_hub_does_not_know_is_named(federation: Federation) -> None:
    """So that a newer SDK knows what to leave out."""
    site = an_active_site(federation, "bergen")
    answer = claim(site, policy={**POLICY, "of_tomorrow": 1})
    assert answer.status_code == 422
    assert [it["path"] for it in answer.json()["errors"]] == ["policy.of_tomorrow"]
