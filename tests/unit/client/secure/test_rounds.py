"""An honest hub and a real site: sums come out right, and nothing else is told."""

import errno
import os
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from hansa.cli.main import main
from hansa.identity import StateDir
from hansa.journal import Journal
from hansa.secure.calls import SecureCalls
from hansa.secure.journal import SecureJournal
from hansa.secure.peers import Peers, PeersMode
from hansa.secure.rosters import Rosters
from hansa.secure.tasks import Contribution, SecureDesk, store_masked
from hansa.transport import Transport
from hansa_core import wire
from hansa_core.dtypes import DType
from hansa_core.layouts import Layout, TensorShape
from hansa_core.local_work import ControlVariates, LocalWork, Scalar
from hansa_core.secagg.terms import Weighing
from hansa_core.signing import fingerprint, public_key
from hansa_core.states import RoundKind
from tests.unit.client.fake_hub import problem, serving
from tests.unit.client.secure.hubs import SecureHub
from tests.unit.client.secure.members import EXAMPLES, TERMS
from tests.unit.client.secure.sites import STEP, StepTrainer, a_site, model_bytes, run_secure


def test_a_whole_round_with_a_dropout_gives_the_weighted_mean(
    hub: SecureHub, state: StateDir, tmp_path: Path
) -> None:
    hub.more_of_tasks = {"evaluate": True}
    hub.begin(model_bytes(tmp_path))
    result = run_secure(state, hub)
    assert (result.done, result.failed, hub.refusals) == (1, 0, {})
    weight = 10 + 2 * EXAMPLES
    (totals,) = hub.sums
    assert (totals.updates, totals.weight) == (3, weight)
    mean = (STEP * 10 + 2 * EXAMPLES) / weight
    np.testing.assert_allclose(hub.deltas[0]["w"], np.full(6, mean), atol=2e-2)
    np.testing.assert_allclose(hub.deltas[0]["n"], [1], atol=1e-3)
    assert totals.metrics["train/loss"].mean == pytest.approx((4 * 10 + 2 * EXAMPLES) / weight)
    assert totals.metrics["eval/accuracy"].weight == 5 + 2 * EXAMPLES
    assert set(totals.metrics) == {"train/loss", "eval/accuracy"}


def test_the_manifest_and_the_heartbeats_tell_nothing_that_is_in_the_sum(
    hub: SecureHub, state: StateDir, tmp_path: Path
) -> None:
    hub.begin(model_bytes(tmp_path))
    trainer = StepTrainer(
        during=lambda _: hub.wait_for(lambda: any(it.progress.fraction == 0.5 for it in hub.beats))
    )
    assert run_secure(state, hub, trainer=trainer).done == 1
    manifest = hub.updates[0].manifest
    assert manifest.secure_round == hub.header.digest()
    assert (manifest.num_examples, manifest.metrics, manifest.evaluation) == (1, {}, None)
    assert manifest.scalars == {}
    assert set(manifest.parts) == {"seals"}
    told = {name for it in hub.beats for name in it.progress.metrics}
    assert "loss" not in told


def test_with_site_metrics_the_manifest_has_them_too(tmp_path: Path) -> None:
    hub = SecureHub(terms=TERMS.model_copy(update={"site_metrics": True}))
    with serving(hub):
        state = a_site(hub, tmp_path)
        hub.more_of_tasks = {"evaluate": True}
        hub.begin(model_bytes(tmp_path))
        assert run_secure(state, hub).done == 1
    manifest = hub.updates[0].manifest
    assert (manifest.num_examples, manifest.metrics["loss"]) == (10, 4.0)
    assert manifest.evaluation is not None
    assert manifest.secure_round == hub.header.digest()


def test_an_evaluation_round_is_a_sum_of_metrics_alone(
    hub: SecureHub, state: StateDir, tmp_path: Path
) -> None:
    hub.kind = RoundKind.EVALUATE
    hub.begin(model_bytes(tmp_path))
    assert run_secure(state, hub).done == 1
    (totals,) = hub.sums
    mean = totals.metrics["eval/accuracy"]
    assert mean.mean == pytest.approx((5 + 0.5 * 2 * EXAMPLES) / (5 + 2 * EXAMPLES))
    assert (hub.deltas, hub.evaluations) == ([{}], [])


def test_fednova_sums_steps_and_what_a_step_moved(tmp_path: Path) -> None:
    terms = TERMS.model_copy(update={"weighing": Weighing.NORMALISED, "scalars": ["normaliser"]})
    hub = SecureHub(terms=terms)
    hub.local_work = LocalWork(scalars=[Scalar.NORMALISER])
    with serving(hub):
        state = a_site(hub, tmp_path)
        hub.begin(model_bytes(tmp_path))
        assert run_secure(state, hub, trainer=StepTrainer(told={"normaliser": 5.0})).done == 1
    (totals,) = hub.sums
    weight = 10 + 2 * EXAMPLES
    steps = (5.0 * 10 + 2.5 * 2 * EXAMPLES) / weight
    assert totals.scalars["normaliser"] == pytest.approx(steps)
    mean = steps * (STEP / 5 * 10 + 1 / 2.5 * 2 * EXAMPLES) / weight
    np.testing.assert_allclose(hub.deltas[0]["w"], np.full(6, mean), atol=5e-2)


