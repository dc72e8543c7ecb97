"""A site's folder, key and enrolment."""

from collections.abc import Generator
from pathlib import Path

import pytest

from hansa.errors import LocalError, ReenrollError
from hansa.identity import StateDir, open_state_dir, store_key
from hansa.site import SiteClient, enroll, rotate_key, settle_rotation
from hansa.transport import RetryPolicy
from hansa_core.signing import generate_private_key, public_key
from tests.unit.client.fake_hub import FakeHub, serving

QUICK = RetryPolicy(attempts=2, first_delay_seconds=0.001, max_delay_seconds=0.01)


@pytest.fixture
def hub() -> Generator[FakeHub]:
    with serving(FakeHub()) as served:
        yield served


@pytest.fixture
def state(hub: FakeHub, tmp_path: Path) -> StateDir:
    made = open_state_dir(tmp_path / "site", create=True)
    enroll(made, hub.url, "invitation-1", name="clinic-a", retry=QUICK)
    return made


def test_second_process_in_the_same_folder_is_refused(state: StateDir) -> None:
    with (
        state.locked(),
        pytest.raises(LocalError, match="in use by another hansa process"),
        state.locked(),
    ):
        pass


def test_enrolment_repeated_after_a_crash_gives_the_same_site(
    hub: FakeHub, state: StateDir, tmp_path: Path
) -> None:
    state.record_path.unlink()  # killed after the hub's answer, before it was stored
    view = enroll(state, hub.url, "invitation-1", name="clinic-a", retry=QUICK)
    assert view.id == hub.site_id
    with pytest.raises(LocalError, match=r"already holds the site 'clinic-a'"):
        enroll(state, hub.url, "invitation-1", name="clinic-b", retry=QUICK)


def test_key_and_folder_are_readable_by_their_owner_only(state: StateDir) -> None:
    assert state.path.stat().st_mode & 0o777 == 0o700
    assert state.key_path.stat().st_mode & 0o777 == 0o600
    assert "private" not in repr(state.identity())


def test_folder_with_other_things_is_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(LocalError, match="holds other things"):
        open_state_dir(tmp_path, create=True)


def test_rotated_key_works_and_the_old_one_does_not(hub: FakeHub, state: StateDir) -> None:
    old = state.key_path.read_bytes()
    record = rotate_key(state, retry=QUICK)
    assert record.fingerprint == hub.view().fingerprint
    with SiteClient(state.identity(), retry=QUICK) as client:
        assert client.view().id == hub.site_id
    state.key_path.write_bytes(old)
    with SiteClient(state.identity(), retry=QUICK) as client, pytest.raises(ReenrollError):
        client.view()


@pytest.mark.parametrize("accepted", [True, False])
def test_interrupted_rotation_is_settled_at_the_next_start(
    hub: FakeHub, state: StateDir, accepted: bool
) -> None:
    next_key = generate_private_key()
    if accepted:
        # Killed after the hub took the key and before it became the site's.
        known = state.identity()
        rotate_key(state, retry=QUICK)
        state.key_path.rename(state.next_key_path)

        store_key(state.key_path, known.private_key)
    else:
        store_key(state.next_key_path, next_key)
    identity = settle_rotation(state, retry=QUICK)
    assert identity.private_key == state.identity().private_key

    assert public_key(identity.private_key) == hub.public_key
