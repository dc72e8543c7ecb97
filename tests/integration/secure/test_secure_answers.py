"""What sites answer in secure rounds, and runs that are stopped in every phase of one."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from hansa_core import wire
from hansa_core.states import RoundState, RunState
from tests.factories import (
    Federation,
)
from tests.secure_sites import (
    SecureSite,
    agree,
    ended_well,
    open_up,
    overdue,
    started,
    step,
    upload,
)
from tests.tensors import a_delta


def test_answers_are_taken_once(federation: Federation, sites: list[SecureSite]) -> None:
    run_id = started(federation)
    (duty,) = sites[0].duties().items
    assert sites[0].duties().items == [duty]
    assert sites[0].do() == 1
    again = sites[0].put(duty.id, sites[0].said[duty.id])
    assert again.status_code == 200
    other = sites[0].put(duty.id, sites[0].answer(duty))  # other keys
    assert (other.status_code, other.json()["slug"]) == (409, "update-conflict")
    assert sites[0].refuse(duty.id, "too late").status_code == 409
    assert sites[1].put(duty.id, sites[0].said[duty.id]).status_code == 404
    (mine,) = sites[1].duties().items
    stolen = sites[1].put(mine.id, sites[0].said[duty.id])
    assert (stolen.status_code, stolen.json()["slug"]) == (422, "invalid-request")
    forged = sites[1].answer(mine)
    forged["signature"] = sites[0].said[duty.id]["signature"]
    refused = sites[1].put(mine.id, forged)
    assert (refused.status_code, refused.json()["slug"]) == (403, "signature-refused")
    assert run_id


def test_a_masked_update_tells_nothing_else(
    federation: Federation, sites: list[SecureSite]
) -> None:
    run_id = started(federation)
    agree(run_id, sites)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"num_examples": 5}, "its num_examples is 5, wanted 1"),
        ({"metrics": {"loss": 0.5}}, "it has metrics, wanted none"),
        ({"secure_round": "0" * 64}, "its secure_round is 000"),
        ({"parts": {}}, "its parts are none, wanted seals"),
        ({"scalars": {"normaliser": 1.0}}, "it has scalars, wanted none"),
    ]
    task = sites[0].site.claim()
    for changes, why in wrong:
        answer = sites[0].work(task, a_delta(0), claims=changes)
        assert answer.status_code == 422, f"{changes}: {answer.text}"
        assert why in answer.json()["detail"]
    plain = sites[0].site.upload(task, b"")
    assert plain.status_code == 422
    upload(sites[0])
    assert run_id


@pytest.mark.parametrize("phase", ["setup", "collecting", "signing", "opening"])
@pytest.mark.parametrize("act", ["cancel", "pause"])
def test_a_run_can_be_stopped_in_every_phase(
    phase: str, act: str, federation: Federation, sites: list[SecureSite]
) -> None:
    run_id = started(federation)
    reach(phase, run_id, sites)
    assert federation.round(run_id, 1).state == phase
    body = None if act == "cancel" else {"round": "burn"}
    federation.post(f"/runs/{run_id}/{act}", body, expect=200)
    shown = federation.round(run_id, 1)
    assert shown.state is RoundState.CANCELLED
    for site in sites:
        assert site.duties() == wire.Duties(items=[], expected=False)
        assert site.site.poll().status_code == 204
    if act == "cancel":
        assert federation.run(run_id).state is RunState.CANCELLED
        return
    federation.post(f"/runs/{run_id}/resume", expect=200)
    step(run_id)
    if federation.round(run_id, 1).state is RoundState.SETUP:
        agree(run_id, sites)
    for site in sites:
        upload(site)
    open_up(run_id, sites)
    ended_well(federation, run_id, 4, version=2 if phase == "setup" else 1)


def reach(phase: str, run_id: UUID, sites: list[SecureSite]) -> None:
    steps: list[Callable[[], object]] = [
        lambda: agree(run_id, sites),
        lambda: [*map(upload, sites), step(run_id)],
        lambda: [*(site.do() for site in sites), step(run_id)],
    ]
    phases = ["setup", "collecting", "signing", "opening"]
    for act in steps[: phases.index(phase)]:
        act()


def test_claims_and_heartbeats_say_that_duties_wait(
    federation: Federation, sites: list[SecureSite]
) -> None:
    run_id = started(federation)
    asked = sites[0].site.poll(wait_seconds=20)
    assert (asked.status_code, asked.headers["X-Hansa-Duties"]) == (204, "1")
    agree(run_id, sites)
    given = sites[3].site.poll()
    assert (given.status_code, given.headers["X-Hansa-Duties"]) == (200, "0")
    assert sites[3].site.beat(wire.Task.model_validate(given.json())).json()["duties"] == 0
    for site in sites[:3]:
        upload(site)
    overdue(federation)
    step(run_id)
    assert sites[0].site.poll().headers["X-Hansa-Duties"] == "1"
