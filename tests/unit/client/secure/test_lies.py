"""A hub that lies to a real site, row by row of the protocol's table of what stops what.

Every test ends the same way: the site refuses, tells its operator and the hub why, and what the
hub was after was never sent.
"""

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from hansa.identity import StateDir
from hansa.journal import store_tensors
from hansa_core import wire
from hansa_core.secagg.hub import bundle
from hansa_core.signing import (
    encode_base64,
)
from tests.unit.client.secure.hubs import SecureHub
from tests.unit.client.secure.members import OTHERS
from tests.unit.client.secure.refusals import kinds, refused_duty, refused_task
from tests.unit.client.secure.sites import MODEL, StepTrainer, run_secure


def another_model(hub: SecureHub, tmp_path: Path) -> wire.CheckpointRef:
    other = {**MODEL, "w": MODEL["w"] + 1}
    return hub.add_checkpoint(store_tensors(tmp_path / "other", other).path.read_bytes())


def test_a_model_other_than_the_headers_is_not_trained(
    hub: SecureHub, state: StateDir, model: bytes, tmp_path: Path
) -> None:
    hub.lies["task"] = lambda _: {"checkpoint": another_model(hub, tmp_path)}
    hub.begin(model)
    assert "disagree in the model" in refused_task(hub, state)


def test_a_model_for_one_site_alone_shows_before_anything_is_unmasked(
    hub: SecureHub, state: StateDir, model: bytes, tmp_path: Path
) -> None:
    hub.dropped = set()
    other = another_model(hub, tmp_path)
    hub.lies["header"] = lambda it: it.model_copy(update={"checkpoint": other.digest})
    hub.lies["task"] = lambda _: {"checkpoint": other}
    hub.begin(model)
    reason = refused_duty(hub, state)  # to sign for the header that the others have
    assert "is never held again with another" in reason
    assert list(hub.left_out) == [hub.position()]
    assert hub.position() not in hub.survivors
    mine = hub.seals[hub.position()].commitments[1:]
    theirs = {it for name in OTHERS for it in hub.seals[hub.position(name)].commitments}
    assert not theirs & set(mine)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"round_number": 2}, "round number"),
        ({"slots": {"control": "0" * 64}}, "slots"),
        ({"ranges": "0" * 64}, "ranges' digest"),
        ({"run_id": uuid4()}, "run"),
        ({"participants": (0, 1)}, "2 participants"),
    ],
)
def test_a_header_that_says_otherwise_than_the_task_is_refused(
    hub: SecureHub, state: StateDir, model: bytes, changes: dict[str, Any], told: str
) -> None:
    hub.lies["header"] = lambda it: it.model_copy(update=changes)
    hub.begin(model)
    assert told in refused_task(hub, state)


def test_a_round_that_leaves_the_site_out_gets_nothing_of_it(
    hub: SecureHub, state: StateDir, model: bytes
) -> None:
    hub.lies["header"] = lambda it: it.model_copy(
        update={"participants": tuple(p for p in it.participants if p != hub.position())}
    )
    hub.begin(model)
    assert "leaves this site out" in refused_task(hub, state)


def test_a_second_set_of_survivors_is_not_signed(
    hub: SecureHub, state: StateDir, model: bytes
) -> None:
    hub.dropped = set()
    hub.instead["open"] = lambda: hub.add_duty(
        wire.SignDuty, header=hub.header, survivors=hub.survivors[:3]
    )
    hub.begin(model)
    assert "signed 4 survivors" in refused_duty(hub, state)
    assert kinds(hub) == ["keys", "confirm", "sign"]


def test_a_second_set_is_not_opened_though_all_others_signed_it(
    hub: SecureHub, state: StateDir, model: bytes
) -> None:
    hub.dropped = set()

    def open_another() -> None:
        hub.survivors = hub.survivors[:3]
        hub.quorum = hub.signatures(hub.survivors)
        hub.ask_to_open()

    hub.instead["open"] = open_another
    hub.begin(model)
    assert "one set a round, for ever" in refused_duty(hub, state)
    assert "open" not in kinds(hub)


