"""The people's client: what researchers, operators and administrators do with a hub from Python.

    with HansaClient("https://hub.example", token) as hub:
        run = hub.create_run("heart", plan)
        for event in hub.watch("heart", run.id):
            print(event.kind)

Invariants: messages are hansa_core.wire's, used verbatim; every create carries an idempotency
key, so that a repeated one creates nothing twice; listings are iterators that fetch pages as they
are consumed; a downloaded file exists only with the digest it should have.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self
from uuid import UUID

from pydantic import JsonValue, SecretStr

from hansa.audits import AuditLog
from hansa.calls import Calls, within
from hansa.checkpoints import fetch_checkpoint, send_checkpoint
from hansa.events import EventLog
from hansa.notices import Notices
from hansa.receipts import ReceiptLog
from hansa.transfers import OnBytes, TransferOptions
from hansa.transport import FixedToken, RetryPolicy, Transport
from hansa_core import wire
from hansa_core.plans import RunPlan
from hansa_core.states import Role, RunState, Scope, SiteState

ENDED = frozenset({RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED})
ENDINGS = frozenset(f"run.{state}" for state in ENDED)  # the kinds of a run's last event


class HansaClient:
    """One hub, as the owner of `token`. Every method raises HansaError. Safe between threads."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        retry: RetryPolicy | None = None,
        timeout_seconds: float = 30.0,
        sleep: Callable[[float], object] = time.sleep,
        transfers: TransferOptions | None = None,
    ) -> None:
        self._transport = Transport(
            url, FixedToken(token), retry=retry, timeout_seconds=timeout_seconds, sleep=sleep
        )
        self._calls = Calls(self._transport)
        self._transfers = transfers or TransferOptions()

    @property
    def url(self) -> str:
        """The hub's address."""
        return self._transport.url

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def hub(self) -> wire.Hub:
        """Return who the hub says it is; no token is needed."""
        return self._calls.get("/v1/hub", wire.Hub)

    # Sessions, tokens and users

    def login(self, email: str, password: str) -> wire.Session:
        """Return a session; its token makes a client that acts as this person."""
        message = wire.Login(email=email, password=SecretStr(password))
        return self._calls.post("/v1/session", wire.Session, message)

    def logout(self) -> None:
        """End the session that this client's token belongs to."""
        self._calls.delete("/v1/session")

    def me(self) -> wire.User:
        """Return whom the token belongs to."""
        return self._calls.get("/v1/session", wire.User)

    def tokens(self) -> Iterator[wire.ApiToken]:
        """Yield my API tokens."""
        return self._calls.pages("/v1/tokens", wire.ApiToken)

    def create_token(
        self, name: str, scopes: list[Scope], *, expires_days: float = 90
    ) -> wire.NewApiToken:
        """Return a new API token of mine; the secret is shown this once."""
        message = wire.ApiTokenCreate(name=name, scopes=scopes, expires_days=expires_days)
        return self._calls.post("/v1/tokens", wire.NewApiToken, message)

    def delete_token(self, token_id: UUID) -> None:
        """Make one of my API tokens useless."""
        self._calls.delete(f"/v1/tokens/{token_id}")

    def users(self) -> Iterator[wire.User]:
        """Yield everybody; for administrators."""
        return self._calls.pages("/v1/users", wire.User)

    def user(self, user_id: UUID) -> wire.User:
        """Return one person."""
        return self._calls.get(f"/v1/users/{user_id}", wire.User)

    def create_user(self, message: wire.UserCreate) -> wire.User:
        """Create a person; for administrators."""
        return self._calls.post("/v1/users", wire.User, message)

    def change_user(self, user_id: UUID, change: wire.UserChange) -> wire.User:
        """Change the fields of a person that `change` sets."""
        return self._calls.patch(f"/v1/users/{user_id}", wire.User, change)

    # Federations, members and sites

    def federations(self) -> Iterator[wire.Federation]:
        """Yield the federations that I may see."""
        return self._calls.pages("/v1/federations", wire.Federation)

    def federation(self, federation: str) -> wire.Federation:
        """Return a federation by its slug or id."""
        return self._calls.get(within(federation), wire.Federation)

    def create_federation(self, message: wire.FederationCreate) -> wire.Federation:
        """Create a federation; for administrators."""
        return self._calls.post("/v1/federations", wire.Federation, message)

    def change_federation(self, federation: str, change: wire.FederationChange) -> wire.Federation:
        """Change the fields of a federation that `change` sets."""
        return self._calls.patch(within(federation), wire.Federation, change)

    def preview_retention(
        self, federation: str, policy: wire.Retention | None = None
    ) -> wire.RetentionPreview:
        """Return what a policy, by default the one in force, would delete now."""
        path = within(federation, "retention", "preview")
        return self._calls.post(path, wire.RetentionPreview, policy)

    def members(self, federation: str) -> Iterator[wire.Member]:
        """Yield who may do what in a federation."""
        return self._calls.pages(within(federation, "members"), wire.Member)

    def set_member(self, federation: str, person: str | UUID, role: Role) -> wire.Member:
        """Give a person, by id or email address, a role in a federation."""
        path = within(federation, "members", person)
        return self._transport.call("PUT", path, wire.Member, body=wire.MemberChange(role=role))

    def remove_member(self, federation: str, person: str | UUID) -> None:
        """Take a person's role in a federation away."""
        self._calls.delete(within(federation, "members", person))

    def invitations(self, federation: str) -> Iterator[wire.Invitation]:
        """Yield a federation's invitations."""
        return self._calls.pages(within(federation, "invitations"), wire.Invitation)

    def create_invitation(
        self, federation: str, message: wire.InvitationCreate | None = None
    ) -> wire.NewInvitation:
        """Invite sites; the secret is shown this once."""
        path = within(federation, "invitations")
        return self._calls.post(path, wire.NewInvitation, message or wire.InvitationCreate())

    def revoke_invitation(self, federation: str, invitation_id: UUID) -> None:
        """Make an invitation useless."""
        self._calls.delete(within(federation, "invitations", invitation_id))

    def sites(
        self, federation: str, *, states: Sequence[SiteState] = (), online: bool | None = None
    ) -> Iterator[wire.Site]:
        """Yield a federation's sites: in these states if any, online or (False) not."""
        wanted = {"state": states, "online": online}
        return self._calls.pages(within(federation, "sites"), wire.Site, wanted)

    def site(self, federation: str, site_id: UUID) -> wire.Site:
        """Return one site."""
        return self._calls.get(within(federation, "sites", site_id), wire.Site)

    def approve_site(self, federation: str, site_id: UUID, reason: str = "") -> wire.Site:
        """Let a pending site take part, after comparing its fingerprint with its operator."""
        return self._change_site(federation, site_id, "approve", reason)

    def suspend_site(self, federation: str, site_id: UUID, reason: str = "") -> wire.Site:
        """Keep a site out until it is reinstated."""
        return self._change_site(federation, site_id, "suspend", reason)

    def reinstate_site(self, federation: str, site_id: UUID, reason: str = "") -> wire.Site:
        """Let a suspended site take part again."""
        return self._change_site(federation, site_id, "reinstate", reason)

    def revoke_site(self, federation: str, site_id: UUID, reason: str = "") -> wire.Site:
        """Keep a site out for ever."""
        return self._change_site(federation, site_id, "revoke", reason)

    def label_site(self, federation: str, site_id: UUID, labels: Mapping[str, str]) -> wire.Site:
        """Replace a site's labels."""
        path = within(federation, "sites", site_id, "labels")
        message = wire.SiteLabels(labels=dict(labels))
        return self._transport.call("PUT", path, wire.Site, body=message)

    # Models and checkpoints

    def models(self, federation: str) -> Iterator[wire.Model]:
        """Yield a federation's models."""
        return self._calls.pages(within(federation, "models"), wire.Model)

    def model(self, federation: str, model: str | UUID) -> wire.Model:
        """Return a model by its name or id."""
        return self._calls.get(within(federation, "models", model), wire.Model)

    def create_model(self, federation: str, name: str, description: str = "") -> wire.Model:
        """Create a model without a checkpoint; `upload_checkpoint` gives it one."""
        message = wire.ModelCreate(name=name, description=description)
        return self._calls.post(within(federation, "models"), wire.Model, message)

    def checkpoints(self, federation: str, model: str | UUID) -> Iterator[wire.Checkpoint]:
        """Yield a model's checkpoints, newest first."""
        return self._calls.pages(
            within(federation, "models", model, "checkpoints"), wire.Checkpoint
        )

    def checkpoint(self, federation: str, checkpoint_id: UUID) -> wire.Checkpoint:
        """Return what is known of a checkpoint."""
        return self._calls.get(within(federation, "checkpoints", checkpoint_id), wire.Checkpoint)

    def upload_checkpoint(
        self,
        federation: str,
        model: str | UUID,
        source: Path,
        *,
        parent_id: UUID | None = None,
        on_bytes: OnBytes | None = None,
    ) -> wire.Checkpoint:
        """Store a safetensors file as the model's newest checkpoint. Raises OSError too."""
        digest = send_checkpoint(
            self._transport, federation, source, options=self._transfers, on_bytes=on_bytes
        )
        message = wire.CheckpointCreate(digest=digest, parent_id=parent_id)
        return self._calls.post(
            within(federation, "models", model, "checkpoints"), wire.Checkpoint, message
        )

    def download_checkpoint(
        self,
        federation: str,
        checkpoint_id: UUID,
        target: Path,
        *,
        on_bytes: OnBytes | None = None,
    ) -> wire.Checkpoint:
        """Store a checkpoint's safetensors file at `target`. Raises OSError too."""
        checkpoint = self.checkpoint(federation, checkpoint_id)
        options = self._transfers
        fetch_checkpoint(
            self._transport, federation, checkpoint, target, options=options, on_bytes=on_bytes
        )
        return checkpoint

    # Runs

    def runs(
        self, federation: str, *, states: Sequence[RunState] = (), q: str | None = None
    ) -> Iterator[wire.Run]:
        """Yield a federation's runs, newest first: in these states if any, with `q` in the name."""
        wanted = {"state": states, "q": q}
        return self._calls.pages(within(federation, "runs"), wire.Run, wanted)

    def run(self, federation: str, run_id: UUID) -> wire.Run:
        """Return one run."""
        return self._calls.get(within(federation, "runs", run_id), wire.Run)

    def create_run(
        self,
        federation: str,
        plan: RunPlan,
        *,
        checkpoint_id: UUID | None = None,
        start: bool = True,
    ) -> wire.Run:
        """Create a run; without `checkpoint_id` from its model's newest checkpoint."""
        message = wire.RunCreate(plan=plan, checkpoint_id=checkpoint_id, start=start)
        return self._calls.post(within(federation, "runs"), wire.Run, message)

    def preview_run(
        self, federation: str, plan: RunPlan, *, checkpoint_id: UUID | None = None
    ) -> wire.RunPreview:
        """Return what a run of `plan` would do if it were started now; nothing is stored."""
        message = wire.RunPreviewRequest(plan=plan, checkpoint_id=checkpoint_id)
        return self._calls.post(within(federation, "runs", "preview"), wire.RunPreview, message)

    def start_run(self, federation: str, run_id: UUID) -> wire.Run:
        """Start a run that was created without."""
        return self._calls.post(within(federation, "runs", run_id, "start"), wire.Run)

    def pause_run(self, federation: str, run_id: UUID, *, burn: bool = False) -> wire.Run:
        """Pause a run when its round is closed, or at once by burning the round."""
        message = wire.RunPause(round="burn" if burn else "finish")
        return self._calls.post(within(federation, "runs", run_id, "pause"), wire.Run, message)

    def resume_run(self, federation: str, run_id: UUID) -> wire.Run:
        """Let a paused run go on."""
        return self._calls.post(within(federation, "runs", run_id, "resume"), wire.Run)

    def fork_run(
        self,
        federation: str,
        run_id: UUID,
        name: str,
        *,
        round_number: int | None = None,
        changes: Mapping[str, JsonValue] | None = None,
        start: bool = True,
    ) -> wire.Run:
        """Make a run from the checkpoint of a round (None: the newest), its plan changed.

        `changes` is a JSON merge patch (RFC 7396) of the plan.
        """
        message = wire.RunFork(
            name=name, round_number=round_number, changes=dict(changes or {}), start=start
        )
        return self._calls.post(within(federation, "runs", run_id, "fork"), wire.Run, message)

    def cancel_run(self, federation: str, run_id: UUID) -> wire.Run:
        """Stop a run; its finished rounds stay."""
        return self._calls.post(within(federation, "runs", run_id, "cancel"), wire.Run)

    def rounds(self, federation: str, run_id: UUID) -> Iterator[wire.Round]:
        """Yield a run's rounds, the first one first."""
        return self._calls.pages(within(federation, "runs", run_id, "rounds"), wire.Round)

    def round(self, federation: str, run_id: UUID, number: int) -> wire.RoundDetail:
        """Return one round with its tasks."""
        return self._calls.get(
            within(federation, "runs", run_id, "rounds", number), wire.RoundDetail
        )

    def metrics(self, federation: str, run_id: UUID) -> Iterator[wire.MetricPoint]:
        """Yield a run's numbers by round, per site and over all sites."""
        return self._calls.pages(within(federation, "runs", run_id, "metrics"), wire.MetricPoint)

    def updates(
        self, federation: str, run_id: UUID, *, round_number: int | None = None
    ) -> Iterator[wire.Update]:
        """Yield a run's stored updates with their signatures."""
        path = within(federation, "runs", run_id, "updates")
        return self._calls.pages(path, wire.Update, {"round": round_number})

    def receipts(self, federation: str, run_id: UUID) -> ReceiptLog:
        """Return a run's signed receipts."""
        return ReceiptLog(self._transport, federation, run_id)

    def roster(self, digest: str) -> wire.RosterView:
        """Return who takes part in a run's secure sums, by the roster's digest."""
        return self._transport.call("GET", f"/v1/rosters/{digest}", wire.RosterView)

    def event_log(self, federation: str) -> EventLog:
        """Return what happens in a federation, as pages and as a stream."""
        return EventLog(self._transport, federation)

    def watch(self, federation: str, run_id: UUID, *, after: int = 0) -> Iterator[wire.Event]:
        """Yield a run's events, past and to come, until the run has ended.

        A hub that is away for longer than the retries of one call raises RetryableError; go on
        then with `after` set to the last event's id.
        """
        log = self.event_log(federation)
        # Looked at before the events: what ended by now has all its events stored.
        if self.run(federation, run_id).state not in ENDED:
            for event in log.stream(after=after, run_id=run_id):
                yield event
                if event.kind in ENDINGS:
                    return
        while page := log.page(after=after, run_id=run_id):
            yield from page
            after = page[-1].id

    def notices(self, federation: str) -> Notices:
        """Return a federation's alerts, and where its events are sent."""
        return Notices(self._calls, federation)

    # The audit log

    def audit_log(self, federation: str | None) -> AuditLog:
        """Return a federation's audit log, or with None the hub's own."""
        return AuditLog(self._transport, federation)

    # The plumbing

    def _change_site(self, federation: str, site_id: UUID, verb: str, reason: str) -> wire.Site:
        path = within(federation, "sites", site_id, verb)
        return self._calls.post(path, wire.Site, wire.SiteStateChange(reason=reason))
