"""Secure rounds under any interleaving of dropouts, returns, replays and a hub that lies."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from hansa_core.secagg import hub
from hansa_core.secagg.errors import SecaggError, SecaggRefusedError, ShareError
from hansa_core.secagg.member import check_survivors
from hansa_core.secagg.messages import SignedConfirmation, Upload
from hansa_core.secagg.rosters import Group, open_group
from tests.property.secure_hub import LyingHub
from tests.property.secure_lies import (
    SEAL_CHEATS,
    SIGNATURE_CHEATS,
    cheated,
    corrupt_openings,
    header_of,
    ranges_of,
    unmasked,
)
from tests.property.secure_model import Party, Words, pins_of
from tests.unit.core.secagg.parties import DIGEST, Site, federation, terms

MOST = 8  # sites
LEAST = 3
MOST_VERSIONS = 6  # of rosters in one run of the machine; most of its time goes there
OTHER_DIGEST = "cd" * 32
FILES = {"manifest": DIGEST, "masked": DIGEST, "seals": DIGEST}

THOROUGH = settings(
    max_examples=25,
    stateful_step_count=30,
    deadline=None,  # a busy machine is no failure
    suppress_health_check=[HealthCheck.too_slow],
)

INDEX = st.integers(0, MOST - 1)


def _called(order: list[int], away: set[int], again: list[int]) -> list[int]:
    return [it for it in order if it not in away] + again


CALLED = st.builds(  # who is reached, in which order, and who hears it twice
    _called,
    st.permutations(range(MOST)),
    st.sets(INDEX, max_size=3),
    st.lists(INDEX, max_size=2),
)
SWAPS = ("exchange key", "nonce", "identity")
CHEATS = (*SIGNATURE_CHEATS, *SEAL_CHEATS)
TWO = st.sets(INDEX, max_size=2)


class SecureMachine(LyingHub):
    """Eight sites, some of them members, and the hub's moves."""

    @initialize(founders=st.integers(LEAST, MOST), corrupt=st.sets(INDEX, max_size=2))
    def found(self, founders: int, corrupt: set[int]) -> None:
        self.parties = [Party(it, corrupt=it in corrupt) for it in range(MOST)]
        self.pins = pins_of(self.parties)
        everybody = list(range(founders))
        self.form_roster(everybody, everybody)

    # Rosters

    @precondition(lambda self: self.force is None or self.version < MOST_VERSIONS)
    @rule(asked=CALLED, confirming=CALLED)
    def form_roster(self, asked: list[int], confirming: list[int]) -> None:
        """Who does not confirm is left out of the next version."""
        members = self.members_of(asked)
        while len(members) >= LEAST:
            roster = self.roster(self.next_lines(members))
            words = [
                word
                for it in confirming
                if self.parties[it] in members
                and (word := self.confirmed(self.parties[it], roster)) is not None
            ]
            staying = [it for it in members if it.index in confirming]
            assert {it.confirmation.site_id for it in words} == {it.id for it in staying}
            if staying == members:
                self.put_in_force(members, roster, words)
                return
            with pytest.raises(SecaggError, match="is not confirmed by"):
                open_group(roster, words)
            members = self.members_of([it.index for it in staying])

    @precondition(lambda self: self.version < MOST_VERSIONS)
    @rule(asked=CALLED, victim=INDEX, how=st.sampled_from(SWAPS))
    def swap_keys(self, asked: list[int], victim: int, how: str) -> None:
        """The hub lists keys of its own for a member: nobody honest confirms that."""
        members = self.members_of(asked)
        if len(members) < LEAST:
            return
        lines = self.next_lines(members)
        swapped = victim % len(members)
        fake = Site(members[swapped].index)
        made = fake.member(self.version)
        line = lines[swapped]
        lines[swapped] = {
            "exchange key": line.model_copy(update={"exchange_key": made.exchange_key}),
            "nonce": line.model_copy(update={"commitment": made.commitment}),
            "identity": made,
        }[how]
        roster = self.roster(lines)
        words = [fake.word(roster)]
        for party in members:
            word = self.confirmed(party, roster)
            assert word is None or party.corrupt
            if word is not None and party is not members[swapped]:
                words.append(word)
        with pytest.raises(SecaggError):
            open_group(roster, words)

    @precondition(lambda self: self.version < MOST_VERSIONS)
    @rule(asked=CALLED, first=st.sets(INDEX))
    def show_two_rosters(self, asked: list[int], first: set[int]) -> None:
        """Two rosters of one version: each site confirms the one that it sees first."""
        members = self.members_of(asked)
        if len(members) < LEAST:
            return
        lines = self.next_lines(members)
        rosters = [self.roster(lines), self.roster(lines, plan_digest=OTHER_DIGEST)]
        words: list[list[SignedConfirmation]] = [[], []]
        for party in members:
            seen = 0 if party.index in first else 1
            for which in (seen, 1 - seen):
                word = self.confirmed(party, rosters[which])
                assert (word is not None) == (which == seen or party.corrupt)
                words[which] += [] if word is None else [word]
        complete = [it for it in (0, 1) if len(words[it]) == len(members)]
        assert len(complete) < 2
        for which in (0, 1):
            if which in complete:
                self.put_in_force(members, rosters[which], words[which])
            else:
                with pytest.raises(SecaggError, match="is not confirmed by"):
                    open_group(rosters[which], words[which])

    # Rounds

    @precondition(lambda self: self.force is not None)
    @rule(asked=CALLED, retried=st.none() | INDEX)
    def start_round(self, asked: list[int], retried: int | None) -> None:
        """A new round, or an old one again: with other participants, in other masks."""
        assert self.force is not None
        places = sorted({self.force.members.index(it) for it in self.reached(self.force, asked)})
        if len(places) < LEAST:
            places = list(range(len(self.force.members)))
        number, retry = len(self.rounds) + 1, 0
        if retried is not None and self.rounds:
            old = self.rounds[retried % len(self.rounds)].header
            number = old.round_number
            retry = 1 + max(
                it.header.retry for it in self.rounds if it.header.round_number == number
            )
        self.add_round(self.force, header_of(self.force, places, number, retry))

    @precondition(lambda self: self.force is not None)
    @rule(retried=st.none() | INDEX, phases=st.tuples(*[CALLED] * 5), left_out=TWO)
    def hold_round(
        self, retried: int | None, phases: tuple[list[int], ...], left_out: set[int]
    ) -> None:
        """All phases of a round, others away at each; between them the hub names another set."""
        self.start_round(phases[0], retried)
        self.upload(0, phases[1])
        self.sign(0, phases[2])
        if left_out:
            self.sign_another(0, phases[4], left_out, stranger=False)
        self.open(0, phases[3], 0)
        if self.rounds[-1].opened:
            self.sum_up(0, lying=False, order=phases[4])

    @precondition(lambda self: self.rounds)
    @rule(which=INDEX, phases=st.tuples(CALLED, CALLED))
    def show_two_headers(self, which: int, phases: tuple[list[int], ...]) -> None:
        """Another model under the name of a round that there is."""
        held = self.round(which)
        header = held.header.model_copy(update={"checkpoint": OTHER_DIGEST})
        if all(it.header != header for it in self.rounds):
            self.add_round(held.force, header)
            self.upload(0, phases[0])
            self.sign(0, phases[1])

    @precondition(lambda self: self.rounds)
    @rule(which=INDEX, asked=CALLED)
    def upload(self, which: int, asked: list[int]) -> None:
        """Uploads in any order, twice, late; of sites that the round leaves out as well."""
        held = self.round(which)
        for party in self.reached(held.force, asked):
            place = held.force.members.index(party)
            takes_part = place in held.header.participants
            plain = held.plain[place] if takes_part else np.ones(4, np.uint64)
            words = plain.copy()

            def send(
                group: Group, party: Party = party, words: Words = words
            ) -> tuple[bytes, bytes]:
                return party.upload(group, held.header, words)

            made = self.ask("upload", party, held.force, send)
            if made is None:
                assert np.array_equal(words, plain)  # nothing masked is left lying about
                continue
            assert takes_part
            masked, seals = made
            if place in held.files:
                assert (held.masked[place], held.files[place]) == (masked, seals)
            held.masked[place], held.files[place] = masked, seals
            self.tally["late uploads"] += held.proposed is not None

    @precondition(lambda self: self.rounds)
    @rule(which=INDEX, asked=CALLED)
    def sign(self, which: int, asked: list[int]) -> None:
        """The hub proposes what came until then, and keeps to it."""
        held = self.round(which)
        if held.proposed is None and len(held.files) >= LEAST:
            held.proposed, left_out = hub.agreeing(held.group, held.header, held.seals)
            assert left_out == {}
        if held.proposed is not None:
            self.gather(held, held.proposed, asked)

    @precondition(lambda self: self.rounds)
    @rule(which=INDEX, asked=CALLED, left_out=st.sets(INDEX, max_size=3), stranger=st.booleans())
    def sign_another(
        self, which: int, asked: list[int], left_out: set[int], stranger: bool
    ) -> None:
        """Any set, whatever came, to whomever: others may be asked for another one."""
        held = self.round(which)
        named = set(held.header.participants) - left_out
        if stranger:
            named |= set(range(len(held.force.members)))
        self.gather(held, tuple(sorted(named)), asked)

    @precondition(lambda self: self.rounds)
    @rule(which=INDEX, asked=CALLED, chosen=INDEX)
    def open(self, which: int, asked: list[int], chosen: int) -> None:
        """Openings of a set that somebody signed; without a quorum there are none."""
        held = self.round(which)
        if not held.signed:
            return
        sets = sorted(held.signed, key=lambda it: -len(held.signed[it]))
        survivors = sets[chosen % len(sets)]
        signatures = held.signatures(survivors)
        allowed = held.has_quorum(survivors) and set(survivors) <= set(held.files)
        for party in self.reached(held.force, asked):
            if not party.corrupt:
                seals = held.bundle(survivors, held.force.members.index(party))
                opening = self.opening(held, party, survivors, signatures, seals)
                assert opening is None or allowed
                if opening is not None:
                    self.keep(held, survivors, opening)

    @precondition(lambda self: any(it.signed for it in self.rounds))
    @rule(which=INDEX, member=INDEX, other=INDEX)
    def cheat(self, which: int, member: int, other: int) -> None:
        """What no honest member opens, though a quorum signed something."""
        signed = [it for it in self.rounds if it.quora()]
        if not signed:
            return
        held = self.round(which, signed)
        (survivors,) = held.quora()
        if not set(survivors) <= set(held.files):
            return
        honest = [it for it in held.force.members if not it.corrupt]
        party = honest[member % len(honest)]
        place = held.force.members.index(party)
        for how in CHEATS:
            changed = cheated(held, self.rounds, survivors, place, how, other)
            if changed is not None:
                assert self.opening(held, party, *changed) is None, how
                self.tally[how] += 1

    @precondition(lambda self: any(it.opened for it in self.rounds))
    @rule(which=INDEX, lying=st.booleans(), order=CALLED)
    def sum_up(self, which: int, lying: bool, order: list[int]) -> None:
        """The sum of what was opened is the survivors', whatever corrupt members open."""
        held = self.round(which, [it for it in self.rounds if it.opened])
        ((survivors, given),) = held.opened.items()
        openings = {**given, **corrupt_openings(held, survivors, lying=lying)}
        least = held.group.parameters.threshold
        shuffled = [openings[it] for it in dict.fromkeys(order) if it in openings]
        liars = sum(it.member not in given for it in shuffled) if lying else 0
        seals = held.seals
        try:
            seeds = hub.reconstruct(held.group, held.header, survivors, shuffled, seals)
        except ShareError:
            assert len(shuffled) < least + 2 * liars
            self.tally["too few shares"] += 1
            return
        assert len(shuffled) - liars >= least
        assert set(seeds.wrong) <= set(held.force.corrupt)
        plain = [held.plain[it] for it in survivors]
        wanted = np.add.reduce(plain, dtype=np.uint64)
        assert np.array_equal(unmasked(held, survivors, seeds), wanted)
        for seed in (*seeds.own, *(seed for *_, seed in seeds.pairs)):
            assert self.seeds.setdefault(seed, held.header.digest()) == held.header.digest()
        transcript = hub.write_transcript(
            held.header,
            ranges_of(held.header),
            survivors,
            held.signatures(survivors),
            [Upload(member=it, **FILES) for it in survivors],
            seeds,
        )
        assert hub.check_transcript(held.group, transcript, seals) == seeds
        self.tally["sums"] += 1
        self.tally["sums without somebody"] += len(survivors) < len(held.header.participants)
        self.tally["sums of retried rounds"] += held.header.retry > 0
        self.tally["sums under later rosters"] += held.force.roster.version > 1

    @invariant()
    def one_set_is_opened_and_never_both_seeds(self) -> None:
        for held in self.touched:
            quora = held.quora()
            assert len(quora) < 2, f"two sets of one round have a quorum: {quora}"
            own, pairs = held.known()
            named = (held.header.round_id, held.header.retry)
            twins = [
                it
                for it in self.rounds
                if (it.header.round_id, it.header.retry) == named and it.signed
            ]
            assert sum(bool(it.quora()) for it in twins) < 2, f"two headers of round {named}"
            if not quora:
                assert (own, pairs) == (set(), set())
                continue
            alive = set(quora[0])
            for site in held.header.participants:
                with_survivors = [it for it in alive - {site} if frozenset((site, it)) in pairs]
                assert not (site in own and with_survivors), f"both seeds of {site} are known"
        self.touched.clear()


def test_any_interleaving_opens_the_sum_and_nothing_else() -> None:
    tally: Counter[str] = Counter()
    run_state_machine_as_test(  # pyright: ignore[reportUnknownMemberType] -- hypothesis leaves it untyped
        lambda: SecureMachine(tally),  # pyright: ignore[reportArgumentType] -- a factory will do
        settings=THOROUGH,
    )
    for what in ("sums", "sums without somebody", "sums of retried rounds", "late uploads"):
        assert tally[what], f"nothing came of {what} in {tally}"
    for what in ("confirm", "upload", "sign", "open"):
        assert tally[f"refused: {what}"], f"nobody refused to {what} in {tally}"


def test_only_min_survivors_bars_a_cohort_that_the_hub_picked_small() -> None:
    """Two thirds are of the participants, whom the hub names: three of eight are a round."""
    some = (0, 1, 2)
    open_to_all = federation(MOST)
    header = open_to_all.header(some)
    assert check_survivors(open_to_all.group, header, some).survivors == some
    barred = federation(MOST, terms(min_survivors=5))
    with pytest.raises(SecaggRefusedError, match="a sum of 3 of 3 updates, wanted 5"):
        check_survivors(barred.group, barred.header(some), some)
