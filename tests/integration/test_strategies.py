"""A run with each rule: it completes, and whoever verifies it recomputes it by the same rule."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient

from app.domain.clock import utc_now
from app.services.transactions import Transactions
from app.settings import Settings
from hansa.client import HansaClient
from hansa.verification import Bundle, Check, HubBlobs, Report, Trust, collect, verify_bundle
from hansa_core import wire
from hansa_core.receipts import Receipt, seal
from hansa_core.signing import decode_base64, encode_base64
from hansa_core.states import RunState
from tests.conftest import SIGNING_KEY
from tests.factories import Federation, a_federation, a_model, a_run, sites_online, work_off
from tests.rules import STRATEGIES, combine, contribution, strategy
from tests.serving import hub_on_a_socket
from tests.tensors import BASE, Tensors, a_delta, decode, digest_of, encode

NAMES = ("bergen", "espoo", "oslo", "turku", "umea")
ROUNDS = 2

Json = dict[str, Any]


@pytest.fixture
def federation(client: TestClient, transactions: Transactions, settings: Settings) -> Federation:
    return a_federation(client, transactions, settings)


def delta_of(site: int, round_number: int) -> Tensors:
    """Return what a site sends; the last one is an attacker."""
    delta = a_delta(10 * round_number + site)
    if site == len(NAMES) - 1:
        delta["layer.weight"] *= -1000
    return delta


def play(federation: Federation, section: Json) -> UUID:
    """Run to the end."""
    sites = sites_online(federation, *NAMES)
    a_model(federation)
    cohort = {"min_sites": len(NAMES)}
    run = a_run(federation, rounds=ROUNDS, cohort=cohort, strategy=section)
    for number in range(1, ROUNDS + 1):
        work_off(federation)
        for index, site in enumerate(sites):
            site.answer(site.claim(), delta_of(index, number), num_examples=5 + index)
    work_off(federation)
    return run.id


def bundled(
    federation: Federation, settings: Settings, run_id: UUID, folder: Path
) -> tuple[Bundle, Trust]:
    """Fetch everything of a run into a bundle."""
    slug = federation.slug
    with (
        hub_on_a_socket(settings) as address,
        HansaClient(address, federation.owner.token) as client,
    ):
        bundle = collect(client, slug, client.run(slug, run_id), folder)
        blobs = HubBlobs(client.receipts(slug, run_id), bundle, keep=True)
        verify_bundle(bundle, Trust(), blobs=blobs)
        keys = {site.name: frozenset({site.fingerprint}) for site in client.sites(slug)}
        return bundle, Trust(frozenset({client.hub().fingerprint}), keys)


def rules_of(bundle: Bundle) -> list[str]:
    """Return the rules that the receipts name."""
    return [body["round"]["aggregate"]["rule"] for body in bodies(bundle) if body["round"]]


def bodies(bundle: Bundle) -> list[Json]:
    paths = sorted((bundle.path / "receipts").iterdir())
    return [json.loads(json.loads(path.read_text())["body"]) for path in paths]


def forge(bundle: Bundle, change: Callable[[Json], object]) -> None:
    """Change the first receipt's aggregate as the hub itself could: every signature is right."""
    changed = bodies(bundle)
    change(changed[0]["round"]["aggregate"])
    for path in (bundle.path / "receipts").iterdir():
        path.unlink()
    parent: str | None = None
    for number, fields in enumerate(changed, start=1):
        receipt = Receipt.model_validate_json(json.dumps(fields | {"parent": parent}))
        sealed = seal(receipt, decode_base64(SIGNING_KEY))
        parent = sealed.digest
        bundle.add_receipt(
            wire.Receipt(
                number=number,
                digest=sealed.digest,
                round_number=None,
                body=sealed.body.decode(),
                signature=encode_base64(sealed.signature),
                public_key=encode_base64(sealed.public_key),
                fingerprint="",
                hold=None,
                created_at=utc_now(),
            )
        )


