"""What a site keeps of secure runs, and what it never takes back."""

import os
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from hansa.errors import LocalError
from hansa.secure.journal import (
    KEPT_DAYS,
    KEPT_REFUSALS,
    KeysEntry,
    Masked,
    RefusalEntry,
    RosterEntry,
    SecureJournal,
)
from hansa_core.secagg.errors import SecaggRefusedError
from hansa_core.secagg.messages import Header
from hansa_core.secagg.site import make_keys
from hansa_core.states import RoundKind
from tests.unit.client.secure.members import TERMS

RUN = UUID(int=7)
DIGESTS = {version: f"{version:064x}" for version in range(10)}


@pytest.fixture
def journal(tmp_path: Path) -> SecureJournal:
    return SecureJournal(tmp_path)


def keys_of(version: int) -> KeysEntry:
    own, _ = make_keys(run_id=RUN, site_id=uuid4(), version=version)
    return KeysEntry.of(version, own, TERMS)


def roster_of(version: int, digest: str | None = None) -> RosterEntry:
    return RosterEntry(version=version, digest=digest or DIGESTS[version], body="{}")


def header_of(version: int, *, round_id: int = 1, retry: int = 0, number: int = 1) -> Header:
    return Header(
        run_id=RUN,
        round_id=UUID(int=round_id),
        round_number=number,
        retry=retry,
        kind=RoundKind.TRAIN,
        roster=DIGESTS[version],
        participants=(0, 1, 2),
        checkpoint="a" * 64,
        slots={},
        ranges="b" * 64,
        deadline_at=datetime(2030, 1, 1, tzinfo=UTC),
    )


def masked(digest: str = "c" * 64) -> Masked:
    return Masked(task_id=UUID(int=3), masked=digest, seals="d" * 64)


def test_keys_are_kept_for_their_owner_alone(journal: SecureJournal, tmp_path: Path) -> None:
    entry = keys_of(1)
    assert not journal.knows(RUN)
    journal.store_keys(RUN, entry)
    kept = SecureJournal(tmp_path).keys(RUN, 1)
    assert kept is not None
    assert (kept.own.exchange_private, kept.own.nonce) == (
        entry.own.exchange_private,
        entry.own.nonce,
    )
    assert kept.terms == TERMS
    path = tmp_path / "secure" / str(RUN) / "keys-1.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert entry.exchange_private not in repr(entry)
    assert journal.knows(RUN)


@pytest.mark.parametrize("version", [1, 2])
def test_versions_never_go_back(journal: SecureJournal, version: int) -> None:
    journal.store_keys(RUN, keys_of(2))
    with pytest.raises(SecaggRefusedError, match="wanted a newer one"):
        journal.store_keys(RUN, keys_of(version))


def test_one_roster_is_confirmed_for_a_version(journal: SecureJournal) -> None:
    journal.confirm(RUN, roster_of(2))
    journal.confirm(RUN, roster_of(2))
    with pytest.raises(SecaggRefusedError, match="as the same version"):
        journal.confirm(RUN, roster_of(2, "e" * 64))
    with pytest.raises(SecaggRefusedError, match="older than version 2"):
        journal.confirm(RUN, roster_of(1))


def test_keys_two_versions_old_are_deleted_with_all_that_they_could_open(
    journal: SecureJournal, tmp_path: Path
) -> None:
    for version in (1, 2, 3):
        journal.store_keys(RUN, keys_of(version))
        journal.confirm(RUN, roster_of(version))
        journal.use(header_of(version, round_id=version), masked())
        journal.in_force(RUN, roster_of(version))
    names = {path.name for path in (tmp_path / "secure" / str(RUN)).iterdir()}
    assert {name for name in names if name.startswith("keys")} == {"keys-2.json", "keys-3.json"}
    assert journal.keys(RUN, 1) is None
    assert journal.roster(RUN, DIGESTS[1]) is None
    assert journal.roster(RUN, DIGESTS[2]) is not None
    assert journal.round(header_of(1, round_id=1)).used is None
    assert journal.round(header_of(2, round_id=2)).used == masked()


