"""The demo's story, told through commands and the REST API alone: what an operator, four
hospitals and a researcher do, one after the other.

Invariant: nothing here depends on time, on kills or on earlier demos but the federation's name;
the same seed and rounds give the same bytes. A hub that is away is waited out by the client.

Importing this imports torch, which takes seconds: the demo does so while the hub starts.
"""

import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.embedded import network
from app.embedded.processes import tail
from examples.demo import progress, report
from examples.demo.places import (
    ADMIN_EMAIL,
    HOST,
    HUB,
    TRAINER,
    Places,
    enroll_argv,
    for_people,
    site_spec,
)
from examples.demo.supervision import DemoError, Requests
from examples.heart_disease.data import SITES, prepare
from hansa.client import HansaClient
from hansa.identity import StateDir
from hansa.journal import store_tensors
from hansa.trainer import load_trainer, parse_config
from hansa.transport import RetryPolicy
from hansa_core import wire
from hansa_core.plans import RunPlan, parse_plan
from hansa_core.states import RunState

PATIENCE = RetryPolicy(attempts=90, max_delay_seconds=2.0)  # about three minutes without a hub
ENROLL_ATTEMPTS = 5
SLUG = "heart"


@dataclass(frozen=True, slots=True)
class Demo:
    """One demo, done by a thread that starts no lasting process itself."""

    places: Places
    port: int
    plan: RunPlan
    console: Console
    requests: Requests
    secure: bool = False  # hold the run again with secure aggregation, and compare

    def run(self) -> bool:
        """Do everything; return whether the run completed.

        Raises:
            DemoError, HansaError: a step failed.
            StoppedError: the demo was asked to stop.
        """
        self._prepare_hospitals()
        self.requests.until(lambda: network.answers_ready(HOST, self.port))
        self._say(
            f"The hub's console is at {self.address}/console/ for as long as this runs: sign in as "
            f"{ADMIN_EMAIL}, the password is in {for_people(self.places.password)}."
        )
        with self._signed_in() as client:
            federation = self._federate(client)
            self._upload_first_model(client, federation)
            first = client.model(federation, self.plan.model).latest_checkpoint_id
            plain = self._train(client, federation, self.plan, first)
            if plain is None:
                return False
            checkpoint = client.download_checkpoint(federation, plain, self.places.checkpoint)
            self.places.secure_checkpoint.unlink(missing_ok=True)
            if self.secure:
                secured = self._train(client, federation, _secured(self.plan), first)
                if secured is None:
                    return False
                client.download_checkpoint(federation, secured, self.places.secure_checkpoint)
        report.show_comparison(self.console, self.places, self.plan)
        report.show_whereabouts(
            self.console, self.places, self.port, federation, digest=checkpoint.digest
        )
        return True

    def _train(
        self, client: HansaClient, federation: str, plan: RunPlan, base: UUID | None
    ) -> UUID | None:
        """Run a plan and show how it goes; return its last checkpoint, None if it failed."""
        started = time.monotonic()
        run = client.create_run(federation, plan, checkpoint_id=base)
        how = "federated averaging"
        if plan.secure is not None:
            how += ", securely summed: the hub learns sums over hospitals alone"
        self._say(f"Run {run.name}: {plan.rounds} rounds of {how}.\n")
        watched = progress.follow(
            client,
            federation,
            run.id,
            console=self.console,
            pause=self.requests.pause,
            restarts=progress.Restarts(self.places.logs / f"{HUB}.log"),
        )
        self._say(f"\nThe run is {watched.state} after {time.monotonic() - started:.0f} s.\n")
        if watched.state is RunState.COMPLETED:
            return watched.latest_checkpoint_id
        self._say(f"{watched.state_reason}", style="red")
        return None

    @property
    def address(self) -> str:
        """The hub's address."""
        return network.address_of(HOST, self.port)

    def _prepare_hospitals(self) -> None:
        counts = prepare(self.places.hospitals, self.plan.seed)
        told = ", ".join(f"{SITES[site]} {sum(counts[site])}" for site in SITES)
        self._say(f"Patients by hospital, three in ten of them held out: {told}.")

    @contextmanager
    def _signed_in(self) -> Generator[HansaClient]:
        """Sign in with the password the hub made, for as long as the block lasts."""
        password = self.places.password.read_text().strip()
        with HansaClient(self.address, retry=PATIENCE, sleep=self.requests.pause) as anonymous:
            token = anonymous.login(ADMIN_EMAIL, password).token
        with HansaClient(self.address, token, retry=PATIENCE, sleep=self.requests.pause) as client:
            yield client

    def _federate(self, client: HansaClient) -> str:
        """Make a federation of the four hospitals; return its slug."""
        numbers = [
            int(number)
            for name, _, number in (it.slug.rpartition("-") for it in client.federations())
            if name == SLUG and number.isdecimal()
        ]
        slug = f"{SLUG}-{max(numbers, default=0) + 1}"
        client.create_federation(wire.FederationCreate(slug=slug, name="Four hospitals"))
        invitation = client.create_invitation(slug, wire.InvitationCreate(max_uses=len(SITES)))
        self._enroll(invitation.token)
        for site in SITES:
            self.requests.start(site_spec(self.places, site))
        self._approve(client, slug)
        return slug

    def _enroll(self, invitation: str) -> None:
        """Let each hospital make its key and redeem the invitation; repeating it is safe.

        Raises:
            DemoError: a hospital cannot.
        """
        missing = list(SITES)
        for _ in range(ENROLL_ATTEMPTS):
            children = [self._start_enrolling(site, invitation) for site in missing]
            try:
                for child in children:
                    self.requests.until(lambda child=child: child.poll() is not None)
            finally:
                for child in children:
                    with suppress(ProcessLookupError):
                        child.kill()
                    child.wait()
            missing = [site for site in missing if self._state(site).record() is None]
            if not missing:
                return
        log = self._enroll_log(missing[0])
        raise DemoError(f"{missing[0]} did not enroll; the end of {log}:\n{tail(log)}")

    def _start_enrolling(self, site: str, invitation: str) -> subprocess.Popen[bytes]:
        with self._enroll_log(site).open("ab") as log:
            return subprocess.Popen(  # noqa: S603 -- our own command
                enroll_argv(self.places, site, self.address, invitation),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the demo, which ends it
            )

    def _enroll_log(self, site: str) -> Path:
        return self.places.logs / f"enroll-{site}.log"

    def _state(self, site: str) -> StateDir:
        return StateDir(self.places.sites / site)

    def _approve(self, client: HansaClient, federation: str) -> None:
        """Approve each site, if the hub got the key that the hospital made.

        Raises:
            DemoError: it did not.
        """
        table = Table("hospital", "its own key's fingerprint", "the hub's", box=None)
        for site in client.sites(federation):
            own = self._state(site.name).identity().record.fingerprint
            if own != site.fingerprint:
                raise DemoError(f"{site.name}: the key is {own}, the hub has {site.fingerprint}")
            client.approve_site(federation, site.id)
            table.add_row(Text(site.name), Text(own), Text("the same: approved", style="green"))
        self._say(f"Federation {federation}: every hospital enrolled with a key of its own.")
        self.console.print(table)

    def _upload_first_model(self, client: HansaClient, federation: str) -> None:
        trainer = load_trainer(TRAINER)
        config = parse_config(trainer.config_type, self.plan.training)
        first = self.places.root / "heart-initial.safetensors"
        store_tensors(first, trainer.initial_tensors(config, self.plan.seed))
        model = client.create_model(federation, self.plan.model, "who has heart disease")
        client.upload_checkpoint(federation, model.id, first)
        first.unlink()

    def _say(self, text: str, style: str = "") -> None:
        self.console.print(Text(text, style=style), soft_wrap=True)


def _secured(plan: RunPlan) -> RunPlan:
    """Return the same plan with secure aggregation."""
    document = plan.model_dump(mode="json", exclude_defaults=True)
    secure = {"metrics": {"evaluation": list(progress.METRICS)}}
    return parse_plan({**document, "name": f"{plan.name}-secure", "secure": secure})