def test_a_second_sum_is_not_opened_even_where_the_site_signed_none(
    hub: SecureHub, state: StateDir, model: bytes
) -> None:
    hub.dropped = set()
    opened: list[wire.Duty] = []

    def open_both() -> None:
        for survivors in (hub.survivors, hub.survivors[1:]):
            hub.survivors, hub.quorum = survivors, hub.signatures(survivors)
            opened.append(hub.ask_to_open())

    def no_signature(survivors: tuple[int, ...]) -> tuple[int, ...]:
        hub.survivors = survivors
        open_both()
        return survivors

    hub.opened = lambda said: None  # type: ignore[method-assign]
    hub.lies["survivors"] = no_signature
    hub.begin(model)
    assert "opened the sum of 4 survivors" in refused_duty(hub, state)
    assert set(hub.refusals) == {opened[1].id}


@pytest.mark.parametrize(
    ("survivors", "told"),
    [
        ((0, 1), "a sum of 2 of 4 updates, wanted 3"),
        ((3,), "a sum of 1 of 4 updates, wanted 3"),
        ((0, 1, 2, 9), "are no participants"),
    ],
)
def test_a_set_that_hides_nobody_is_not_signed(
    hub: SecureHub, state: StateDir, model: bytes, survivors: tuple[int, ...], told: str
) -> None:
    hub.lies["survivors"] = lambda _: survivors
    hub.begin(model)
    assert told in refused_duty(hub, state)
    assert kinds(hub) == ["keys", "confirm"]


def test_survivors_with_an_update_that_the_site_never_sent_are_not_signed(
    hub: SecureHub, state: StateDir, model: bytes
) -> None:
    hub.instead["task"] = lambda: hub.add_duty(
        wire.SignDuty, header=hub.header, survivors=hub.header.participants
    )
    hub.begin(model)
    assert "which sent none" in refused_duty(hub, state)


def test_an_update_is_not_sent_after_the_sum_without_it_was_signed(
    hub: SecureHub, state: StateDir, model: bytes
) -> None:
    def sign_without_the_site() -> None:
        hub.survivors = tuple(p for p in hub.header.participants if p != hub.position())
        hub.add_duty(wire.SignDuty, header=hub.header, survivors=hub.survivors)

    hub.instead = {
        "task": sign_without_the_site,
        "open": lambda: hub.add_secure_task(hub.header),
    }
    hub.begin(model)
    assert "an update that comes after that is not sent" in refused_task(hub, state)
    assert hub.uploads == []


def test_the_mask_of_a_late_upload_of_a_dropped_site_is_not_opened(
    hub: SecureHub, state: StateDir, model: bytes
) -> None:
    hub.dropped = set()

    def drop_the_site(survivors: tuple[int, ...]) -> tuple[int, ...]:
        hub.survivors = tuple(p for p in survivors if p != hub.position())
        return hub.survivors

    def ask_for_its_mask() -> None:
        # In the place of the first survivor's own seed: the seal of the site's own.
        sealed = bundle(hub.group, hub.header, hub.survivors, hub.position(), hub.seals)
        own = hub.seals[hub.position()].seal(hub.group.seat(hub.position()), 0)
        hub.ask_to_open(seals=encode_base64(own + sealed[len(own) :]))

    hub.lies["survivors"] = drop_the_site
    hub.instead["open"] = ask_for_its_mask
    hub.begin(model)
    assert "is not one for this round and member" in refused_duty(hub, state)
    assert "open" not in kinds(hub)


def test_a_header_of_the_round_before_is_not_masked_for_again(
    hub: SecureHub, state: StateDir, model: bytes
) -> None:
    hub.begin(model)
    run_secure(state, hub)
    hub.add_secure_task(hub.header, round_number=2)
    assert "disagree in the round number" in refused_task(hub, state)


def test_a_header_of_another_run_is_not_masked_for(
    hub: SecureHub, state: StateDir, model: bytes
) -> None:
    hub.begin(model)
    run_secure(state, hub)
    another = uuid4()
    hub.add_secure_task(hub.header.model_copy(update={"run_id": another}), run_id=another)
    assert "which this site did not confirm" in refused_task(hub, state)


