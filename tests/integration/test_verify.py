"""`hansa verify` on a real run: what it recomputes, and every way of tampering that it names."""

import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient

from app.domain.clock import utc_now
from app.services.transactions import Transactions
from app.settings import Settings
from hansa.cli.main import main
from hansa.client import HansaClient
from hansa.verification import (
    Bundle,
    Check,
    HubBlobs,
    Report,
    Trust,
    check_update,
    collect,
    verify_bundle,
)
from hansa_core import wire
from hansa_core.canonical import canonical_json
from hansa_core.receipts import Receipt, parse_body, seal
from hansa_core.signing import Purpose, decode_base64, encode_base64, public_key, sign
from hansa_core.states import RoundKind
from tests.conftest import SIGNING_KEY
from tests.factories import (
    Federation,
    a_federation,
    a_model,
    a_run,
    sites_online,
    work_off,
)
from tests.identities import PASSWORD
from tests.serving import hub_on_a_socket
from tests.tensors import a_delta

NAMES = ("bergen", "oslo", "turku")
ROUNDS = 3
RECEIPTS = ROUNDS + 2  # and the final evaluation, and the end
HUB = decode_base64(SIGNING_KEY)
STRANGER = bytes(32)
LATER = timedelta(seconds=31)  # past the deadline of factories.a_plan

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Played:
    """A finished run, all of it in a bundle."""

    folder: Path
    hub_key: str
    site_keys: dict[str, frozenset[str]]

    @property
    def trust(self) -> Trust:
        return Trust(frozenset({self.hub_key}), self.site_keys)


_PLAYED: dict[str, Played] = {}  # one run is enough for the whole file


