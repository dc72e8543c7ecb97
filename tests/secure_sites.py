"""Sites of secure runs under test: the real protocol over REST, and their words before masking.

A site keeps its unmasked words, so that a test can add them and compare the hub's sum bit by bit.
"""

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any
from uuid import UUID

import numpy as np
from httpx2 import Response
from numpy.typing import NDArray
from sqlalchemy import text

from hansa_core import wire
from hansa_core.aggregation.inputs import part_layout
from hansa_core.layouts import Layout
from hansa_core.secagg.decoding import MeanDelta, read_totals
from hansa_core.secagg.encoding import encode as encode_words
from hansa_core.secagg.member import check_survivors, open_sum
from hansa_core.secagg.messages import Header, Message, Opening, Roster, parse
from hansa_core.secagg.rosters import (
    MASKED,
    PURPOSES,
    SEALS,
    Group,
    open_group,
    vector_layout,
)
from hansa_core.secagg.site import OwnKeys, check_roster, confirm, make_keys, mask
from hansa_core.secagg.vectors import VectorLayout
from hansa_core.signing import decode_base64, encode_base64, sign
from hansa_core.states import RoundKind, RunState
from hansa_core.wire import DutyKind
from tests.factories import ActiveSite, Federation, a_run, sites_online
from tests.tensors import Tensors, a_delta, digest_of, encode

SECURE: Mapping[str, Any] = {"quantiser": {"clip": 20.0, "max_examples": 100}}
NAMES = ("bergen", "espoo", "oslo", "turku")  # of the sites that conftest.py makes
ALL_KINDS = tuple(DutyKind)
ZERO: Mapping[str, Tensors] = {}


