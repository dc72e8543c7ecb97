"""A federation of a thousand sites and a run of five hundred rounds, written by SQL.

Nobody trained it: the rows are what real sites and workers would have written, but for the
signatures, which are random bytes, and the checkpoints, which are all the same artifact.
"""

import json
import random
import threading
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, LiteralString
from uuid import UUID, uuid4

import psycopg
from psycopg.types.json import Jsonb

from hansa.client import HansaClient
from hansa.journal import store_tensors
from hansa_core import signing, wire
from hansa_core.plans import parse_plan
from hansa_core.states import RoundKind, RoundState, SiteState, TaskState
from tests.console.database import connected
from tests.console.trainer import Config, trainer
from tests.e2e.processes import Stack

SLUG = "registry"
MODEL = "readmission"
SEED = 500
ROUND_SECONDS = 95.0
REGIONS = ("north", "east", "south", "west", "islands")
GIB = 2**30


@dataclass(frozen=True, slots=True)
class Scale:
    sites: int = 1000
    rounds: int = 500
    cohort: int = 50


@dataclass(frozen=True, slots=True)
class Registry:
    """What was written."""

    federation_id: UUID
    run_id: UUID
    online: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class _Member:
    """A site that can be asked."""

    id: UUID
    key_id: UUID
    name: str
    skill: float  # how much better than the others its model does
    examples: int


def fill(stack: Stack, client: HansaClient, folder: Path, scale: Scale) -> Registry:
    """Write the federation; takes some seconds."""
    federation = client.create_federation(
        wire.FederationCreate(
            slug=SLUG,
            name="National readmission registry",
            description="A thousand clinics predict who comes back within thirty days.",
        )
    )
    client.create_model(SLUG, MODEL, "Readmission within thirty days.")
    first = folder / "readmission.safetensors"
    store_tensors(first, trainer.initial_tensors(Config(hidden=64), SEED))
    base = client.upload_checkpoint(SLUG, MODEL, first)
    invitation = client.create_invitation(SLUG, wire.InvitationCreate(max_uses=scale.sites))
    run = client.create_run(SLUG, _plan(scale), start=False)
    rng = random.Random(SEED)  # noqa: S311
    with connected(stack) as database:
        now = datetime.now(UTC)
        members, online = _sites(database, federation.id, invitation.id, scale, now, rng)
        _history(database, run, base, members, scale, now, rng)
        database.execute("ANALYZE")
    return Registry(federation.id, run.id, tuple(online))


