"""A hub that carries one real site through secure rounds, and lies on request.

It is FakeHub over real HTTP; the other members of the roster are played here with the protocol's
own functions, so that a round which nobody spoils ends in a sum that can be read.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from hansa_core import wire
from hansa_core.aggregation.inputs import part_layout
from hansa_core.layouts import Layout
from hansa_core.local_work import LocalWork
from hansa_core.secagg.decoding import MeanDelta, Totals, read_totals
from hansa_core.secagg.encoding import encode
from hansa_core.secagg.hub import agreeing, assemble_roster, bundle, open_seals, reconstruct
from hansa_core.secagg.masks import MaskStream
from hansa_core.secagg.member import check_survivors
from hansa_core.secagg.messages import (
    Header,
    Opening,
    Roster,
    SignedConfirmation,
    Survivors,
    SurvivorSignature,
    ranges_digest,
)
from hansa_core.secagg.plans import Terms
from hansa_core.secagg.ranges import first_ranges
from hansa_core.secagg.rosters import (
    Group,
    check_confirmation,
    open_group,
    vector_layout,
    verify_message,
)
from hansa_core.secagg.seals import SealsFile
from hansa_core.secagg.site import mask
from hansa_core.secagg.terms import Weighing
from hansa_core.secagg.vectors import VectorLayout
from hansa_core.signing import encode_base64
from hansa_core.states import RoundKind
from hansa_core.tensors import bytes_reader, read_tensors
from tests.unit.client.fake_hub import FakeHub, answer, problem
from tests.unit.client.secure.members import (
    EXAMPLES,
    OTHERS,
    TERMS,
    Other,
    line_of,
    seals_of,
    signed,
    words_of,
)

PLAN_DIGEST = "0" * 64

Lie = Callable[[Any], Any]
_ANSWERS: TypeAdapter[wire.DutyAnswer] = TypeAdapter(wire.DutyAnswer)


class SecureHub(FakeHub):
    """Keys, confirm, upload, sign, open, and again for so many rounds."""

    def __init__(self, *, terms: Terms = TERMS, names: Sequence[str] = OTHERS) -> None:
        super().__init__()
        self.terms = terms
        self.others = {name: Other(name) for name in names}
        self.run_id = uuid4()
        self.version = 1
        self.rounds = 1  # that are still to be held
        self.round_number = 0
        self.kind = RoundKind.TRAIN
        self.more_of_tasks: dict[str, Any] = {}  # local_work, evaluate, ...
        self.local_work = LocalWork()
        self.dropped = {names[0]}  # of the others, those that upload nothing
        self.duty_list: list[wire.Duty] = []
        self.duty_answers: dict[UUID, wire.DutyAnswer] = {}
        self.duty_bodies: dict[UUID, list[bytes]] = {}
        self.refusals: dict[UUID, str] = {}
        self.roster_views: dict[str, wire.RosterView] = {}
        self.over = False
        self.quiet_beats = False  # heartbeats are not told of duties
        self.takes_keys = True  # makes a roster of them
        self.loses_receipts = False  # of each duty's first answer
        self.lies: dict[str, Lie] = {}  # what to make of terms, roster, header, task, survivors
        self.instead: dict[str, Callable[[], object]] = {}  # of asking for "task" or "open"
        self.sums: list[Totals] = []
        self.deltas: list[dict[str, NDArray[np.float64]]] = []
        self.left_out: dict[int, str] = {}

    # The story

    def begin(self, model: bytes) -> None:
        """Ask for keys."""
        self.model = self.add_checkpoint(model)
        self.layout = Layout.of(read_tensors(bytes_reader(model), len(model)))
        self.add_duty(wire.KeysDuty, version=self.version, terms=self.told("terms", self.terms))

    def told(self, what: str, truth: Any) -> Any:
        """Return what the site is told: the truth, or a lie."""
        return self.lies[what](truth) if what in self.lies else truth

    def add_duty(self, kind: type[Any], **fields: Any) -> wire.Duty:
        round_id = fields["header"].round_id if "header" in fields else UUID(int=1)
        duty = kind(
            id=uuid4(),
            kind=kind.model_fields["kind"].annotation.__args__[0],
            federation_id=self.federation_id,
            run_id=self.run_id,
            run_name="run-1",
            round_id=round_id,
            round_number=fields["header"].round_number if "header" in fields else 1,
            **fields,
        )
        self.duty_list.append(duty)
        return duty

    def keys_came(self, said: wire.KeysAnswer) -> None:
        verify_message(said.message, said.signature, self.public_key)
        mine = line_of(self.site_name, self.public_key, said.message, said.signature)
        lines = [other.line(self.run_id, self.version) for other in self.others.values()]
        roster = assemble_roster(
            federation_id=self.federation_id,
            run_id=self.run_id,
            version=self.version,
            plan_digest=PLAN_DIGEST,
            terms=self.terms,
            members=[mine, *lines],
        )
        self.show(self.told("roster", roster))

    def show(self, roster: Roster) -> wire.Duty:
        """Ask the site to confirm a roster."""
        digest = roster.digest()
        self.roster = roster
        self.roster_views[digest] = wire.RosterView(
            digest=digest, body=roster.body().decode(), confirmations=[]
        )
        return self.add_duty(wire.ConfirmDuty, version=roster.version, roster=digest)

    def confirmed(self, said: wire.ConfirmAnswer) -> None:
        digest = self.roster.digest()
        mine = SignedConfirmation(confirmation=said.message, signature=said.signature)
        check_confirmation(self.roster, digest, mine)
        every = [mine, *(it.confirmation(self.roster) for it in self.others.values())]
        self.group: Group = open_group(self.roster, every)
        self.roster_views[digest] = wire.RosterView(
            digest=digest, body=self.roster.body().decode(), confirmations=every
        )
        self.open_round()

    def new_header(self, **changes: Any) -> Header:
        fields: dict[str, Any] = {
            "run_id": self.run_id,
            "round_id": uuid4(),
            "round_number": self.round_number,
            "retry": 0,
            "kind": self.kind,
            "roster": self.group.digest,
            "participants": tuple(range(len(self.group.roster.members))),
            "checkpoint": self.model.digest,
            "slots": {},
            "ranges": ranges_digest(self.reaches),
            "deadline_at": datetime.now(UTC) + timedelta(hours=1),
        }
        return Header(**{**fields, **changes})

    def open_round(self) -> None:
        """Hand out the round's task."""
        self.rounds -= 1
        self.round_number += 1
        self.vector = self.vector_of(len(self.group.roster.members))
        self.reaches = first_ranges(self.vector, self.terms.quantiser)
        self.header = self.new_header()
        if "task" in self.instead:
            self.instead["task"]()
        else:
            self.add_secure_task(self.told("header", self.header))

    def vector_of(self, sites: int) -> VectorLayout:
        parts = dict.fromkeys(self.local_work.parts, part_layout(self.layout))
        return vector_layout(self.terms, self.layout, parts, sites=sites, kind=self.kind)

    def add_secure_task(self, header: Header, **changes: Any) -> wire.Task:
        fields: dict[str, Any] = {
            "kind": self.kind,
            "run_id": self.run_id,
            "round_number": self.round_number,
            "local_work": self.local_work,
            "heartbeat_seconds": 0.05,
            "secure": wire.SecureWork(header=header, ranges=self.reaches),
            **self.more_of_tasks,
            **self.told("task", {}),
            **changes,
        }
        return self.add_task(fields.pop("checkpoint", self.model), **fields)

    def position(self, name: str | None = None) -> int:
        """Return where a member stands; without a name, the real site."""
        wanted = self.site_id if name is None else self.others[name].site_id
        found = self.group.roster.position(wanted)
        assert found is not None
        return found

    def uploaded(self) -> None:
        """Take in the site's update, let the others upload theirs, propose the survivors."""
        seals = {self.position(): seals_of(self.parts[-1][2])}
        self.words = {self.position(): words_of(self.uploads[-1][1])}
        for name in self.others:
            if name not in self.dropped:
                words, sealed = self.upload_of(name)
                self.words[self.position(name)] = words
                seals[self.position(name)] = sealed
        self.seals: dict[int, SealsFile] = open_seals(self.group, self.header, seals)
        self.survivors, self.left_out = agreeing(self.group, self.header, self.seals)
        if len(self.survivors) < 3:
            self.over = True
            return
        shown = self.told("survivors", self.survivors)
        self.add_duty(wire.SignDuty, header=self.header, survivors=shown)

    def upload_of(self, name: str) -> tuple[NDArray[np.uint64], bytes]:
        """Return what a member that is played here uploads: ones for every value."""
        ones = {it.name: np.ones(it.shape, it.dtype.numpy) for it in self.layout.tensors}
        floats = {it.name: ones[it.name] for it in part_layout(self.layout).tensors}
        trains = self.kind is RoundKind.TRAIN
        words = encode(
            self.vector,
            self.terms.quantiser,
            self.reaches,
            ones if trains else {},
            dict.fromkeys(self.local_work.parts, floats),
            weight=EXAMPLES,
            weighing=self.terms.weighing if trains else Weighing.EXAMPLES,
            scalars={it.value: 2.5 for it in self.local_work.scalars},
            metrics={"train/loss": (1.0, EXAMPLES), "eval/accuracy": (0.5, EXAMPLES)},
            rounding_seed=bytes(32),
        )
        other = self.others[name]
        own = other.own[self.roster.version]
        sealed = mask(
            self.group,
            self.header,
            site_id=other.site_id,
            own=own,
            words=words,
            seed=bytes([len(name)]) * 32,
        )
        return words, sealed

    def signatures(
        self, survivors: tuple[int, ...], names: Sequence[str] = OTHERS
    ) -> list[SurvivorSignature]:
        """Return the word of members played here for a set, without any check of theirs."""
        message = Survivors(round=self.header.digest(), survivors=survivors)
        return [
            SurvivorSignature(
                member=self.position(name), signature=signed(self.others[name].private, message)
            )
            for name in names
        ]

    def signed_by_site(self, said: wire.SignAnswer) -> None:
        wanted = check_survivors(self.group, self.header, self.survivors)
        assert said.message == wanted
        verify_message(said.message, said.signature, self.public_key)
        mine = SurvivorSignature(member=self.position(), signature=said.signature)
        self.quorum = [mine, *self.signatures(self.survivors, OTHERS[1:])]
        self.instead.get("open", self.ask_to_open)()

    def ask_to_open(self, **changes: Any) -> wire.Duty:
        sealed = bundle(self.group, self.header, self.survivors, self.position(), self.seals)
        fields: dict[str, Any] = {
            "header": self.header,
            "survivors": self.survivors,
            "signatures": self.quorum,
            "seals": encode_base64(sealed),
        }
        return self.add_duty(wire.OpenDuty, **{**fields, **changes})

    def opened(self, said: wire.OpenAnswer) -> None:
        verify_message(said.message, said.signature, self.public_key)
        openings = [said.message, *(self.opening_of(name) for name in OTHERS[1:])]
        self.sums.append(self.read_sum(openings))
        if self.rounds:
            self.open_round()
        else:
            self.over = True

    def opening_of(self, name: str) -> Opening:
        sealed = bundle(self.group, self.header, self.survivors, self.position(name), self.seals)
        other = self.others[name]
        return other.opening(self.group, self.header, self.survivors, self.quorum, sealed)

    def read_sum(self, openings: Sequence[Opening]) -> Totals:
        """Take the masks off the survivors' sum, note the mean delta and return the totals."""
        seeds = reconstruct(self.group, self.header, self.survivors, openings, self.seals)
        assert seeds.wrong == ()
        total = np.zeros(self.vector.words, np.uint64)
        for position in self.survivors:
            total += self.words[position]
        added = [*seeds.own, *(seed for one, lost, seed in seeds.pairs if one < lost)]
        taken = [seed for one, lost, seed in seeds.pairs if one > lost]
        MaskStream(taken, added, suite=self.terms.suite).apply(total)
        weighing = self.terms.weighing if self.kind is RoundKind.TRAIN else Weighing.EXAMPLES
        totals = read_totals(
            self.vector.tail_of(total),
            self.vector,
            self.terms.quantiser,
            self.reaches,
            weighing,
            len(self.survivors),
        )
        mean = MeanDelta.of(self.vector, self.terms.quantiser, self.reaches, weighing, totals)
        delta: dict[str, NDArray[np.float64]] = {}
        for piece in mean.pieces(total, 0):
            flat = delta.setdefault(piece.slot.name, np.zeros(piece.slot.tensor.count))
            flat[piece.start : piece.start + len(piece.values)] = piece.values
        self.deltas.append(delta)
        return totals

    # Over HTTP

    def more_routes(self) -> list[tuple[str, Callable[[Request], Any], str]]:
        return [
            ("/v1/duties/claim", self.claim_duties, "POST"),
            ("/v1/duties/{duty_id}", self.duty, "PUT"),
            ("/v1/duties/{duty_id}/refusal", self.refusal_of_duty, "POST"),
            ("/v1/rosters/{digest}", self.roster_view, "GET"),
        ]

    def waiting(self) -> list[wire.Duty]:
        settled = {*self.duty_answers, *self.refusals}
        return [duty for duty in self.duty_list if duty.id not in settled]

    def open_duties(self) -> int:
        return len(self.waiting())

    def duties_in_beats(self) -> int:
        return 0 if self.quiet_beats else self.open_duties()

    async def claim_duties(self, request: Request) -> Response:
        wait = float(request.query_params.get("wait_seconds", 0))
        await self.waited_for(lambda: bool(self.waiting()) or not self.expected, wait)
        return answer(wire.Duties(items=self.waiting(), expected=self.expected))

    @property
    def expected(self) -> bool:
        return not self.over

    async def duty(self, request: Request) -> Response:
        body = await request.body()
        duty_id = UUID(request.path_params["duty_id"])
        self.duty_bodies.setdefault(duty_id, []).append(body)
        said = _ANSWERS.validate_json(body)
        before = self.duty_answers.get(duty_id)
        if before is not None and before != said:
            return problem(409, "duty-conflict")
        self.duty_answers[duty_id] = said
        if before is None:
            match said:
                case wire.KeysAnswer():
                    if self.takes_keys:
                        self.keys_came(said)
                case wire.ConfirmAnswer():
                    self.confirmed(said)
                case wire.SignAnswer():
                    self.signed_by_site(said)
                case wire.OpenAnswer():
                    self.opened(said)
            if self.loses_receipts:
                return problem(503, "not-ready")
        received = datetime.now(UTC)
        return answer(wire.DutyReceipt(duty_id=duty_id, received_at=received))

    async def refusal_of_duty(self, request: Request) -> Response:
        message = wire.DutyRefusal.model_validate_json(await request.body())
        self.refusals[UUID(request.path_params["duty_id"])] = message.reason
        self.over = True
        return Response(status_code=204)

    async def roster_view(self, request: Request) -> Response:
        view = self.roster_views.get(request.path_params["digest"])
        return problem(404, "not-found") if view is None else answer(view)

    async def update(self, request: Request) -> Response:
        given = await super().update(request)
        if given.status_code == 201 and self.updates[-1].manifest.secure_round is not None:
            await asyncio.to_thread(self.uploaded)
        return given