@dataclass(slots=True)
class SecureSite:
    """A site that does its duties and masks its updates."""

    site: ActiveSite
    base: Tensors  # the model's tensors
    own: dict[int, OwnKeys] = field(default_factory=dict[int, OwnKeys])  # by version
    words: dict[str, NDArray[np.uint64]] = field(  # plain, by round digest
        default_factory=dict[str, NDArray[np.uint64]]
    )
    said: dict[UUID, dict[str, Any]] = field(  # answers, by duty
        default_factory=dict[UUID, dict[str, Any]]
    )

    @property
    def name(self) -> str:
        return self.site.name

    def duties(self, **params: Any) -> wire.Duties:
        answer = self.site.client.post(
            "/v1/duties/claim", params=params, headers=self.site.identity.headers
        )
        assert answer.status_code == 200, answer.text
        return wire.Duties.model_validate(answer.json())

    def do(self, kinds: Iterable[DutyKind] = ALL_KINDS) -> int:
        """Do the duties of these kinds that wait; return how many."""
        done = 0
        for duty in self.duties().items:
            if duty.kind in kinds:
                answer = self.put(duty.id, self.answer(duty))
                assert answer.status_code == 201, answer.text
                done += 1
        return done

    def answer(self, duty: wire.Duty) -> dict[str, Any]:
        """Return an honest answer to a duty."""
        match duty:
            case wire.KeysDuty():
                own, keys = make_keys(
                    run_id=duty.run_id, site_id=self.site.id, version=duty.version
                )
                self.own[duty.version] = own
                return self.signed(duty.kind, keys)
            case wire.ConfirmDuty():
                roster = parse(Roster, self.roster(duty.roster).body.encode(), digest=duty.roster)
                check_roster(
                    roster,
                    site_id=self.site.id,
                    own=self.own[duty.version],
                    identity_key=decode_base64(self.site.identity.public),
                    terms=None,
                    trust=lambda _: None,
                )
                said = confirm(roster, site_id=self.site.id, own=self.own[duty.version])
                return self.signed(duty.kind, said)
            case wire.SignDuty():
                group = self.group(duty.header.roster)
                return self.signed(duty.kind, check_survivors(group, duty.header, duty.survivors))
            case wire.OpenDuty():
                group = self.group(duty.header.roster)
                opening = open_sum(
                    group,
                    duty.header,
                    site_id=self.site.id,
                    own=self.own[group.roster.version],
                    survivors=duty.survivors,
                    signatures=duty.signatures,
                    seals=decode_base64(duty.seals),
                )
                return self.signed(duty.kind, opening)

    def signed(self, kind: DutyKind, message: Message) -> dict[str, Any]:
        signature = sign(self.site.identity.private, PURPOSES[type(message)], message.body())
        return {
            "kind": kind,
            "message": message.model_dump(mode="json"),
            "signature": encode_base64(signature),
        }

    def signed_json(self, kind: DutyKind, message: Mapping[str, Any]) -> dict[str, Any]:
        """Sign what no honest site says."""
        kinds = {DutyKind.OPEN: Opening}
        return self.signed(kind, kinds[kind].model_validate(message))

    def put(self, duty_id: UUID, answer: Mapping[str, Any]) -> Response:
        self.said[duty_id] = dict(answer)
        return self.site.client.put(
            f"/v1/duties/{duty_id}", json=dict(answer), headers=self.site.identity.headers
        )

    def refuse(self, duty_id: UUID, reason: str) -> Response:
        return self.site.client.post(
            f"/v1/duties/{duty_id}/refusal",
            json={"reason": reason},
            headers=self.site.identity.headers,
        )

    def roster(self, digest: str) -> wire.RosterView:
        answer = self.site.client.get(f"/v1/rosters/{digest}", headers=self.site.identity.headers)
        assert answer.status_code == 200, answer.text
        return wire.RosterView.model_validate(answer.json())

    def group(self, digest: str) -> Group:
        view = self.roster(digest)
        return open_group(parse(Roster, view.body.encode(), digest=digest), view.confirmations)

    def work(
        self,
        task: wire.Task,
        delta: Tensors,
        *,
        weight: int = 10,
        parts: Mapping[str, Tensors] = ZERO,
        scalars: Mapping[str, float] | None = None,
        metrics: Mapping[str, tuple[float, int]] | None = None,
        header: Header | None = None,
        claims: Mapping[str, Any] | None = None,
    ) -> Response:
        """Mask a delta and send it as the task's update; `claims` stand in its manifest instead."""
        assert task.secure is not None
        bound = header or task.secure.header
        group = self.group(bound.roster)
        vector = vector_of(group, bound, self.base, task.local_work.parts)
        words = encode_words(
            vector,
            group.roster.terms.quantiser,
            task.secure.ranges,
            delta if bound.kind is RoundKind.TRAIN else {},
            parts if bound.kind is RoundKind.TRAIN else {},
            weight=weight,
            weighing=group.roster.terms.weighing,
            scalars=(scalars or {}) if bound.kind is RoundKind.TRAIN else {},
            metrics=metrics or {},
            rounding_seed=secrets.token_bytes(32),
        )
        self.words[bound.digest()] = words.copy()
        seals = mask(
            group,
            bound,
            site_id=self.site.id,
            own=self.own[group.roster.version],
            words=words,
            seed=secrets.token_bytes(32),
        )
        masked = encode({MASKED: words.view(np.int64)})
        sealed = encode({SEALS: np.frombuffer(seals, np.uint8)})
        for data, part in ((masked, None), (sealed, SEALS)):
            answer = self.site.upload(task, data, part=part)
            if answer.status_code not in {200, 201}:
                return answer
        told = wire.UpdatePart(digest=digest_of(sealed), size=len(sealed))
        manifest: dict[str, Any] = {
            "num_examples": 1,
            "secure_round": bound.digest(),
            "parts": {SEALS: told},
            **(claims or {}),
        }
        return self.site.submit(task, masked, **manifest)


def vector_of(
    group: Group, header: Header, base: Tensors, parts: Iterable[str] = ()
) -> VectorLayout:
    uploaded = Layout.of(base)
    layouts = {part: part_layout(uploaded) for part in parts}
    return vector_layout(
        group.roster.terms,
        uploaded,
        layouts,
        sites=len(header.participants),
        kind=header.kind,
    )