def test_scaffolds_control_is_in_the_sum_and_remembered_here(tmp_path: Path) -> None:
    terms = TERMS.model_copy(update={"weighing": Weighing.EQUAL})
    hub = SecureHub(terms=terms)
    hub.local_work = LocalWork(correction=ControlVariates(kind="control-variates"))
    with serving(hub):
        state = a_site(hub, tmp_path)
        hub.begin(model_bytes(tmp_path))
        trainer = StepTrainer(told={"steps": 2, "learning_rate": 0.5})
        assert run_secure(state, hub, trainer=trainer).done == 1
    assert {name for name, _, _ in hub.parts} == {"seals"}
    # Its change is -STEP / (2 * 0.5), the others' is one.
    np.testing.assert_allclose(hub.deltas[0]["control/w"], np.full(6, (2 - STEP) / 3), atol=1e-3)
    assert list((state.path / "memory").glob("*/*/control.safetensors"))


def test_three_rounds_go_by_with_one_roster_shown_once(
    hub: SecureHub, state: StateDir, tmp_path: Path
) -> None:
    hub.rounds = 3
    hub.begin(model_bytes(tmp_path))
    assert run_secure(state, hub, tasks=3).done == 3
    assert [it.updates for it in hub.sums] == [3, 3, 3]
    assert hub.count("GET /v1/rosters/") == 2  # to confirm it, then for the confirmations
    assert len({update.manifest.secure_round for update in hub.updates}) == 3


def test_a_site_that_has_done_its_tasks_stays_for_the_committee(
    hub: SecureHub, state: StateDir, tmp_path: Path
) -> None:
    hub.begin(model_bytes(tmp_path))
    result = run_secure(state, hub, tasks=1)
    kinds = [event.kind for event in result.events]
    assert kinds.index("task_submitted") < kinds.index("duty_done", kinds.index("task_submitted"))
    assert [event.fields["kind"] for event in result.events if event.kind == "duty_done"] == [
        "keys",
        "confirm",
        "sign",
        "open",
    ]


def test_a_duty_that_comes_while_the_site_trains_is_done_beside_it(
    hub: SecureHub, state: StateDir, tmp_path: Path
) -> None:
    hub.begin(model_bytes(tmp_path))

    def later(_: object) -> None:
        hub.takes_keys = False
        duty = hub.add_duty(wire.KeysDuty, version=9, terms=hub.terms)
        hub.wait_for(lambda: duty.id in hub.duty_answers)

    assert run_secure(state, hub, trainer=StepTrainer(during=later)).done == 1
    assert len(hub.sums) == 1


def test_a_hub_that_is_away_is_waited_out_in_every_phase(
    hub: SecureHub, state: StateDir, tmp_path: Path
) -> None:
    for method, part in (
        ("POST", "/v1/duties/claim"),
        ("PUT", "/v1/duties/"),
        ("GET", "/v1/rosters/"),
        ("POST", "/v1/duties/claim"),
    ):
        hub.fail(method, part, lambda: problem(503, "not-ready"), times=5)
    hub.begin(model_bytes(tmp_path))
    result = run_secure(state, hub)
    assert (result.done, len(hub.sums)) == (1, 1)
    assert result.messages("hub_unreachable")


def test_an_answer_whose_receipt_is_lost_is_given_again_byte_for_byte(
    hub: SecureHub, state: StateDir, tmp_path: Path
) -> None:
    hub.loses_receipts = True
    hub.begin(model_bytes(tmp_path))
    assert run_secure(state, hub).done == 1
    assert [len(bodies) for bodies in hub.duty_bodies.values()] == [2, 2, 2, 2]
    assert all(len(set(bodies)) == 1 for bodies in hub.duty_bodies.values())
    assert len(hub.sums) == 1