@contextmanager
def kept_alive(stack: Stack, registry: Registry, seconds: float) -> Generator[None]:
    """Note every so often that the sites that are online were just seen."""
    ended = threading.Event()

    def refresh() -> None:
        while not ended.wait(seconds):
            try:
                with connected(stack) as database:
                    database.execute(
                        "UPDATE sites SET last_seen_at = now() WHERE id = ANY(%s)",
                        (list(registry.online),),
                    )
            except (psycopg.OperationalError, KeyError):
                continue  # the hub is being started again

    thread = threading.Thread(target=refresh, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _plan(scale: Scale) -> Any:
    return parse_plan(
        {
            "name": "national",
            "model": MODEL,
            "seed": SEED,
            "rounds": scale.rounds,
            "cohort": {
                "min_sites": scale.cohort // 2,
                "choose": "random",
                "size": scale.cohort,
            },
            "deadlines": {"round_seconds": 600},
            "evaluation": {"every": 1, "final": False},
            "training": {"hidden": 64},
        }
    )


def _id(at: datetime) -> UUID:
    """Return a UUIDv7 of that time."""
    value = int(at.timestamp() * 1000) << 80 | (uuid4().int & ((1 << 76) - 1))
    value &= ~(0b11 << 62)
    return UUID(int=value | 0x7 << 76 | 0b10 << 62)


def _copy(
    database: psycopg.Connection,
    table: LiteralString,
    columns: LiteralString,
    rows: Iterable[Sequence[Any]],
) -> None:
    with (
        database.cursor() as cursor,
        cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy,
    ):
        for row in rows:
            copy.write_row(row)


def _sites(
    database: psycopg.Connection,
    federation_id: UUID,
    invitation_id: UUID,
    scale: Scale,
    now: datetime,
    rng: random.Random,
) -> tuple[list[_Member], list[UUID]]:
    """Write the sites: most at work, some in every other state. Return the active, and online."""
    members: list[_Member] = []
    online: list[UUID] = []
    rows: list[Sequence[Any]] = []
    keys: list[Sequence[Any]] = []
    for index in range(scale.sites):
        enrolled = now - timedelta(days=60) + timedelta(minutes=40 * index)
        place = rng.random()
        state = SiteState.ACTIVE
        if index >= scale.sites - scale.sites // 100:
            state, enrolled = SiteState.PENDING, now - timedelta(hours=scale.sites - index)
        elif place < 0.02:
            state = SiteState.SUSPENDED
        elif place < 0.03:
            state = SiteState.REVOKED
        site_id, key_id = _id(enrolled), _id(enrolled)
        name = f"clinic-{index + 1:04d}"
        is_away = state is not SiteState.ACTIVE or place > 0.988
        seen = now - timedelta(days=3 * rng.random() + 0.05) if is_away else now
        labels = {"region": rng.choice(REGIONS), "size": rng.choice(("small", "large"))}
        hardware = {
            "cpus": rng.choice((2, 4, 8, 16, 64)),
            "memory_bytes": rng.choice((4, 8, 16, 64, 256)) * GIB,
            "gpus": ["NVIDIA L4"] if rng.random() < 0.2 else [],
            "platform": "Linux-6.1-x86_64",
        }
        reason = {SiteState.SUSPENDED: "under review", SiteState.REVOKED: "left"}.get(state)
        rows.append(
            (
                site_id, federation_id, name, state.value, reason, Jsonb(labels), Jsonb(hardware),
                rng.choice(("0.1.0", "0.1.0", "0.0.9")), invitation_id, enrolled,
                None if state is SiteState.PENDING else enrolled + timedelta(hours=2), seen,
            )
        )  # fmt: skip
        public = signing.public_key(rng.randbytes(32))
        keys.append((key_id, site_id, public, signing.fingerprint(public), enrolled))
        if state is SiteState.ACTIVE:
            skill, examples = rng.gauss(0, 0.04), rng.randrange(200, 4000)
            members.append(_Member(site_id, key_id, name, skill, examples))
            if not is_away:
                online.append(site_id)
    columns: LiteralString = (
        "id, federation_id, name, state, state_reason, labels, hardware, sdk_version, "
        "invitation_id, enrolled_at, admitted_at, last_seen_at"
    )
    _copy(database, "sites", columns, rows)
    _copy(database, "site_keys", "id, site_id, public_key, fingerprint, created_at", keys)
    database.execute(
        "UPDATE invitations SET uses = max_uses, created_at = %s WHERE id = %s",
        (now - timedelta(days=61), invitation_id),
    )
    return members, online


def _history(
    database: psycopg.Connection,
    run: wire.Run,
    base: wire.Checkpoint,
    members: Sequence[_Member],
    scale: Scale,
    now: datetime,
    rng: random.Random,
) -> None:
    """Write every round of the run, as if it had ended an hour ago."""
    checkpoints: list[Sequence[Any]] = []
    rounds: list[Sequence[Any]] = []
    tasks: list[Sequence[Any]] = []
    updates: list[Sequence[Any]] = []
    metrics: list[Sequence[Any]] = []
    events: list[Sequence[Any]] = []
    begun = now - timedelta(hours=1, seconds=ROUND_SECONDS * scale.rounds)
    before = base.id
    for number in range(1, scale.rounds + 1):
        opened = begun + timedelta(seconds=ROUND_SECONDS * (number - 1))
        closed = opened + timedelta(seconds=ROUND_SECONDS * (0.7 + 0.25 * rng.random()))
        round_id, made = _id(opened), _id(closed)
        asked = rng.sample(members, scale.cohort)
        drawn = f"not drawn: {len(asked)} of {len(members)} eligible sites were asked"
        taken = {it.id for it in asked}
        excluded = [
            {"site": it.name, "reason": drawn, "drawn_against": True}
            for it in members
            if it.id not in taken
        ]
        rounds.append(
            (
                round_id, run.id, number, RoundKind.TRAIN.value, RoundState.COMPLETED.value,
                base.id, scale.cohort // 2, scale.cohort, len(members), Jsonb(excluded), True,
                opened + timedelta(seconds=600), 1, opened, closed,
            )
        )  # fmt: skip
        checkpoints.append(
            (made, run.federation_id, run.model_id, base.digest, before, run.id, round_id,
             number, closed)
        )  # fmt: skip
        done = _answers(run, base, asked, number, round_id, (opened, closed), tasks, updates, rng)
        _measure(run.id, number, done, metrics, scale, rng)
        told = {"round_number": number, "round_kind": "train", "sites": len(asked)}
        events.append((run.federation_id, run.id, "round.opened", Jsonb(told), opened))
        told = {"round_number": number, "digest": base.digest}
        events.append((run.federation_id, run.id, "round.completed", Jsonb(told), closed))
        before = made
    # Checkpoints and rounds name each other: rounds first, without their results.
    _copy(
        database,
        "rounds",
        "id, run_id, number, kind, state, base_checkpoint_id, threshold, target, population, "
        "excluded, evaluate, deadline_at, attempts, created_at, closed_at",
        rounds,
    )
    _copy(
        database,
        "checkpoints",
        "id, federation_id, model_id, digest, parent_id, run_id, round_id, round_number, "
        "created_at",
        checkpoints,
    )
    database.execute(
        "UPDATE rounds SET checkpoint_id = made.id, base_checkpoint_id = made.parent_id "
        "FROM checkpoints made WHERE made.round_id = rounds.id AND rounds.run_id = %s",
        (run.id,),
    )
    _copy(
        database,
        "tasks",
        "id, round_id, site_id, state, state_reason, attempts, created_at, claimed_at, finished_at",
        tasks,
    )
    _copy(
        database,
        "updates",
        "id, federation_id, round_id, task_id, site_id, key_id, digest, num_examples, manifest, "
        "signature, created_at",
        updates,
    )
    _copy(
        database,
        "metrics",
        "run_id, round_number, kind, name, site_id, value, num_examples",
        metrics,
    )
    _copy(database, "events", "federation_id, run_id, kind, data, at", events)
    seconds = ROUND_SECONDS * scale.rounds
    database.execute(
        "UPDATE runs SET state = 'completed', latest_checkpoint_id = %s, rounds_completed = %s, "
        "bytes_moved = %s, active_seconds = %s, created_at = %s, started_at = %s, finished_at = %s "
        "WHERE id = %s",
        (
            before, scale.rounds, 2 * base.size * len(tasks), seconds, begun, begun,
            begun + timedelta(seconds=seconds), run.id,
        ),
    )  # fmt: skip


def _answers(
    run: wire.Run,
    base: wire.Checkpoint,
    asked: Sequence[_Member],
    number: int,
    round_id: UUID,
    times: tuple[datetime, datetime],
    tasks: list[Sequence[Any]],
    updates: list[Sequence[Any]],
    rng: random.Random,
) -> list[_Member]:
    """Add the round's tasks and updates; return who answered."""
    opened, closed = times
    done: list[_Member] = []
    for site in asked:
        place = rng.random()
        state, reason = TaskState.DONE, None
        if place < 0.01:
            state, reason = TaskState.FAILED, "MemoryError: 3.2 GiB wanted, 0.4 GiB free"
        elif place < 0.03:
            state, reason = TaskState.LATE, "the round closed without it"
        claimed = opened + timedelta(seconds=5 * rng.random())
        finished = claimed + (closed - claimed) * (0.3 + 0.65 * rng.random())
        task_id = _id(opened)
        tasks.append(
            (task_id, round_id, site.id, state.value, reason, 1, opened, claimed, finished)
        )
        if state is not TaskState.DONE:
            continue
        done.append(site)
        manifest: dict[str, Any] = {
            "checkpoint_digest": base.digest,
            "digest": base.digest,
            "metrics": {},
            "num_examples": site.examples,
            "round_number": number,
            "run_id": str(run.id),
            "sdk_version": "0.1.0",
            "site_id": str(site.id),
            "size": base.size,
            "task_id": str(task_id),
        }
        text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
        updates.append(
            (
                _id(finished), run.federation_id, round_id, task_id, site.id, site.key_id,
                base.digest, site.examples, text, rng.randbytes(64), finished,
            )
        )  # fmt: skip
    return done


def _measure(
    run_id: UUID,
    number: int,
    done: Sequence[_Member],
    metrics: list[Sequence[Any]],
    scale: Scale,
    rng: random.Random,
) -> None:
    """Add what the sites measured, and its means: training of this round, evaluation of before."""
    progress = number / scale.rounds
    loss = 0.34 + 0.4 * 2 ** (-progress * 12)
    curves = (
        ("train", "loss", number, loss - 0.03, -1.0),
        ("eval", "loss", number - 1, loss, -1.0),
        ("eval", "accuracy", number - 1, 1.02 - loss, 1.0),
    )
    total = sum(site.examples for site in done)
    for kind, name, at, middle, sign in curves:
        mean = 0.0
        for site in done:
            value = middle + sign * site.skill + rng.gauss(0, 0.012)
            mean += value * site.examples / total
            metrics.append((run_id, at, kind, name, site.id, value, site.examples))
        metrics.append((run_id, at, kind, name, None, mean, total))