def secure_sites(federation: Federation, base: Tensors, *names: str) -> list[SecureSite]:
    return [SecureSite(site, dict(base)) for site in sites_online(federation, *names)]


def step(run_id: UUID, times: int = 3) -> None:
    """Let a worker look at the run, and again for what one look leads to."""
    rounds = import_module("worker.tasks.rounds")
    for _ in range(times):
        rounds.step_run(str(run_id))


def agree(run_id: UUID, sites: Sequence[SecureSite]) -> None:
    """Set up a roster of these sites."""
    for kind in (DutyKind.KEYS, DutyKind.CONFIRM):
        step(run_id)
        for site in sites:
            assert site.do([kind]) == 1
    step(run_id)


def open_up(run_id: UUID, sites: Sequence[SecureSite]) -> None:
    """Let the committee sign and open."""
    for kind in (DutyKind.SIGN, DutyKind.OPEN):
        step(run_id)
        for site in sites:
            site.do([kind])
    step(run_id)


def whole_round(
    run_id: UUID,
    sites: Sequence[SecureSite],
    work: Callable[[SecureSite, wire.Task], Response],
) -> None:
    """Hold one round that goes well, its set-up as well where one is wanted."""
    step(run_id)
    if any(site.duties().items for site in sites):
        agree(run_id, sites)
    for site in sites:
        answer = work(site, site.site.claim())
        assert answer.status_code == 201, answer.text
    open_up(run_id, sites)


def plain_mean(
    group: Group,
    header: Header,
    ranges: tuple[float, ...],
    survivors: Sequence[SecureSite],
    base: Tensors,
    parts: Iterable[str] = (),
) -> dict[str, NDArray[np.float64]]:
    """Return what the survivors' unmasked words add up to, decoded."""
    vector = vector_of(group, header, base, parts)
    total = np.zeros(vector.words, np.uint64)
    for site in survivors:
        total += site.words[header.digest()]
    terms = group.roster.terms
    totals = read_totals(
        vector.tail_of(total), vector, terms.quantiser, ranges, terms.weighing, len(survivors)
    )
    mean = MeanDelta.of(vector, terms.quantiser, ranges, terms.weighing, totals)
    found: dict[str, NDArray[np.float64]] = {}
    for piece in mean.pieces(total, 0):
        at = found.setdefault(piece.slot.name, np.empty(piece.slot.tensor.count))
        at[piece.start : piece.start + len(piece.values)] = piece.values
    return found


def started(federation: Federation, **plan: Any) -> UUID:
    """Start a run whose first round is being set up."""
    wanted = {
        "cohort": {"min_sites": 3},
        "deadlines": {"round_seconds": 600},
        "secure": dict(SECURE),
        **plan,
    }
    run = a_run(federation, **wanted)
    step(run.id)
    return run.id


def overdue(federation: Federation) -> None:
    """Let the time of every poll, and of every round, be over."""
    with federation.transactions.begin("overdue") as tx:
        for table, column in (
            ("rosters", "expires_at"),
            ("secure_rounds", "expires_at"),
            ("rounds", "deadline_at"),
        ):
            tx.session.execute(text(f"UPDATE {table} SET {column} = now()"))  # noqa: S608


def upload(site: SecureSite) -> None:
    """Let a site do the task that waits for it."""
    answer = site.work(site.site.claim(), a_delta(NAMES.index(site.name)))
    assert answer.status_code == 201, answer.text


def ended_well(federation: Federation, run_id: UUID, survivors: int, version: int = 1) -> None:
    run = federation.run(run_id)
    assert (run.state, run.rounds_completed) == (RunState.COMPLETED, 1), run.state_reason
    shown = federation.round(run_id, 1).secure
    assert shown is not None
    assert (shown.survivors, shown.roster_version) == (survivors, version)
    assert shown.waiting_for == []