@pytest.fixture
def played(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Played:
    """The bundle of a run in which a site failed in one round, and was late in another."""
    if "run" not in _PLAYED:
        folder = tmp_path_factory.mktemp("played")
        settings: Settings = request.getfixturevalue("settings")
        federation = a_federation(
            request.getfixturevalue("client"), request.getfixturevalue("transactions"), settings
        )
        _PLAYED["run"] = play(federation, settings, folder)
    return _PLAYED["run"]


@pytest.fixture
def copy(played: Played, tmp_path: Path) -> Bundle:
    """A bundle that a test may break."""
    shutil.copytree(played.folder, tmp_path / "bundle")
    return Bundle(tmp_path / "bundle")


def play(federation: Federation, settings: Settings, folder: Path) -> Played:
    sites = sites_online(federation, *NAMES)
    a_model(federation)
    run = a_run(federation, rounds=ROUNDS, evaluation={"every": 0, "final": True})
    work_off(federation)
    for number in range(1, ROUNDS + 1):
        for index, site in enumerate(sites):
            task = site.claim()
            if site.name == "turku" and number == 1:
                assert site.fail(task, "out of memory").status_code == 204
            elif site.name != "turku" or number == ROUNDS:
                site.answer(task, a_delta(10 * number + index), num_examples=7 + index)
        work_off(federation, now=utc_now() + (LATER if number == 2 else timedelta()))
    for site in sites:
        task = site.claim()
        assert task.kind is RoundKind.EVALUATE
        assert site.evaluate(task, {"loss": 0.5}, 5).is_success
    work_off(federation)
    return kept(federation, settings, run.id, folder)


def kept(federation: Federation, settings: Settings, run_id: UUID, folder: Path) -> Played:
    """Fetch everything of a run into a bundle."""
    slug = federation.slug
    with (
        hub_on_a_socket(settings) as address,
        HansaClient(address, federation.owner.token) as client,
    ):
        bundle = collect(client, slug, client.run(slug, run_id), folder)
        verify_bundle(
            bundle, Trust(), blobs=HubBlobs(client.receipts(slug, run_id), bundle, keep=True)
        )
        keys = {site.name: frozenset({site.fingerprint}) for site in client.sites(slug)}
        return Played(folder, client.hub().fingerprint, keys)


def stored(bundle: Bundle) -> list[Path]:
    return sorted((bundle.path / "receipts").iterdir())


def read(path: Path) -> Json:
    return json.loads(path.read_text())


def body_of(path: Path) -> Json:
    return json.loads(read(path)["body"])


def forge(bundle: Bundle, change: Callable[[list[Json]], object], key: bytes = HUB) -> None:
    """Change the receipts as the hub itself could: every digest, parent and signature is right."""
    paths = stored(bundle)
    bodies = [body_of(path) for path in paths]
    change(bodies)
    for path in paths:
        path.unlink()
    parent: str | None = None
    for number, fields in enumerate(bodies, start=1):
        fields |= {"number": number, "parent": parent}
        sealed = seal(Receipt.model_validate_json(json.dumps(fields)), key)
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


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def update_of(bundle: Bundle, receipt: int, site: str) -> Json:
    updates = body_of(stored(bundle)[receipt])["round"]["updates"]
    return next(update for update in updates if update["site"]["name"] == site)


def said(report: Report, check: Check, subject: str, message: str) -> bool:
    return any(
        found.check is check and subject in found.subject and message in found.message
        for found in report.wrong
    )


def test_an_honest_run_holds_in_every_check(played: Played) -> None:
    report = verify_bundle(Bundle(played.folder), played.trust)
    assert (report.wrong, report.unchecked) == ((), ())
    assert report.exit_code == 0
    assert report.receipts == RECEIPTS
    counted = 2 + 2 + 3
    assert report.holds == {
        Check.CHAIN: RECEIPTS,
        Check.DIGEST: RECEIPTS,
        Check.SIGNATURE: RECEIPTS,
        Check.HUB_KEY: 1,
        Check.PLAN: 1,
        Check.LINEAGE: ROUNDS + 1,
        Check.QUORUM: ROUNDS + 1,
        Check.MANIFEST: counted,
        Check.WEIGHT: counted,
        Check.SITE_KEY: len(NAMES),
        Check.FILE: counted + ROUNDS + 1,  # and every checkpoint, the base included
        Check.AGGREGATE: ROUNDS,
        Check.END: 1,
    }
    first, second = report.story[:2]
    assert "turku failed: out of memory" in first
    assert "recomputed bit for bit" in first
    assert "turku late" in second
    assert report.head == read(max((played.folder / "receipts").iterdir()))["digest"]


def test_what_was_not_pinned_is_said_and_not_believed(played: Played) -> None:
    report = verify_bundle(Bundle(played.folder), Trust())
    assert report.exit_code == 2
    assert [found.check for found in report.unchecked] == [Check.HUB_KEY, *[Check.SITE_KEY] * 3]
    assert played.hub_key in report.unchecked[0].message
    other = Trust(frozenset({"another"}), {"oslo": frozenset({"another"})})
    wrong = verify_bundle(Bundle(played.folder), other)
    assert said(wrong, Check.HUB_KEY, "the hub", "pinned: another")
    assert said(wrong, Check.SITE_KEY, "site oslo", "pinned: another")


def flip_an_update(bundle: Bundle) -> None:
    flip(bundle.blob_path(update_of(bundle, 1, "oslo")["digest"]), -3)


def flip_a_checkpoint(bundle: Bundle) -> None:
    made = body_of(stored(bundle)[1])["round"]["aggregate"]["checkpoint"]
    flip(bundle.blob_path(made["digest"]), -3)


def flip_a_body(bundle: Bundle) -> None:
    path = stored(bundle)[1]
    told = read(path)
    told["body"] = told["body"].replace('"num_examples":8', '"num_examples":9')
    path.write_text(json.dumps(told))


def reorder(bundle: Bundle) -> None:
    second, third = stored(bundle)[1:3]
    kept = second.read_bytes()
    second.write_bytes(third.read_bytes())
    third.write_bytes(kept)


def drop_the_middle(bundle: Bundle) -> None:
    stored(bundle)[2].unlink()


def drop_the_first(bundle: Bundle) -> None:
    stored(bundle)[0].unlink()


def drop_the_end(bundle: Bundle) -> None:
    stored(bundle)[-1].unlink()


def swap_signatures(bundle: Bundle) -> None:
    second, third = stored(bundle)[1:3]
    told, other = read(second), read(third)
    second.write_text(json.dumps(told | {"signature": other["signature"]}))


def another_hub(bundle: Bundle) -> None:
    forge(bundle, lambda bodies: None, STRANGER)


def sign_with_another_key(bundle: Bundle) -> None:
    path = stored(bundle)[1]
    told = read(path)
    told["signature"] = encode_base64(sign(STRANGER, Purpose.RECEIPT, told["body"].encode()))
    told["public_key"] = encode_base64(public_key(STRANGER))
    path.write_text(json.dumps(told))


def change_a_weight(bundle: Bundle) -> None:
    def change(bodies: list[Json]) -> None:
        bodies[1]["round"]["updates"][0]["weight"] += 1

    forge(bundle, change)


def change_a_scale(bundle: Bundle) -> None:
    def change(bodies: list[Json]) -> None:
        bodies[1]["round"]["updates"][0]["scale"] = 0.5

    forge(bundle, change)


def claim_other_examples(bundle: Bundle) -> None:
    def change(bodies: list[Json]) -> None:
        bodies[1]["round"]["updates"][0] |= {"weight": 99, "num_examples": 99}

    forge(bundle, change)


def leave_an_update_out(bundle: Bundle) -> None:
    def change(bodies: list[Json]) -> None:
        bodies[2]["round"]["updates"].pop()

    forge(bundle, change)


def leave_a_round_out(bundle: Bundle) -> None:
    forge(bundle, lambda bodies: bodies.pop(1))


def raise_the_threshold(bundle: Bundle) -> None:
    def change(bodies: list[Json]) -> None:
        bodies[1]["round"]["threshold"] = 3

    forge(bundle, change)


def lower_the_threshold(bundle: Bundle) -> None:
    def change(bodies: list[Json]) -> None:
        bodies[1]["round"]["threshold"] = 1

    forge(bundle, change)


def count_a_site_twice(bundle: Bundle) -> None:
    def change(bodies: list[Json]) -> None:
        updates = bodies[1]["round"]["updates"]
        updates[1] = updates[0]

    forge(bundle, change)


def name_another_key_of_a_site(bundle: Bundle) -> None:
    def change(bodies: list[Json]) -> None:
        bodies[1]["round"]["updates"][0]["site"]["fingerprint"] = "aaaa-bbbb"

    forge(bundle, change)


def begin_elsewhere(bundle: Bundle) -> None:
    def change(bodies: list[Json]) -> None:
        bodies[1]["round"]["base"] = bodies[0]["round"]["base"]

    forge(bundle, change)


def claim_another_aggregate(bundle: Bundle) -> None:
    def change(bodies: list[Json]) -> None:
        bodies[1]["round"]["aggregate"]["checkpoint"] = bodies[0]["round"]["base"]

    forge(bundle, change)


def change_the_plan(bundle: Bundle) -> None:
    def change(bodies: list[Json]) -> None:
        bodies[0]["origin"]["plan"] = bodies[0]["origin"]["plan"].replace("tumor", "tumour")

    forge(bundle, change)


def claim_more_rounds(bundle: Bundle) -> None:
    def change(bodies: list[Json]) -> None:
        bodies[-1]["end"]["rounds_completed"] += 1

    forge(bundle, change)


def leave_another_model(bundle: Bundle) -> None:
    def change(bodies: list[Json]) -> None:
        bodies[-1]["end"]["checkpoint"] = bodies[0]["origin"]["checkpoint"]

    forge(bundle, change)


def go_on_after_the_end(bundle: Bundle) -> None:
    def change(bodies: list[Json]) -> None:
        bodies.append(bodies.pop(-2))

    forge(bundle, change)


def change_a_manifest(bundle: Bundle) -> None:
    path = bundle.path / "updates" / f"{update_of(bundle, 1, 'oslo')['task_id']}.json"
    told = read(path)
    told["manifest"] = told["manifest"].replace('"num_examples":8', '"num_examples":9')
    path.write_text(json.dumps(told | {"num_examples": 9}))


def forge_a_manifest(bundle: Bundle) -> None:
    path = bundle.path / "updates" / f"{update_of(bundle, 1, 'oslo')['task_id']}.json"
    told = read(path)
    manifest = canonical_json(json.loads(told["manifest"]) | {"num_examples": 9})
    told |= {
        "manifest": manifest.decode(),
        "num_examples": 9,
        "signature": encode_base64(sign(STRANGER, Purpose.UPDATE, manifest)),
        "public_key": encode_base64(public_key(STRANGER)),
    }
    path.write_text(json.dumps(told))


TAMPERINGS: dict[Callable[[Bundle], None], tuple[Check, str, str]] = {
    flip_an_update: (Check.FILE, "round 2), site oslo, its update", "wanted"),
    flip_a_checkpoint: (Check.FILE, "receipt 2 (round 2), its checkpoint", "wanted"),
    flip_a_body: (Check.DIGEST, "receipt 2 (round 2)", "the body has SHA-256"),
    reorder: (Check.CHAIN, "receipt 3 (round 3)", "it has number 3, wanted 2"),
    drop_the_middle: (Check.CHAIN, "receipt 4", "it has number 4, wanted 3"),
    drop_the_first: (Check.CHAIN, "receipt 2", "it has number 2, wanted 1"),
    drop_the_end: (Check.END, "after receipt 4", "the receipt of its end is missing"),
    swap_signatures: (Check.SIGNATURE, "receipt 2 (round 2)", "does not verify"),
    another_hub: (Check.SIGNATURE, "receipt 1 (round 1)", "it names the hub's key"),
    sign_with_another_key: (Check.SIGNATURE, "receipt 2", "it names the hub's key"),
    change_a_weight: (Check.AGGREGATE, "receipt 2 (round 2)", "the updates give"),
    change_a_scale: (Check.WEIGHT, "receipt 2 (round 2)", "scaled by 0.5 at staleness 0"),
    claim_other_examples: (Check.MANIFEST, "receipt 2 (round 2)", "the receipt says 99"),
    leave_an_update_out: (Check.AGGREGATE, "receipt 3 (round 3)", "the updates give"),
    leave_a_round_out: (Check.LINEAGE, "receipt 2 (round 3)", "wanted 2"),
    raise_the_threshold: (Check.QUORUM, "receipt 2", "completed with 2 answers, wanted 3"),
    lower_the_threshold: (Check.QUORUM, "receipt 2", "threshold is 1, the plan's min_sites 2"),
    count_a_site_twice: (Check.QUORUM, "receipt 2", "more than once"),
    name_another_key_of_a_site: (Check.MANIFEST, "receipt 2", "the key: signed"),
    begin_elsewhere: (Check.LINEAGE, "receipt 2 (round 2)", "the newest one was"),
    claim_another_aggregate: (Check.AGGREGATE, "receipt 2 (round 2)", "the updates give"),
    change_the_plan: (Check.PLAN, "receipt 1", "the receipts name"),
    claim_more_rounds: (Check.END, "the run's end", "it counts 4 completed rounds"),
    leave_another_model: (Check.END, "the run's end", "the newest is"),
    go_on_after_the_end: (Check.CHAIN, "receipt 5", "it comes after the run's end"),
    change_a_manifest: (Check.MANIFEST, "receipt 2 (round 2), site oslo", "does not verify"),
    forge_a_manifest: (Check.MANIFEST, "receipt 2 (round 2), site oslo", "fingerprint"),
}


@pytest.mark.parametrize("tamper", TAMPERINGS, ids=lambda tamper: tamper.__name__)
def test_tampering_is_caught_and_named(
    tamper: Callable[[Bundle], None], played: Played, copy: Bundle
) -> None:
    tamper(copy)
    report = verify_bundle(copy, played.trust)
    assert report.exit_code == 1
    assert said(report, *TAMPERINGS[tamper]), report.wrong


def test_a_changed_weight_is_also_not_what_was_signed(played: Played, copy: Bundle) -> None:
    change_a_weight(copy)
    report = verify_bundle(copy, played.trust)
    assert said(report, Check.WEIGHT, "receipt 2 (round 2)", "were signed")


def test_what_was_purged_is_told_apart_from_what_is_wrong(played: Played, copy: Bundle) -> None:
    digest = update_of(copy, 1, "oslo")["digest"]
    copy.blob_path(digest).unlink()
    copy.note_missing(digest, "deleted by the retention policy")
    report = verify_bundle(copy, played.trust)
    assert report.exit_code == 2
    file, aggregate = report.unchecked
    assert (file.check, aggregate.check) == (Check.FILE, Check.AGGREGATE)
    assert "deleted by the retention policy" in file.message
    assert "the update of oslo" in aggregate.message
    assert report.holds[Check.AGGREGATE] == ROUNDS - 1


def test_a_missing_manifest_is_not_counted_as_checked(played: Played, copy: Bundle) -> None:
    (copy.path / "updates" / f"{update_of(copy, 1, 'oslo')['task_id']}.json").unlink()
    report = verify_bundle(copy, played.trust)
    assert (report.exit_code, [found.check for found in report.unchecked]) == (
        2,
        [Check.MANIFEST],
    )


def test_an_unreadable_receipt_does_not_hide_what_comes_after_it(
    played: Played, copy: Bundle
) -> None:
    stored(copy)[1].write_text("{")
    change = copy.blob_path(update_of(copy, 2, "turku")["digest"])
    flip(change, -3)
    report = verify_bundle(copy, played.trust)
    assert said(report, Check.CHAIN, "receipt 2 (000002.json)", "cannot be read")
    assert said(report, Check.FILE, "receipt 3 (round 3), site turku", "wanted")


def test_a_run_that_goes_on_has_no_end_yet(played: Played, copy: Bundle) -> None:
    stored(copy)[-1].unlink()
    info = read(copy.info_path) | {"run_state": "running"}
    copy.info_path.write_text(json.dumps(info))
    report = verify_bundle(copy, played.trust)
    assert report.exit_code == 2
    assert [found.check for found in report.unchecked] == [Check.END]


def test_a_buffered_run_is_recomputed_with_what_staleness_left(
    client: TestClient, transactions: Transactions, settings: Settings, tmp_path: Path
) -> None:
    federation = a_federation(client, transactions, settings)
    fast, slow = sites_online(federation, "fast", "slow")
    a_model(federation)
    run = a_run(federation, rounds=2, cohort={"min_sites": 1}, buffer={"size": 2})
    work_off(federation)
    late = slow.claim()
    for seed in (1, 2):
        fast.answer(fast.claim(), a_delta(seed), num_examples=3)
        work_off(federation)
    slow.answer(late, a_delta(3), num_examples=5)
    fast.answer(fast.claim(), a_delta(4), num_examples=3)
    work_off(federation)
    played = kept(federation, settings, run.id, tmp_path / "buffered")
    bundle = Bundle(played.folder)
    stale = update_of(bundle, 1, "slow")
    assert (stale["staleness"], stale["weight"]) == (1, 5)
    assert stale["scale"] == pytest.approx(2**-0.5)
    report = verify_bundle(bundle, played.trust)
    assert (report.wrong, report.unchecked) == ((), ())
    assert report.holds[Check.AGGREGATE] == 2

    def forget_staleness(bodies: list[Json]) -> None:
        for update in bodies[1]["round"]["updates"]:
            update |= {"staleness": 0, "scale": 1.0}

    forge(bundle, forget_staleness)
    report = verify_bundle(bundle, played.trust)
    assert said(report, Check.MANIFEST, "receipt 2 (round 2), site slow", "the checkpoint: signed")
    assert said(report, Check.AGGREGATE, "receipt 2 (round 2)", "the updates give")


def test_a_round_that_was_held_again_is_part_of_the_chain(
    client: TestClient, transactions: Transactions, settings: Settings, tmp_path: Path
) -> None:
    federation = a_federation(client, transactions, settings)
    sites = sites_online(federation, "bergen", "oslo")
    a_model(federation)
    run = a_run(federation, cohort={"min_sites": 2, "retries": 1})
    work_off(federation)
    sites[0].answer(sites[0].claim(), a_delta(1))
    assert sites[1].fail(sites[1].claim(), "disk full").status_code == 204
    work_off(federation)
    for seed, site in enumerate(sites):
        site.answer(site.claim(), a_delta(seed))
    work_off(federation)
    played = kept(federation, settings, run.id, tmp_path / "again")
    report = verify_bundle(Bundle(played.folder), played.trust)
    assert (report.wrong, report.unchecked) == ((), ())
    assert "train failed" in report.story[0]
    assert "receipt 2 (round 1, retry 1): train completed" in report.story[1]
    assert report.holds[Check.AGGREGATE] == 1


def test_the_manifests_of_a_bundle_are_signed(played: Played) -> None:
    bundle = Bundle(played.folder)
    for path in stored(bundle):
        account = parse_body(read(path)["body"].encode()).round
        for update in account.updates if account else ():
            told = bundle.update(update.task_id)
            assert isinstance(told, wire.Update)
            assert check_update(told, run_id=bundle.info().run_id) is None


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The command line, with a configuration of its own."""
    for name in [name for name in os.environ if name.startswith("HANSA_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HANSA_CONFIG", str(tmp_path / "config" / "config.json"))

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["hansa", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        return int(caught.value.code or 0)

    return run


def site_options(played: Played) -> list[str]:
    pairs = [f"{name}={key}" for name, keys in played.site_keys.items() for key in keys]
    return [part for pair in pairs for part in ("--site-key", pair)]


def test_the_command_checks_a_bundle_offline(
    played: Played,
    copy: Bundle,
    command: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    verify = ("verify", "--bundle", str(copy.path))
    assert command(*verify) == 2
    assert "not checked: hub key" in capsys.readouterr().out
    pinned = (*verify, "--hub-key", played.hub_key, *site_options(played))
    assert command(*pinned) == 0
    assert "everything was checked, and holds" in capsys.readouterr().out
    flip_an_update(copy)
    assert command(*pinned, "--json") == 1
    report = Report.model_validate_json(capsys.readouterr().out)
    assert said(report, *TAMPERINGS[flip_an_update])
    assert command(*verify, "another-run") == 1
    assert "is a bundle of run first" in capsys.readouterr().err


def test_the_command_checks_a_run_at_its_hub_with_the_key_pinned_at_login(
    client: TestClient,
    transactions: Transactions,
    settings: Settings,
    tmp_path: Path,
    command: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    federation = a_federation(client, transactions, settings)
    sites = sites_online(federation, "bergen", "oslo")
    a_model(federation)
    a_run(federation)
    work_off(federation)
    for seed, site in enumerate(sites):
        site.answer(site.claim(), a_delta(seed))
    work_off(federation)
    with hub_on_a_socket(settings) as address:
        assert log_in(address, federation, command, monkeypatch, "--hub-key", "other") == 1
        assert "has the key" in capsys.readouterr().err
        assert log_in(address, federation, command, monkeypatch) == 0
        assert "pinned the hub's key" in capsys.readouterr().out
        keys = {site["name"]: site["fingerprint"] for site in federation.get("/sites")["items"]}
        options = [part for pair in keys.items() for part in ("--site-key", "=".join(pair))]
        assert command("verify", "first", *options) == 0
        assert "recomputed bit for bit" in capsys.readouterr().out
        kept_in = tmp_path / "kept"
        assert command("verify", "first", "--keep", str(kept_in), *options) == 0
        capsys.readouterr()
        digest = update_of(Bundle(kept_in), 0, "oslo")["digest"]
        (at_the_hub,) = (tmp_path / "artifacts").rglob(digest)
        at_the_hub.chmod(0o600)
        flip(at_the_hub, -3)
        assert command("verify", "first", *options) == 1
        assert f"wrong: {Check.FILE}: receipt 1 (round 1), site oslo" in capsys.readouterr().out
    assert command("verify", "--bundle", str(kept_in), *options) == 0  # the hub is gone
    capsys.readouterr()
    assert command("verify", "--bundle", str(kept_in), "--hub-key", "other", *options) == 1
    assert "wrong: hub key" in capsys.readouterr().out


def log_in(
    address: str,
    federation: Federation,
    command: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    *options: str,
) -> int:
    monkeypatch.setattr(sys, "stdin", io.StringIO(PASSWORD + "\n"))
    email = federation.owner.email
    return command("login", address, "--email", email, "--password-stdin", *options)
