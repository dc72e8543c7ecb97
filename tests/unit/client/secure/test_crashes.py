"""A site of a secure run is killed at any step on disk: what it sends afterwards is the same."""

import shutil
from collections import defaultdict
from pathlib import Path

import pytest

from hansa.options import RunnerEvent
from tests.unit.client.fake_hub import serving
from tests.unit.client.reapers import KilledError, Reaper
from tests.unit.client.secure.hubs import SecureHub
from tests.unit.client.secure.sites import StepTrainer, a_site, model_bytes, run_secure

MOST_STEPS = 400


def sent_in_rounds(hub: SecureHub) -> dict[str, set[tuple[bytes, ...]]]:
    """Return what was uploaded and signed, by round digest."""
    sent: dict[str, set[tuple[bytes, ...]]] = defaultdict(set)
    for update in hub.updates:
        manifest = update.manifest
        assert manifest.secure_round is not None
        sent[manifest.secure_round].add(
            (manifest.digest.encode(), manifest.parts["seals"].digest.encode())
        )
    return sent


def test_a_kill_before_any_step_on_disk_never_sends_two_things_in_one_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reaper = Reaper(monkeypatch)
    for number in range(1, MOST_STEPS):
        reaper.before = 0
        folder = tmp_path / str(number)
        folder.mkdir()
        hub = SecureHub()
        hub.quiet_beats = True
        with serving(hub):
            state = a_site(hub, folder)
            hub.begin(model_bytes(folder))
            reaper.before, reaper.done = number, 0
            killed = False
            try:
                run_secure(state, hub)
            except KilledError:
                killed = True
                reaper.before = 0
                hub.over = False
                run_secure(state, hub, until=lambda hub=hub: hub.sums)
        assert len(hub.sums) == 1, number
        assert (hub.refusals, hub.failures) == ({}, []), number
        assert all(len(set(bodies)) == 1 for bodies in hub.duty_bodies.values()), number
        assert [len(sent) for sent in sent_in_rounds(hub).values()] == [1], number
        assert len({content for _, content in hub.uploads}) == 1, number
        assert len({content for _, _, content in hub.parts}) == 1, number
        if not killed:
            break
    else:
        pytest.fail(f"still more than {MOST_STEPS} steps")
    assert number > 40  # it was killed all over the protocol


@pytest.mark.parametrize("sent", ["part_uploaded", "delta_uploaded"])
def test_an_update_whose_files_are_lost_after_its_round_was_used_is_never_made_again(
    tmp_path: Path, sent: str
) -> None:
    def die(event: RunnerEvent) -> None:
        if event.kind == sent:
            raise KilledError

    hub = SecureHub()
    with serving(hub):
        state = a_site(hub, tmp_path)
        hub.begin(model_bytes(tmp_path))
        with pytest.raises(KilledError):
            run_secure(state, hub, on_event=die)
        uploads = (list(hub.uploads), list(hub.parts))
        shutil.rmtree(state.path / "tasks")  # as after a restore of half a backup
        trainer = StepTrainer()
        result = run_secure(state, hub, trainer=trainer)
    assert (result.failed, trainer.trained) == (1, 0)
    assert "has masked its update of round 1 already" in hub.failures[0].error
    assert (hub.uploads, hub.parts) == uploads
    assert hub.updates == []


def test_an_update_that_was_masked_and_not_sent_is_sent_as_it_is(tmp_path: Path) -> None:
    def die(event: RunnerEvent) -> None:
        if event.kind == "delta_stored":
            raise KilledError

    hub = SecureHub()
    with serving(hub):
        state = a_site(hub, tmp_path)
        hub.begin(model_bytes(tmp_path))
        with pytest.raises(KilledError):
            run_secure(state, hub, on_event=die)
        (answer,) = (state.path / "tasks").glob("*/answer.json")
        signed = answer.read_bytes()
        trainer = StepTrainer()
        result = run_secure(state, hub, trainer=trainer)
    assert (result.done, trainer.trained, len(hub.sums)) == (1, 0, 1)
    assert hub.updates[0].manifest.digest.encode() in signed
