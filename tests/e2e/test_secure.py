"""Secure runs with real processes that are killed: each sum is that of what sites put in."""

import hashlib
import random
import threading
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hansa.journal import load_tensors
from hansa_core import wire
from hansa_core.layouts import Layout
from hansa_core.receipts import SecureAccount, parse_body
from hansa_core.secagg.hub import Seeds
from hansa_core.secagg.messages import Roster, Transcript, parse
from hansa_core.secagg.rosters import vector_layout
from hansa_core.secagg.sums import (
    MaskedFile,
    SumJob,
    segments,
    totals_of,
    write_heads,
    write_means,
)
from hansa_core.states import RoundKind, RoundState, RunState, TaskState
from hansa_core.tensors import bytes_reader, read_header
from tests.e2e.conftest import NewFederation
from tests.e2e.federations import MODEL, Federation, plan
from tests.e2e.processes import Stack

WATCHED = "tests.e2e.watched_trainer:trainer"
SITES = tuple(f"site-{index}" for index in range(10))
ROUNDS = 4
SECONDS = 400.0  # of a run of ten sites on a loaded machine; half a minute on an idle one


def secure_plan(**changes: Any) -> Any:
    document: Mapping[str, Any] = {
        "name": "hidden",
        "rounds": ROUNDS,
        "cohort": {"min_sites": 7, "retries": 5},
        "deadlines": {"round_seconds": 30},
        "training": {"steps": 40},
        "secure": {"setup_seconds": 60, "metrics": {"evaluation": ["loss"]}},
    }
    return plan(**{**document, **changes})


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where sites keep their words, a folder each."""
    return tmp_path_factory.mktemp("words")


@pytest.fixture(scope="module")
def ten(new_federation: NewFederation, words: Path) -> Generator[Federation]:
    """A federation of ten sites at work, whose words are kept."""
    federation = new_federation()
    for name in SITES:
        site = federation.enroll(name, HANSA_E2E_WORDS=str(words / name))
        site.trainer = WATCHED
        site.start()
    yield federation
    federation.close()


def sums_of(federation: Federation, run: wire.Run) -> list[tuple[RoundKind, SecureAccount]]:
    """Return the secure sums that the run's receipts name, in order."""
    found: list[tuple[RoundKind, SecureAccount]] = []
    for receipt in federation.client.receipts(federation.slug, run.id):
        account = parse_body(receipt.body.encode()).round
        if account is not None and account.state is RoundState.COMPLETED:
            assert account.secure is not None
            found.append((account.kind, account.secure))
    return found