def test_a_version_that_never_came_into_force_deletes_no_keys(journal: SecureJournal) -> None:
    for version in (1, 2, 3, 4):
        journal.store_keys(RUN, keys_of(version))
        journal.confirm(RUN, roster_of(version))
    assert journal.keys(RUN, 1) is not None


def test_a_round_is_used_once(journal: SecureJournal, tmp_path: Path) -> None:
    journal.use(header_of(1), masked())
    again = SecureJournal(tmp_path)
    again.use(header_of(1), masked())
    with pytest.raises(SecaggRefusedError, match="masked its update of round 1 already"):
        again.use(header_of(1), masked("e" * 64))
    again.use(header_of(1, retry=1), masked("e" * 64))  # another round


def test_a_round_has_one_header(journal: SecureJournal) -> None:
    journal.use(header_of(1), masked())
    with pytest.raises(SecaggRefusedError, match="never held again with another"):
        journal.use(header_of(1, number=2), masked("e" * 64))
    with pytest.raises(SecaggRefusedError, match="never held again with another"):
        journal.sign(header_of(1, number=2), (0, 1, 2))


def test_one_set_of_survivors_is_signed_and_opened(journal: SecureJournal, tmp_path: Path) -> None:
    journal.sign(header_of(1), (0, 1, 2))
    again = SecureJournal(tmp_path)
    again.sign(header_of(1), (0, 1, 2))
    for act in (again.sign, again.open):
        with pytest.raises(SecaggRefusedError, match="signed 3 survivors"):
            act(header_of(1), (0, 1))
    again.open(header_of(1), (0, 1, 2))
    again.open(header_of(1), (0, 1, 2))
    with pytest.raises(SecaggRefusedError, match="signed the survivors of round 1"):
        again.use(header_of(1), masked())


def test_what_was_opened_is_not_signed_otherwise(journal: SecureJournal) -> None:
    journal.open(header_of(1), (0, 1, 2))
    with pytest.raises(SecaggRefusedError, match="opened the sum of 3"):
        journal.sign(header_of(1), (1, 2))


@pytest.mark.parametrize("content", [b"", b"{", b'{"version": 1}'])
def test_a_damaged_entry_is_an_error_and_never_taken_for_none(
    journal: SecureJournal, tmp_path: Path, content: bytes
) -> None:
    journal.store_keys(RUN, keys_of(1))
    journal.use(header_of(1), masked())
    for path in (tmp_path / "secure" / str(RUN)).iterdir():
        path.write_bytes(content)
    with pytest.raises(LocalError, match="is damaged"):
        journal.keys(RUN, 1)
    with pytest.raises(LocalError, match="is damaged"):
        journal.use(header_of(1), masked())


def test_the_newest_refusals_are_kept(journal: SecureJournal, tmp_path: Path) -> None:
    ids = [UUID(int=number) for number in range(KEPT_REFUSALS + 3)]
    for number, duty_id in enumerate(ids):
        journal.refuse(RUN, duty_id, RefusalEntry(kind="sign", reason=f"no {number}"))
        path = tmp_path / "secure" / str(RUN) / f"refused-{duty_id}.json"
        os.utime(path, (number, number))
    assert journal.refusal(RUN, ids[-1]) == f"no {len(ids) - 1}"
    assert journal.refusal(RUN, ids[0]) is None
    assert len(list((tmp_path / "secure" / str(RUN)).glob("refused-*"))) == KEPT_REFUSALS


def test_a_run_of_long_ago_is_forgotten_and_a_kills_leavings_too(
    journal: SecureJournal, tmp_path: Path
) -> None:
    journal.store_keys(RUN, keys_of(1))
    other = UUID(int=8)
    journal.store_keys(other, keys_of(1))
    left = tmp_path / "secure" / str(other) / "keys-2.json.17.tmp"
    left.write_text("half a key")
    path = tmp_path / "secure" / str(RUN) / "keys-1.json"
    then = path.stat().st_mtime - (KEPT_DAYS + 1) * 86400
    os.utime(path, (then, then))
    journal.trim()
    assert not journal.knows(RUN)
    assert not path.parent.exists()
    assert journal.knows(other)
    assert not left.exists()
    assert not journal.is_empty