def test_a_second_upload_of_a_round_is_refused(
    hub: SecureHub, state: StateDir, model: bytes
) -> None:
    hub.begin(model)
    run_secure(state, hub)
    task = hub.add_secure_task(hub.header)
    assert "has masked its update of round 1 already" in refused_task(hub, state)
    assert task.id not in {update.manifest.task_id for update in hub.updates}
    assert len(hub.uploads) == 1


def test_the_same_round_with_other_participants_is_refused(
    hub: SecureHub, state: StateDir, model: bytes
) -> None:
    hub.begin(model)
    run_secure(state, hub)
    fewer = tuple(p for p in hub.header.participants if p != hub.position("turku"))
    hub.add_secure_task(hub.header.model_copy(update={"participants": fewer}))
    assert "is never held again with another" in refused_task(hub, state)


def test_an_update_in_the_clear_is_not_sent_in_a_secure_run(
    hub: SecureHub, state: StateDir, model: bytes
) -> None:
    hub.instead["task"] = lambda: hub.add_task(hub.model, run_id=hub.run_id)
    hub.begin(model)
    trainer = StepTrainer()
    run_secure(state, hub, trainer=trainer)
    assert "in the clear" in hub.failures[0].error
    assert (hub.uploads, trainer.trained) == ([], 0)


def smuggled(hub: SecureHub) -> bytes:
    """Return a bundle with the seal of a pair's seed in the place of a survivor's own."""
    sealed = bundle(hub.group, hub.header, hub.survivors, hub.position(), hub.seals)
    pair = hub.seals[hub.survivors[0]].seal(hub.group.seat(hub.position()), 1)
    return pair + sealed[len(pair) :]


def test_no_site_has_both_its_seeds_opened(hub: SecureHub, state: StateDir, model: bytes) -> None:
    hub.instead["open"] = lambda: hub.ask_to_open(seals=encode_base64(smuggled(hub)))
    hub.begin(model)
    assert "the seal of seed 0 of member" in refused_duty(hub, state)


def test_no_more_seeds_are_opened_than_the_sum_takes(
    hub: SecureHub, state: StateDir, model: bytes
) -> None:
    def ask_for_more() -> None:
        sealed = bundle(hub.group, hub.header, hub.survivors, hub.position(), hub.seals)
        hub.ask_to_open(seals=encode_base64(sealed + smuggled(hub)[:49]))

    hub.instead["open"] = ask_for_more
    hub.begin(model)
    assert "bytes of seals came" in refused_duty(hub, state)


def test_no_sum_is_opened_without_a_quorum(hub: SecureHub, state: StateDir, model: bytes) -> None:
    hub.instead["open"] = lambda: hub.ask_to_open(signatures=hub.quorum[:2])
    hub.begin(model)
    assert "2 of the committee signed these survivors, wanted 3 of 4" in refused_duty(hub, state)


def test_one_members_word_counts_once(hub: SecureHub, state: StateDir, model: bytes) -> None:
    hub.instead["open"] = lambda: hub.ask_to_open(signatures=[hub.quorum[0]] * 4)
    hub.begin(model)
    assert "1 of the committee signed" in refused_duty(hub, state)


def test_signatures_of_another_set_open_nothing(
    hub: SecureHub, state: StateDir, model: bytes
) -> None:
    hub.dropped = set()
    hub.instead["open"] = lambda: hub.ask_to_open(signatures=hub.signatures(hub.survivors[:3]))
    hub.begin(model)
    assert "a signature of the survivors by" in refused_duty(hub, state)


def test_what_was_refused_stays_refused_after_a_restart(
    hub: SecureHub, state: StateDir, model: bytes
) -> None:
    hub.lies["survivors"] = lambda it: it[:2]
    hub.begin(model)
    reason = refused_duty(hub, state)
    hub.refusals.clear()  # asks again, as if it had never heard
    hub.over = False
    again = run_secure(state, hub, tasks=1, until=lambda: hub.refusals)
    assert list(hub.refusals.values()) == [reason]
    assert again.messages("secure_refused") == []
