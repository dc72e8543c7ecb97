"""Asking sites, step by step: what the hub of the machine has, and what its rules are made of."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar
from uuid import UUID

import numpy as np
from hypothesis.stateful import RuleBasedStateMachine

from hansa_core.secagg import hub
from hansa_core.secagg.errors import SecaggError
from hansa_core.secagg.messages import (
    Header,
    Member,
    Opening,
    Positions,
    Roster,
    SignedConfirmation,
    SurvivorSignature,
)
from hansa_core.secagg.rosters import Group, open_group
from tests.property.secure_lies import TERMS, vector_of
from tests.property.secure_model import Force, Party, Round
from tests.unit.core.secagg.parties import DIGEST, FEDERATION, RUN

AnswerT = TypeVar("AnswerT")


class LyingHub(RuleBasedStateMachine):
    """All sites, what the hub holds of their rounds, and how it asks for more."""

    def __init__(self, tally: Counter[str]) -> None:
        super().__init__()
        self.tally = tally
        self.parties: list[Party] = []
        self.pins: dict[UUID, str] = {}
        self.version = 0
        self.force: Force | None = None
        self.rounds: list[Round] = []
        self.seeds: dict[bytes, str] = {}  # opened, and in which round
        self.touched: list[Round] = []  # since the invariants were looked at

    def members_of(self, asked: Sequence[int]) -> list[Party]:
        """Return those asked by position, and of the corrupt fewer than a third."""
        members = [self.parties[it] for it in sorted(set(asked))]
        while 3 * sum(it.corrupt for it in members) >= len(members) > 0:
            members.remove(next(it for it in members if it.corrupt))
        return members

    def next_lines(self, members: Sequence[Party]) -> list[Member]:
        self.version += 1
        return [it.line(self.version) for it in members]

    def roster(self, lines: Sequence[Member], plan_digest: str = DIGEST) -> Roster:
        return Roster(
            federation_id=FEDERATION,
            run_id=RUN,
            version=self.version,
            plan_digest=plan_digest,
            terms=TERMS,
            members=tuple(lines),
        )

    def confirmed(self, party: Party, roster: Roster) -> SignedConfirmation | None:
        return self.tried("confirm", party, lambda: party.agree(roster, self.pins))

    def put_in_force(
        self, members: list[Party], roster: Roster, words: list[SignedConfirmation]
    ) -> None:
        self.force = Force(members, roster, words, open_group(roster, words))
        self.tally["rosters"] += 1

    def add_round(self, force: Force, header: Header) -> None:
        count = vector_of(header).words
        rng = np.random.default_rng(len(self.rounds))
        plain = {it: rng.integers(0, 2**64, count, np.uint64) for it in header.participants}
        self.rounds.append(Round(force, header, plain))

    def round(self, which: int, among: Sequence[Round] | None = None) -> Round:
        """Return a round, the newest for 0."""
        rounds = self.rounds if among is None else among
        held = rounds[-1 - which % len(rounds)]
        self.touched.append(held)
        return held

    def reached(self, force: Force, asked: Sequence[int]) -> list[Party]:
        return [self.parties[it] for it in asked if self.parties[it] in force.members]

    def tried(self, what: str, party: Party, act: Callable[[], AnswerT]) -> AnswerT | None:
        """Return an answer; None where it is refused, and then nothing may have changed."""
        before = party.journal
        try:
            return act()
        except SecaggError:
            assert party.journal == before
            self.tally[f"refused: {what}"] += 1
            return None

    def ask(
        self, what: str, party: Party, force: Force, act: Callable[[Group], AnswerT]
    ) -> AnswerT | None:
        """Ask a member of a roster in force, which it gets to see first."""
        group = self.tried("roster", party, lambda: party.enter(force.roster, force.words))
        return None if group is None else self.tried(what, party, lambda: act(group))

    def gather(self, held: Round, survivors: Positions, asked: Sequence[int]) -> None:
        for party in self.reached(held.force, asked):
            if party.corrupt:
                continue  # its signatures are the hub's to have, of every set

            def name(group: Group, party: Party = party) -> SurvivorSignature:
                return party.sign_survivors(group, held.header, survivors)

            signature = self.ask("sign", party, held.force, name)
            if signature is not None:
                held.signed.setdefault(survivors, {})[signature.member] = signature

    def opening(
        self,
        held: Round,
        party: Party,
        survivors: Positions,
        signatures: Sequence[SurvivorSignature],
        seals: bytes,
    ) -> Opening | None:
        def give(group: Group) -> Opening:
            return party.open_survivors(group, held.header, survivors, signatures, seals)

        return self.ask("open", party, held.force, give)

    def keep(self, held: Round, survivors: Positions, opening: Opening) -> None:
        hub.check_opening(held.group, held.header, survivors, opening)
        kept = held.opened.setdefault(survivors, {}).setdefault(opening.member, opening)
        assert kept == opening
