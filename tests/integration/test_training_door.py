"""What a site may not send, and that it is told why."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from fastapi.testclient import TestClient
from numpy.typing import NDArray

from app.main import create_app
from app.services.transactions import Transactions
from app.settings import Settings
from hansa_core import wire
from hansa_core.signing import Purpose
from hansa_core.states import TaskState
from tests.factories import (
    ActiveSite,
    Federation,
    a_federation,
    a_model,
    a_run,
    an_active_site,
    change_state,
    sites_online,
    work_off,
)
from tests.identities import SiteIdentity
from tests.tensors import BASE, a_delta, digest_of, encode

DATA = encode(a_delta(1))


@pytest.fixture
def federation(client: TestClient, transactions: Transactions, settings: Settings) -> Federation:
    return a_federation(client, transactions, settings)


@pytest.fixture
def sites(federation: Federation) -> list[ActiveSite]:
    return sites_online(federation, "bergen", "oslo")


@pytest.fixture
def site(sites: list[ActiveSite]) -> ActiveSite:
    return sites[0]


@pytest.fixture
def task(federation: Federation, site: ActiveSite) -> wire.Task:
    a_model(federation)
    a_run(federation)
    work_off(federation)
    return site.claim()


def require_unanswered(federation: Federation, task: wire.Task) -> None:
    """A refusal changes nothing: the task is still the site's to answer."""
    shown = {t.id: t.state for t in federation.round(task.run_id, 1).tasks}
    assert shown[task.id] is TaskState.CLAIMED
    assert federation.get(f"/runs/{task.run_id}/updates")["items"] == []


def with_value(name: str, value: float) -> dict[str, NDArray[Any]]:
    delta = a_delta(1)
    delta[name].reshape(-1)[1] = value
    return delta


WRONG_TENSORS: Mapping[str, tuple[Mapping[str, NDArray[Any]], str]] = {
    "a NaN": (with_value("layer.weight", np.nan), "'layer.weight' element 1 is nan"),
    "an infinity": (with_value("layer.bias", -np.inf), "'layer.bias' element 1 is -inf"),
    "a wrong shape": (
        a_delta(1) | {"layer.bias": np.zeros(4, np.float32)},
        "'layer.bias' is F32 [4], wanted F32 [3]",
    ),
    "a wrong dtype": (
        a_delta(1) | {"layer.bias": np.zeros(3)},
        "'layer.bias' is F64 [3], wanted F32 [3]",
    ),
    "a missing tensor": (
        {name: array for name, array in a_delta(1).items() if name != "steps"},
        "'steps' is missing",
    ),
    "an unexpected tensor": (a_delta(1) | {"extra": np.zeros(1)}, "'extra' is unexpected"),
}


def test_wrong_tensors_are_refused_by_name(
    federation: Federation, site: ActiveSite, task: wire.Task
) -> None:
    for case, (tensors, said) in WRONG_TENSORS.items():
        answer = site.upload(task, encode(tensors))
        assert (answer.status_code, answer.json()["slug"]) == (422, "update-refused"), case
        assert said in answer.json()["detail"], case
    require_unanswered(federation, task)
    site.answer(task, a_delta(1))  # the right bytes are still welcome


def test_bytes_that_are_not_the_tensors_are_refused(
    federation: Federation, site: ActiveSite, task: wire.Task
) -> None:
    wrong = (b"", b"\0", DATA[:-1], DATA + b"\0", b"\xff" * 64, b"not tensors, but some text")
    for data in wrong:
        answer = site.upload(task, data)
        assert (answer.status_code, answer.json()["slug"]) == (422, "update-refused"), data
    require_unanswered(federation, task)


def test_bytes_with_another_digest_are_refused(site: ActiveSite, task: wire.Task) -> None:
    announced = "0" * 64
    answer = site.upload(task, DATA, digest=announced)
    assert (answer.status_code, answer.json()["slug"]) == (422, "digest-mismatch")
    assert digest_of(DATA) in answer.json()["detail"]
    answer = site.upload(task, DATA, digest=digest_of(DATA).upper())
    assert (answer.status_code, answer.json()["slug"]) == (422, "invalid-request")


def test_an_upload_has_to_announce_its_size(site: ActiveSite, task: wire.Task) -> None:
    answer = site.client.put(
        f"/v1/tasks/{task.id}/artifacts/{digest_of(DATA)}",
        content=iter([DATA]),  # a generator: sent in chunks, without Content-Length
        headers=site.identity.headers | {"X-Hansa-Lease": str(task.lease.token)},
    )
    assert (answer.status_code, answer.json()["slug"]) == (422, "invalid-request")
    assert "Content-Length is missing" in answer.json()["detail"]


