"""A federation under test, made through the REST API, with sites that are real processes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from hansa.client import ENDED, HansaClient
from hansa.identity import Identity, StateDir
from hansa.journal import store_tensors
from hansa_core import wire
from hansa_core.plans import RunPlan, parse_plan
from hansa_core.states import RoundKind, RoundState, TaskState
from tests.e2e.numpy_trainer import Config, trainer
from tests.e2e.processes import LONG_SECONDS, Cli, Site, Stack, until

SEED = 11
MODEL = "line"
NAMES = ("alpha", "beta", "gamma")
ROUNDS = 6


def plan(**changes: Any) -> RunPlan:
    """Return the plan of the fault tests, changed."""
    document: Mapping[str, Any] = {
        "name": "fit",
        "model": MODEL,
        "seed": SEED,
        "rounds": ROUNDS,
        "cohort": {"min_sites": len(NAMES)},
        "deadlines": {"round_seconds": 600},
        "training": {"steps": 60},
    }
    return parse_plan({**document, **changes})


@dataclass(slots=True)
class Federation:
    """One federation with a model, as its owner sees it."""

    stack: Stack
    client: HansaClient
    cli: Cli
    slug: str
    folder: Path
    sites: dict[str, Site] = field(default_factory=dict[str, Site])

    @classmethod
    def create(
        cls, stack: Stack, cli: Cli, slug: str, folder: Path, *, requires_approval: bool = False
    ) -> "Federation":
        """Make a federation and the model that every test starts from."""
        client = stack.login()
        client.create_federation(
            wire.FederationCreate(slug=slug, name=slug, requires_approval=requires_approval)
        )
        client.create_model(slug, MODEL)
        first = folder / "first.safetensors"
        store_tensors(first, trainer.initial_tensors(Config(), SEED))
        client.upload_checkpoint(slug, MODEL, first)
        return cls(stack, client, cli, slug, folder)

    def enroll(self, name: str, **env: str) -> Site:
        """Enroll a site with the real command; it does not run yet."""
        data = str(len(self.sites) + 1)
        site = Site(name, self.folder, {"HANSA_E2E_DATA": data, **env})
        token = self.client.create_invitation(self.slug).token
        state_dir = ("--state-dir", str(site.state_dir))
        self.cli("site", "enroll", self.stack.address, token, "--name", name, *state_dir)
        self.sites[name] = site
        return site

    def enroll_three(self) -> None:
        """Enroll the fault tests' sites and start them."""
        for name in NAMES:
            self.enroll(name).start()

    def site_id(self, name: str) -> UUID:
        return self.identity(name).record.site_id

    def identity(self, name: str) -> Identity:
        return StateDir(self.sites[name].state_dir).identity()

    def until_online(self, *names: str) -> None:
        """Wait until the hub has heard of these sites."""

        def are_online() -> bool:
            online = {site.name for site in self.client.sites(self.slug) if site.online}
            return online.issuperset(names)

        until(are_online, f"{names} online")

    def until_training(self, run_id: UUID, number: int, *names: str) -> None:
        """Wait until these sites, or any one of all, work on that round."""

        def is_claimed() -> bool:
            run = self.client.run(self.slug, run_id)
            assert run.state not in ENDED, f"the run is {run.state} before its round {number}"
            numbers = [item.number for item in self.client.rounds(self.slug, run_id)]
            if number not in numbers:
                return False
            tasks = self.client.round(self.slug, run_id, number).tasks
            working = {task.site_name for task in tasks if task.state is TaskState.CLAIMED}
            passed = not names and max(numbers) > number  # between two looks
            return passed or (working.issuperset(names) and bool(working))

        until(is_claimed, f"{names or 'a site'} at work on round {number}")

    def until_ended(self, run_id: UUID, *, seconds: float = LONG_SECONDS) -> wire.Run:
        """Wait for the run's end and return it."""
        until(
            lambda: self.client.run(self.slug, run_id).state in ENDED,
            "the run's end",
            seconds=seconds,
        )
        return self.client.run(self.slug, run_id)

    def digest_of(self, run: wire.Run) -> str:
        return self.client.checkpoint(self.slug, run.latest_checkpoint_id).digest

    def require_counted_once(self, run: wire.Run) -> None:
        """Check that every round made one checkpoint, out of one update of every site."""
        rounds = list(self.client.rounds(self.slug, run.id))
        trained = [item for item in rounds if item.kind is RoundKind.TRAIN]
        assert [item.number for item in trained] == list(range(1, run.plan.rounds + 1))
        everybody = {self.site_id(name) for name in NAMES}
        for item in trained:
            assert item.state is RoundState.COMPLETED
            detail = self.client.round(self.slug, run.id, item.number)
            assert [task.state for task in detail.tasks] == [TaskState.DONE] * len(NAMES)
            updates = list(self.client.updates(self.slug, run.id, round_number=item.number))
            assert len(updates) == len(NAMES)
            assert {update.site_id for update in updates} == everybody
        made = [
            checkpoint.round_number
            for checkpoint in self.client.checkpoints(self.slug, MODEL)
            if checkpoint.run_id == run.id
        ]
        assert sorted(number for number in made if number) == list(range(1, run.plan.rounds + 1))

    def close(self) -> None:
        """Stop the sites."""
        for site in self.sites.values():
            site.stop()
        self.client.close()
