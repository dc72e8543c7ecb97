"""A federation of hospitals that has seen some life: sites in every state, runs of every kind."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from hansa.client import HansaClient
from hansa.identity import open_state_dir
from hansa.journal import store_tensors
from hansa.site import enroll
from hansa_core import wire
from hansa_core.plans import RunPlan, parse_plan
from hansa_core.states import Role, RunState, Scope
from tests.console.database import miss
from tests.console.trainer import Config, trainer
from tests.e2e.federations import Federation
from tests.e2e.processes import Cli, Site, Stack, until

SLUG = "heart"
MODEL = "heart-disease"
TRAINER = "tests.console.trainer:trainer"
SEED = 7
PASSWORD = "a passphrase for the stage"  # noqa: S105
STUDY = {"study": "heart-2026"}
HOSPITALS: Mapping[str, Mapping[str, str]] = {
    "cleveland": {"region": "america", **STUDY},
    "hungary": {"region": "europe", **STUDY},
    "switzerland": {"region": "europe", **STUDY},
    "va": {"region": "america", **STUDY},
}
GONE = "uppsala"  # its machine died
PEOPLE: Mapping[Role, tuple[str, str]] = {
    Role.OWNER: ("ines.okafor@heart.example", "Ines Okafor"),
    Role.OPERATOR: ("omar.haddad@heart.example", "Omar Haddad"),
    Role.RESEARCHER: ("rosa.lindqvist@heart.example", "Rosa Lindqvist"),
    Role.AUDITOR: ("aldo.moretti@heart.example", "Aldo Moretti"),
}


@dataclass(frozen=True, slots=True)
class Pace:
    """How much the federation lives through, and how slowly."""

    rounds: int = 12  # of the finished run
    rounds_now: int = 600  # of the run that is going on
    seconds_now: float = 6.0  # of its rounds, about


@dataclass(slots=True)
class Heart:
    """The federation, and the ids of what tests and pictures look at."""

    federation: Federation
    runs: dict[str, UUID] = field(default_factory=dict[str, UUID])

    @property
    def client(self) -> HansaClient:
        return self.federation.client

    @property
    def sites(self) -> dict[str, Site]:
        return self.federation.sites


def a_plan(name: str, **changes: Any) -> RunPlan:
    """Return a plan of the hospitals, changed."""
    document: dict[str, Any] = {
        "name": name,
        "model": MODEL,
        "seed": SEED,
        "rounds": 3,
        "cohort": {"min_sites": len(HOSPITALS)},
        "deadlines": {"round_seconds": 300},
        "training": {"learning_rate": 0.3},
    }
    return parse_plan({**document, **changes})


def found(stack: Stack, folder: Path) -> Heart:
    """Found the federation and its model, with people of every role."""
    client = stack.login()
    client.create_federation(
        wire.FederationCreate(
            slug=SLUG,
            name="Heart disease, four hospitals",
            description="Predicts heart disease from thirteen measurements. "
            "No patient leaves a hospital.",
        )
    )
    client.create_model(SLUG, MODEL, "Thirteen features, sixteen hidden units, one logit.")
    first = folder / "first.safetensors"
    store_tensors(first, trainer.initial_tensors(Config(), SEED))
    client.upload_checkpoint(SLUG, MODEL, first)
    for role, (email, name) in PEOPLE.items():
        client.create_user(wire.UserCreate(email=email, name=name, password=PASSWORD))  # pyright: ignore[reportArgumentType]
        client.set_member(SLUG, email, role)
    client.create_token("nightly export", [Scope.READ])
    client.create_token("notebook", [Scope.READ, Scope.RUNS], expires_days=30)
    cli = Cli(folder / "config.json")
    return Heart(Federation(stack, client, cli, SLUG, folder))


def enrol(heart: Heart) -> None:
    """Enrol the hospitals that work, and sites in every other state."""
    client, federation = heart.client, heart.federation
    for name, labels in {**HOSPITALS, GONE: {"region": "europe", **STUDY}}.items():
        join(heart, name, labels)
    for name in ("leipzig", "basel", "zurich"):
        _enrolled(heart, name, {"region": "europe"})
    basel, zurich = (federation.site_id(name) for name in ("basel", "zurich"))
    client.approve_site(SLUG, basel, "fingerprint compared by phone")
    client.suspend_site(SLUG, basel, "its ethics approval is being renewed")
    client.revoke_site(SLUG, zurich, "the hospital left the consortium")
    client.create_invitation(SLUG, wire.InvitationCreate(max_uses=5, labels={"region": "asia"}))
    federation.until_online(*HOSPITALS, GONE)


def live_through(heart: Heart, pace: Pace) -> None:
    """Hold the runs that are over; one site's machine dies on the way."""
    client = heart.client
    first = _held(heart, a_plan("baseline", rounds=pace.rounds))
    heart.sites[GONE].kill()
    miss(heart.federation.stack, heart.federation.site_id(GONE))
    heart.runs["gentle-steps"] = client.fork_run(
        SLUG,
        first.id,
        "gentle-steps",
        round_number=pace.rounds // 2,
        changes={"training": {"learning_rate": 0.05}, "rounds": pace.rounds // 2 + 2},
    ).id
    heart.federation.until_ended(heart.runs["gentle-steps"])
    _held(heart, a_plan("complete-cases", training={"drop_missing": True}))
    _held(
        heart,
        a_plan(
            "masked",
            rounds=3,
            deadlines={"round_seconds": 60},
            secure={"setup_seconds": 30, "metrics": {"evaluation": ["loss", "accuracy"]}},
        ),
    )
    _held(
        heart,
        a_plan("stratified", cohort={
            "min_sites": 2, "choose": "stratified", "size": 2, "stratify_by": "region",
        }),
    )  # fmt: skip
    _pause(heart, a_plan("wide-net", rounds=40, training={"learning_rate": 0.6}))
    draft = client.create_run(SLUG, a_plan("next-quarter", rounds=100), start=False)
    heart.runs["next-quarter"] = draft.id


def begin(heart: Heart, pace: Pace) -> None:
    """Start the run that goes on while somebody looks."""
    plan = a_plan(
        "longitudinal",
        rounds=pace.rounds_now,
        cohort={"min_sites": 3, "retries": 5, "labels": STUDY},
        training={"learning_rate": 0.03, "pace_seconds": pace.seconds_now},
    )
    baseline = heart.client.run(SLUG, heart.runs["baseline"])
    heart.runs["longitudinal"] = heart.client.create_run(
        SLUG, plan, checkpoint_id=baseline.base_checkpoint_id
    ).id
    heart.federation.until_training(heart.runs["longitudinal"], 1)


def channels(heart: Heart, receiver_url: str, broken_url: str) -> None:
    """Send events to a webhook that takes them, and to one that does not answer."""
    notices = heart.client.notices(SLUG)
    for url in (f"{receiver_url}/hansa/heart", broken_url):
        notices.create_channel(
            wire.ChannelCreate(kind=wire.ChannelKind.WEBHOOK, target=url, events=["alert.*"])
        )


def join(heart: Heart, name: str, labels: Mapping[str, str]) -> Site:
    """Enrol a site, approve it and let it work."""
    site = _enrolled(heart, name, labels)
    site_id = heart.federation.site_id(name)
    heart.client.approve_site(SLUG, site_id, "fingerprint compared by phone")
    site.start()
    return site


def _enrolled(heart: Heart, name: str, labels: Mapping[str, str]) -> Site:
    """Redeem an invitation as `hansa site enroll` does, without the time that a command takes."""
    federation = heart.federation
    site = Site(name, federation.folder, {"HANSA_STAGE_HOSPITAL": name}, trainer=TRAINER)
    token = heart.client.create_invitation(SLUG).token
    state = open_state_dir(site.state_dir, create=True)
    with state.locked():
        enroll(state, federation.stack.address, token, name=name, labels=labels)
    federation.sites[name] = site
    return site


def _held(heart: Heart, plan: RunPlan) -> wire.Run:
    run = heart.client.create_run(SLUG, plan)
    heart.runs[plan.name] = run.id
    return heart.federation.until_ended(run.id)


def _pause(heart: Heart, plan: RunPlan) -> None:
    client = heart.client
    run = client.create_run(SLUG, plan)
    heart.runs[plan.name] = run.id
    until(lambda: client.run(SLUG, run.id).rounds_completed >= 3, "three rounds")
    client.pause_run(SLUG, run.id)
    until(lambda: client.run(SLUG, run.id).state is RunState.PAUSED, "a paused run")