def test_an_upload_larger_than_allowed_is_refused_by_its_announcement(
    settings: Settings, site: ActiveSite, task: wire.Task
) -> None:
    strict = settings.model_copy(update={"max_artifact_bytes": len(DATA) - 1})
    with TestClient(create_app(strict)) as other:
        answer = ActiveSite(other, site.identity).upload(task, DATA)
    assert (answer.status_code, answer.json()["slug"]) == (413, "too-large")
    assert f"{len(DATA)} bytes" in answer.json()["detail"]


def test_an_absurd_number_of_examples_is_refused(
    federation: Federation, site: ActiveSite, task: wire.Task
) -> None:
    assert site.upload(task, DATA).status_code == 201
    for num_examples in (0, -1, 2**40 + 1, 2**41, 1.5):
        answer = site.submit(task, DATA, num_examples=num_examples)
        assert (answer.status_code, answer.json()["slug"]) == (422, "invalid-request")
        assert [error["path"] for error in answer.json()["errors"]] == ["manifest.num_examples"]
    require_unanswered(federation, task)
    assert site.submit(task, DATA, num_examples=2**40).status_code == 201


def test_a_manifest_about_something_else_is_refused(
    federation: Federation, site: ActiveSite, task: wire.Task
) -> None:
    assert site.upload(task, DATA).status_code == 201
    elsewhere: Mapping[str, Any] = {
        "task_id": uuid4(),
        "run_id": uuid4(),
        "site_id": uuid4(),
        "round_number": 2,
        "checkpoint_digest": "0" * 64,
    }
    for field, value in elsewhere.items():
        answer = site.submit(task, DATA, **{field: value})
        assert (answer.status_code, answer.json()["slug"]) == (422, "invalid-request")
        assert f"{field} is {value}" in answer.json()["detail"]
    require_unanswered(federation, task)


def test_a_manifest_needs_its_bytes_and_their_true_size(
    federation: Federation, site: ActiveSite, task: wire.Task
) -> None:
    answer = site.submit(task, DATA)
    assert (answer.status_code, answer.json()["slug"]) == (404, "artifact-missing")
    assert site.upload(task, DATA).status_code == 201
    answer = site.submit(task, DATA, size=len(DATA) + 1)
    assert (answer.status_code, answer.json()["slug"]) == (422, "update-refused")
    require_unanswered(federation, task)


def test_an_artifact_of_another_layout_cannot_be_submitted(
    federation: Federation, site: ActiveSite, task: wire.Task
) -> None:
    other = encode({"other": np.zeros(3, np.float32)})
    path = f"/v1/federations/{federation.slug}/artifacts/{digest_of(other)}"
    stored = site.client.put(path, content=other, headers=federation.owner.headers)
    assert stored.status_code == 201
    answer = site.submit(task, other)
    assert (answer.status_code, answer.json()["slug"]) == (422, "update-refused")
    require_unanswered(federation, task)


def test_a_signature_of_another_key_or_purpose_is_refused(
    federation: Federation, site: ActiveSite, task: wire.Task
) -> None:
    assert site.upload(task, DATA).status_code == 201
    manifest = site.manifest(task, DATA)
    wrong = (
        SiteIdentity("mallory").sign(Purpose.UPDATE, manifest),
        site.identity.sign(Purpose.EVALUATION, manifest),
        site.identity.sign(Purpose.UPDATE, manifest | {"num_examples": 11}),
        "AAAA",
        "not base64!",
    )
    for signature in wrong:
        answer = site.submit(task, DATA, signature=signature)
        assert (answer.status_code, answer.json()["slug"]) == (403, "signature-refused")
    require_unanswered(federation, task)


def test_another_sites_task_is_not_found(
    federation: Federation, sites: list[ActiveSite], task: wire.Task
) -> None:
    thief = sites[1]
    answers = (
        thief.upload(task, DATA),
        thief.submit(task, DATA),
        thief.fail(task, "broken"),
        thief.beat(task),
        thief.evaluate(task, {"loss": 1.0}, 5),
        thief.client.get(f"/v1/tasks/{task.id}/checkpoint", headers=thief.identity.headers),
    )
    assert [answer.status_code for answer in answers] == [404] * len(answers)
    require_unanswered(federation, task)