@pytest.mark.parametrize("section", STRATEGIES, ids=lambda it: it["name"])
def test_a_run_completes_by_its_rule_and_is_recomputed_by_it(
    section: Json, federation: Federation, settings: Settings, tmp_path: Path
) -> None:
    run = federation.run(play(federation, section))
    assert (run.state, run.state_reason) == (RunState.COMPLETED, None)
    model: Tensors = dict(BASE)
    for number in range(1, ROUNDS + 1):
        updates = [contribution(delta_of(index, number), 5 + index) for index in range(len(NAMES))]
        model = decode(combine(section, model, updates))
    made = federation.checkpoint(run.latest_checkpoint_id)
    assert made.digest == digest_of(encode(model))

    bundle, trust = bundled(federation, settings, run.id, tmp_path / "bundle")
    assert rules_of(bundle) == [strategy(section).rule_name()] * ROUNDS
    report = verify_bundle(bundle, trust)
    assert (report.wrong, report.unchecked) == ((), ())
    assert report.holds[Check.AGGREGATE] == ROUNDS


def problems(report: Report) -> list[tuple[Check, str]]:
    return [(found.check, found.message) for found in report.wrong]


def test_another_rule_than_the_plans_is_wrong_and_an_unknown_one_unchecked(
    federation: Federation, settings: Settings, tmp_path: Path
) -> None:
    run_id = play(federation, {"name": "trimmed-mean", "trim": 0.2})
    bundle, trust = bundled(federation, settings, run_id, tmp_path / "bundle")
    forge(bundle, lambda aggregate: aggregate.update(rule="trimmed-mean/1 trim=0.4"))
    report = verify_bundle(bundle, trust)
    assert problems(report) == [
        (
            Check.AGGREGATE,
            "it was made by the rule 'trimmed-mean/1 trim=0.4', "
            "the plan's is 'trimmed-mean/1 trim=0.2'",
        )
    ]
    forge(bundle, lambda aggregate: aggregate.update(rule="trimmed-mean/9 trim=0.2"))
    report = verify_bundle(bundle, trust)
    assert report.wrong == ()
    (unchecked,) = report.unchecked
    assert unchecked.check is Check.AGGREGATE
    assert "does not know the rule 'trimmed-mean/9 trim=0.2'" in unchecked.message


def test_a_buffered_run_clips_what_staleness_left(
    federation: Federation, settings: Settings, tmp_path: Path
) -> None:
    fast, slow = sites_online(federation, "fast", "slow")
    a_model(federation)
    run = a_run(
        federation,
        rounds=2,
        cohort={"min_sites": 1},
        buffer={"size": 2},
        strategy={"name": "norm-clipping", "bound": 0.5},
    )
    work_off(federation)
    late = slow.claim()
    for seed in (1, 2):
        fast.answer(fast.claim(), a_delta(seed), num_examples=3)
        work_off(federation)
    slow.answer(late, a_delta(3), num_examples=5)
    fast.answer(fast.claim(), a_delta(4), num_examples=3)
    work_off(federation)
    bundle, trust = bundled(federation, settings, run.id, tmp_path / "bundle")
    assert rules_of(bundle) == ["norm-clipping/1 bound=0.5"] * 2
    report = verify_bundle(bundle, trust)
    assert (report.wrong, report.unchecked) == ((), ())
    assert report.holds[Check.AGGREGATE] == 2


def test_a_plan_whose_rule_cannot_work_is_refused_with_the_reason(federation: Federation) -> None:
    a_model(federation)
    plan = {"name": "x", "model": "tumor", "rounds": 1, "cohort": {"min_sites": 3}}
    for section, path, reason in (
        ({"name": "krum", "byzantine": 1}, "plan", "needs min_sites 5"),
        ({"name": "mode"}, "plan.strategy.name", "got 'mode'"),
        ({"name": "trimmed-mean", "trim": 0.7}, "plan.strategy.trim", "got 0.7"),
    ):
        answer = federation.post("/runs", {"plan": plan | {"strategy": section}}, expect=422)
        (error,) = answer["errors"]
        assert error["path"] == path
        assert reason in error["message"]


def test_a_federation_is_told_why_updates_cannot_be_combined(federation: Federation) -> None:
    sites = sites_online(federation, *NAMES)
    a_model(federation)
    huge: Tensors = {name: array.copy() for name, array in a_delta(1).items()}
    huge["layer.bias"][2] = 3.4e38
    base_side = {"name": "median"}
    run = a_run(federation, cohort={"min_sites": 5}, strategy=base_side, rounds=2)
    for _ in range(2):
        work_off(federation)
        for site in sites:
            site.answer(site.claim(), huge)
    work_off(federation)
    ended = federation.run(run.id)
    assert ended.state is RunState.FAILED
    assert "tensor 'layer.bias' element 2 of the new checkpoint is inf" in str(ended.state_reason)
