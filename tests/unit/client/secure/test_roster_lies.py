"""A hub that lies to a real site about who takes part: keys, fake sites, terms, versions."""

from collections.abc import Callable
from uuid import uuid4

import pytest

from hansa.identity import StateDir
from hansa.secure.memberships import ListedSite, Membership, sign_membership
from hansa.secure.peers import Peers, PeersMode
from hansa_core import wire
from hansa_core.secagg.keys import generate_exchange_key
from hansa_core.secagg.messages import Member, Roster
from hansa_core.secagg.terms import QuantiserPlan
from hansa_core.signing import (
    encode_base64,
    fingerprint,
    generate_private_key,
    public_key,
)
from tests.unit.client.secure.hubs import SecureHub
from tests.unit.client.secure.members import OTHERS, Other
from tests.unit.client.secure.refusals import kinds, refused_duty, refused_task
from tests.unit.client.secure.sites import run_secure


def with_member(roster: Roster, name: str, change: Callable[[Member], Member]) -> Roster:
    members = tuple(change(it) if it.site_name == name else it for it in roster.members)
    return roster.model_copy(update={"members": members})


def fingerprint_of(hub: SecureHub, name: str) -> str:
    return fingerprint(public_key(hub.others[name].private))


def test_a_swapped_exchange_key_has_no_signature(
    hub: SecureHub, state: StateDir, model: bytes
) -> None:
    theirs = encode_base64(generate_exchange_key())  # any 32 bytes are a key
    hub.lies["roster"] = lambda roster: with_member(
        roster, "oslo", lambda it: it.model_copy(update={"exchange_key": theirs})
    )
    hub.begin(model)
    assert "the keys of member oslo" in refused_duty(hub, state)
    assert kinds(hub) == ["keys"]


def test_swapped_keys_under_a_swapped_identity_are_not_the_pinned_ones(
    hub: SecureHub, state: StateDir, model: bytes
) -> None:
    Peers(state.path).pin("oslo", fingerprint_of(hub, "oslo"))
    impostor = Other("oslo", site_id=hub.others["oslo"].site_id)
    hub.lies["roster"] = lambda roster: with_member(
        roster, "oslo", lambda _: impostor.line(hub.run_id, 1)
    )
    hub.begin(model)
    reason = refused_duty(hub, state)
    assert (
        f"oslo: its key has the fingerprint {fingerprint(public_key(impostor.private))}" in reason
    )
    assert f"pinned is {fingerprint_of(hub, 'oslo')}" in reason
    assert kinds(hub) == ["keys"]


def test_a_key_that_changed_since_it_was_first_seen_is_refused(
    hub: SecureHub, state: StateDir, model: bytes
) -> None:
    hub.begin(model)
    first = run_secure(state, hub)
    assert len(first.messages("peer_pinned")) == 3
    assert fingerprint_of(hub, "oslo") in "".join(first.messages("peer_pinned"))
    hub.others["oslo"].private = generate_private_key()  # the hub's own
    hub.version, hub.rounds, hub.over = 2, 1, False
    hub.begin(model)
    assert "oslo: its key has the fingerprint" in refused_duty(hub, state)
    assert kinds(hub).count("confirm") == 1


def test_other_keys_for_the_site_itself_are_refused(
    hub: SecureHub, state: StateDir, model: bytes
) -> None:
    theirs = encode_base64(generate_exchange_key())
    hub.lies["roster"] = lambda roster: with_member(
        roster, hub.site_name, lambda it: it.model_copy(update={"exchange_key": theirs})
    )
    hub.begin(model)
    assert "other keys for this site" in refused_duty(hub, state)


@pytest.mark.parametrize("mode", [PeersMode.PINNED, PeersMode.CONSORTIUM])
def test_a_fake_site_is_on_nobodys_list(
    hub: SecureHub, state: StateDir, model: bytes, mode: PeersMode
) -> None:
    peers = Peers(state.path)
    if mode is PeersMode.PINNED:
        for name in OTHERS:
            peers.pin(name, fingerprint_of(hub, name))
    else:
        key = generate_private_key()
        lines = [ListedSite(site_name=it, fingerprint=fingerprint_of(hub, it)) for it in OTHERS]
        listed = Membership(federation_id=hub.federation_id, serial=1, members=lines)
        peers.set_consortium(encode_base64(public_key(key)))
        content = sign_membership(key, listed).model_dump_json().encode()
        peers.import_list(content, federation_id=hub.federation_id)
    peers.set_mode(mode)
    hub.others["mallory"] = Other("mallory")
    hub.begin(model)
    reason = refused_duty(hub, state)
    assert "members that this site does not trust: mallory:" in reason
    assert kinds(hub) == ["keys"]


def test_other_terms_than_keys_were_made_for_are_refused(
    hub: SecureHub, state: StateDir, model: bytes
) -> None:
    loose = hub.terms.model_copy(update={"quantiser": QuantiserPlan(clip=1e6)})
    hub.lies["terms"] = lambda _: loose
    hub.begin(model)
    assert "other terms" in refused_duty(hub, state)


def test_two_rosters_of_one_version_are_not_both_confirmed(
    hub: SecureHub, state: StateDir, model: bytes
) -> None:
    def show_another() -> None:
        members = [it for it in hub.roster.members if it.site_name != "turku"]
        hub.show(hub.roster.model_copy(update={"members": tuple(members)}))

    hub.instead["task"] = show_another
    hub.begin(model)
    assert "as the same version" in refused_duty(hub, state)


def test_a_roster_that_somebody_did_not_confirm_is_not_worked_for(
    hub: SecureHub, state: StateDir, model: bytes
) -> None:
    def withhold() -> None:
        view = hub.roster_views[hub.group.digest]
        short = view.model_copy(update={"confirmations": view.confirmations[:-1]})
        hub.roster_views[hub.group.digest] = short
        hub.add_secure_task(hub.header)

    hub.instead["task"] = withhold
    hub.begin(model)
    assert "is not confirmed by turku" in refused_task(hub, state)


def test_keys_for_an_old_version_are_not_made_again(
    hub: SecureHub, state: StateDir, model: bytes
) -> None:
    hub.version = 3
    hub.begin(model)
    run_secure(state, hub)
    hub.over = False
    hub.add_duty(wire.KeysDuty, version=2, terms=hub.terms)
    assert "wanted a newer one" in refused_duty(hub, state)


def test_a_duty_of_another_federation_is_refused(
    hub: SecureHub, state: StateDir, model: bytes
) -> None:
    hub.federation_id, mine = uuid4(), hub.federation_id
    hub.begin(model)
    assert str(mine) in refused_duty(hub, state)