def test_a_training_task_takes_no_evaluation_and_the_other_way_round(
    federation: Federation, sites: list[ActiveSite], task: wire.Task
) -> None:
    answer = sites[0].evaluate(task, {"loss": 1.0}, 5)
    assert (answer.status_code, answer.json()["slug"]) == (422, "invalid-request")
    other = encode(BASE)
    a_run(federation, name="second", evaluation={"every": 0, "final": True})
    for site in sites:
        site.answer(task if site is sites[0] else site.claim(), a_delta(2))
    work_off(federation)
    for site in sites:
        site.answer(site.claim(), a_delta(3))
    work_off(federation)
    evaluation = sites[0].claim()
    assert evaluation.kind == "evaluate"
    answer = sites[0].upload(evaluation, other)
    assert (answer.status_code, answer.json()["slug"]) == (422, "update-refused")
    answer = sites[0].submit(evaluation, other)
    assert (answer.status_code, answer.json()["slug"]) == (422, "invalid-request")


def test_a_suspended_site_is_refused_on_its_next_request(
    federation: Federation, site: ActiveSite, task: wire.Task
) -> None:
    change_state(federation, site, "suspend", reason="audit")
    for answer in (site.upload(task, DATA), site.submit(task, DATA), site.beat(task), site.poll()):
        assert (answer.status_code, answer.json()["slug"]) == (403, "site-not-active")
        assert "suspended: audit" in answer.json()["detail"]
    change_state(federation, site, "reinstate")
    site.answer(task, a_delta(1))


def test_a_retired_key_is_refused(
    federation: Federation, site: ActiveSite, task: wire.Task
) -> None:
    assert site.upload(task, DATA).status_code == 201
    successor = SiteIdentity(site.name, id=site.id)
    payload = {"new_public_key": successor.public, "site_id": str(site.id)}
    rotated = site.client.post(
        "/v1/site/keys",
        json={
            "new_public_key": successor.public,
            "signature_by_old": site.identity.sign(Purpose.ROTATE, payload),
            "signature_by_new": successor.sign(Purpose.ROTATE, payload),
        },
        headers=site.identity.headers,
    )
    assert rotated.status_code == 200, rotated.text
    assert site.submit(task, DATA).status_code == 401  # the old token died with its key
    successor.log_in(federation.client)
    renewed = ActiveSite(site.client, successor)
    signed_by_old = site.identity.sign(Purpose.UPDATE, site.manifest(task, DATA))
    answer = renewed.submit(task, DATA, signature=signed_by_old)
    assert (answer.status_code, answer.json()["slug"]) == (403, "signature-refused")
    require_unanswered(federation, task)
    assert renewed.submit(task, DATA).status_code == 201


def test_somebody_without_a_token_learns_nothing(client: TestClient, task: wire.Task) -> None:
    stranger = SiteIdentity("stranger", id=UUID(int=1), token="hx_" + "0" * 43)
    answer = ActiveSite(client, stranger).submit(task, DATA)
    assert (answer.status_code, answer.json()["slug"]) == (401, "not-authenticated")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_failure_is_stored_whatever_characters_the_traceback_has(
    federation: Federation, site: ActiveSite, task: wire.Task
) -> None:
    answer = site.fail(task, "bad\0byte", "line 1\n\0line 2")
    assert answer.status_code == 204, answer.text
    shown = {t.id: t for t in federation.round(task.run_id, 1).tasks}[task.id]
    assert shown.state is TaskState.FAILED
    assert shown.state_reason == "bad\N{REPLACEMENT CHARACTER}byte"
    assert shown.traceback == "line 1\n\N{REPLACEMENT CHARACTER}line 2"


def test_text_that_the_database_cannot_hold_is_refused_and_not_a_crash(
    federation: Federation,
) -> None:
    newcomer = an_active_site(federation, "turku")  # not seen yet: what it tells is written
    answer = newcomer.client.post(
        "/v1/tasks/claim", json={"sdk_version": "\0"}, headers=newcomer.identity.headers
    )
    assert (answer.status_code, answer.json()["slug"]) == (422, "invalid-request")


def test_numbers_beyond_the_database_are_refused_and_not_a_crash(federation: Federation) -> None:
    a_model(federation)
    run = a_run(federation)
    assert federation.get("/events", expect=422, after=2**70)["slug"] == "invalid-request"
    assert federation.get(f"/runs/{run.id}/updates", expect=422, round=2**70)["slug"]
    assert federation.get(f"/runs/{run.id}/rounds/{2**70}", expect=422)["slug"]