def require_exact(federation: Federation, secure: SecureAccount, words: Path) -> None:
    """Check a round's mean delta against the words that its survivors put in."""
    client = federation.client
    roster = parse(Roster, client.roster(secure.roster).body.encode(), digest=secure.roster)
    assert secure.transcript is not None
    assert secure.summed is not None
    file = words / "transcript"
    receipts = client.receipts(federation.slug, roster.run_id)
    receipts.download(secure.transcript.digest, file, size=secure.transcript.size)
    transcript = parse(Transcript, file.read_bytes(), digest=secure.transcript.digest)
    first = federation.folder / "first.safetensors"
    layout: Layout = read_header(bytes_reader(first.read_bytes())).layout
    vector = vector_layout(
        roster.terms,
        layout,
        {},
        sites=len(transcript.header.participants),
        kind=RoundKind.TRAIN,
    )
    kept = [
        np.load(words / roster.members[it].site_name / f"{secure.round}.npy")
        for it in transcript.survivors
    ]
    job = SumJob(
        vector=vector,
        terms=roster.terms,
        ranges=transcript.ranges,
        files=tuple(MaskedFile(bytes_reader(it.tobytes()), 0) for it in kept),
        seeds=Seeds((), (), (), ()),  # nothing is masked
    )
    totals = totals_of(job)
    assert totals.updates == len(secure.survivors)
    assert totals.weight == 60 * len(secure.survivors)
    hasher = hashlib.sha256()
    write_heads(vector, {None: hasher.update})
    write_means(job, totals, segments(vector), {None: hasher.update})
    assert hasher.hexdigest() == secure.summed.digest


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_sums_are_exact_whatever_is_killed(
    stack: Stack, ten: Federation, words: Path, seed: int
) -> None:
    """A worker, the hub and two of ten sites are killed at moments that nobody chose."""
    ten.until_online(*SITES)
    rng = random.Random(seed)  # noqa: S311 -- moments, no secrets
    run_id = ten.client.create_run(ten.slug, secure_plan()).id
    victims = ["worker", "hub", *rng.sample(SITES, 2)]
    rng.shuffle(victims)
    for victim in victims:
        threading.Event().wait(rng.uniform(0.2, 4.0))
        if victim in ten.sites:
            ten.sites[victim].kill()
            threading.Event().wait(rng.uniform(0.1, 1.5))
            ten.sites[victim].start()
        else:
            stack.kill(victim)
    run = ten.until_ended(run_id, seconds=SECONDS)
    assert run.state is RunState.COMPLETED, run.state_reason
    trained = [secure for kind, secure in sums_of(ten, run) if kind is RoundKind.TRAIN]
    assert len(trained) == ROUNDS
    for secure in trained:
        require_exact(ten, secure, words)
    ten.cli("verify", run.name, "--federation", ten.slug, expect=2)  # no key is pinned


@pytest.mark.slow
def test_a_round_goes_on_without_a_third_of_its_sites(ten: Federation, words: Path) -> None:
    """Three of ten die in the middle of a round and stay away."""
    ten.until_online(*SITES)
    run_id = ten.client.create_run(ten.slug, secure_plan(rounds=2, training={"steps": 300})).id
    ten.until_training(run_id, 1, *SITES)
    gone = ("site-2", "site-5", "site-9")
    for name in gone:
        ten.sites[name].kill()
    run = ten.until_ended(run_id, seconds=SECONDS)
    for name in gone:
        ten.sites[name].start()
    assert run.state is RunState.COMPLETED, run.state_reason
    first = ten.client.round(ten.slug, run_id, 1)
    late = {task.site_name for task in first.tasks if task.state is not TaskState.DONE}
    assert late == set(gone)
    for kind, secure in sums_of(ten, run):
        if kind is RoundKind.TRAIN:
            require_exact(ten, secure, words)


@pytest.mark.slow
def test_a_secure_run_learns_what_a_plain_one_does(ten: Federation) -> None:
    """The same model within what quantising rounds away, and nothing of a single site told."""
    ten.until_online(*SITES)
    base = ten.client.model(ten.slug, MODEL).latest_checkpoint_id
    plans = {name: secure_plan(name=name) for name in ("plain", "hidden")}
    plans["plain"] = plans["plain"].model_copy(update={"secure": None})
    models: dict[str, Any] = {}
    for name, document in plans.items():
        run = ten.client.create_run(ten.slug, document, checkpoint_id=base)
        ended = ten.until_ended(run.id, seconds=SECONDS)
        assert ended.state is RunState.COMPLETED, ended.state_reason
        path = ten.folder / f"{name}.safetensors"
        ten.client.download_checkpoint(ten.slug, ended.latest_checkpoint_id, path)
        models[name] = load_tensors(path)["weight"]
        points = list(ten.client.metrics(ten.slug, run.id))
        alone = [point for point in points if point.site_id is not None]
        assert bool(alone) == (name == "plain")
        assert any(point.site_id is None and point.kind == "eval" for point in points)
        updates = list(ten.client.updates(ten.slug, run.id))
        assert {it.num_examples for it in updates} == ({60} if name == "plain" else {1})
    assert np.allclose(models["plain"], models["hidden"], atol=2e-3)