def test_the_command_line_takes_secure_only(
    hub: SecureHub,
    state: StateDir,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    hub.add_task(hub.add_checkpoint(model_bytes(tmp_path)))
    options = ("--state-dir", str(state.path), "--once", "--secure-only")
    trainer = "tests.unit.client.secure.sites:TRAINER"
    monkeypatch.setattr(sys, "argv", ["hansa", "site", "run", "--trainer", trainer, *options])
    with pytest.raises(SystemExit) as caught:
        main()
    assert not caught.value.code
    assert "secure runs only (--secure-only)" in capsys.readouterr().out
    assert "secure runs only" in hub.failures[0].error


@pytest.mark.parametrize(
    ("status", "slug", "told"),
    [(409, "task-closed", "duty_closed"), (422, "invalid-request", "duty_failed")],
)
def test_an_answer_that_the_hub_does_not_take_ends_nothing(
    hub: SecureHub, state: StateDir, tmp_path: Path, status: int, slug: str, told: str
) -> None:
    hub.fail("PUT", "/v1/duties/", lambda: problem(status, slug))
    hub.begin(model_bytes(tmp_path))
    result = run_secure(state, hub)
    assert len(result.messages(told)) == 1
    assert (result.done, len(hub.sums), hub.refusals) == (1, 1, {})


def test_a_full_disk_delays_a_duty_and_nothing_is_sent_before(
    hub: SecureHub, state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, full = os.fsync, [True]

    def flush(handle: int) -> None:
        if full:
            full.clear()
            assert hub.duty_answers == {}
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    hub.begin(model_bytes(tmp_path))
    monkeypatch.setattr(os, "fsync", flush)
    result = run_secure(state, hub)
    assert "No space left" in result.messages("duty_failed")[0]
    assert (result.done, len(hub.sums)) == (1, 1)


def test_secure_only_refuses_a_plain_task_and_says_why(
    hub: SecureHub, state: StateDir, tmp_path: Path
) -> None:
    hub.add_task(hub.add_checkpoint(model_bytes(tmp_path)))
    trainer = StepTrainer()
    assert run_secure(state, hub, trainer=trainer, secure_only=True).failed == 1
    assert "secure runs only" in hub.failures[0].error
    assert (trainer.trained, hub.uploads) == (0, [])


def test_a_sum_of_too_few_is_refused_before_anything_is_masked(
    hub: SecureHub, state: StateDir, tmp_path: Path
) -> None:
    """The hub names a round's participants: the floor is the site's own."""
    hub.begin(model_bytes(tmp_path))
    trainer = StepTrainer()
    run_secure(state, hub, trainer=trainer, least_sum=50)
    assert "takes part in sums of 50 or more (--least-sum)" in hub.failures[0].error
    assert (trainer.trained, hub.uploads) == (0, [])


def test_keys_of_old_rosters_are_gone_and_their_sums_stay_shut(
    hub: SecureHub, state: StateDir, tmp_path: Path
) -> None:
    model = model_bytes(tmp_path)
    for version in (1, 2, 3):
        hub.version, hub.rounds, hub.over = version, 1, False
        hub.begin(model)
        assert run_secure(state, hub).done == 1
    first = next(duty for duty in hub.duty_list if isinstance(duty, wire.OpenDuty))
    names = {path.name for path in (state.path / "secure" / str(hub.run_id)).iterdir()}
    assert {name for name in names if name.startswith("keys-")} == {"keys-2.json", "keys-3.json"}
    hub.over = False
    hub.duty_list = [first.model_copy(update={"id": uuid4()})]
    run_secure(state, hub, tasks=2)
    assert "whose keys it has deleted" in next(iter(hub.refusals.values()))


def test_a_site_with_its_own_way_of_trust_still_takes_part(
    hub: SecureHub, state: StateDir, tmp_path: Path
) -> None:
    peers = Peers(state.path)
    for name, other in hub.others.items():
        peers.pin(name, fingerprint(public_key(other.private)))
    peers.set_mode(PeersMode.PINNED)
    hub.begin(model_bytes(tmp_path))
    result = run_secure(state, hub, secure_only=True)
    assert (result.done, result.messages("peer_pinned")) == (1, [])


def test_the_words_are_made_masked_and_written_in_one_array(tmp_path: Path) -> None:
    hub = SecureHub()
    with serving(hub):
        state = a_site(hub, tmp_path)
        hub.begin(model_bytes(tmp_path))
        run_secure(state, hub)
        journal = SecureJournal(state.path)
        office = SecureDesk(
            journal,
            Rosters(SecureCalls(Transport(hub.url), bytes(32)), journal),
            site_id=hub.site_id,
            secure_only=True,
            least_sum=3,
        )
        header = hub.new_header(round_number=2)
        elements = 3_000_000
        layout = Layout((TensorShape("w", DType.F32, (elements,)),))
        task = hub.add_secure_task(header, round_number=2)
        secure = office.open(task)
    assert secure is not None
    given = Contribution(
        tensors={"w": np.ones(elements, np.float32)},
        layout=layout,
        parts={},
        part_layouts={},
        scalars={},
        weight=10,
        train=None,
        evaluation=None,
    )
    tasks = Journal(tmp_path)
    (tmp_path / "tasks" / str(task.id)).mkdir()
    tracemalloc.start()
    try:
        stored, _ = store_masked(task, replace(secure, ranges=(1.0,)), given, tasks)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert stored.size > elements / 3 * 8
    assert peak < 1.5 * stored.size
