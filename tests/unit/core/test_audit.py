"""The audit log's format: frozen bytes, and that no change of a chain goes unnoticed."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa_core.audit import (
    Actor,
    ActorKind,
    Entry,
    Head,
    Sealed,
    read_entry,
    read_line,
    seal,
    verify_chain,
    write_line,
)
from hansa_core.problems import BrokenChainError, CanonicalizationError, ChainFault

FEDERATION = UUID("018f0000-0000-7000-8000-000000000001")
PERSON = UUID("018f0000-0000-7000-8000-000000000002")
TOKEN = UUID("018f0000-0000-7000-8000-000000000003")
ADA = Actor(ActorKind.PERSON, "ada@example.org", PERSON, "203.0.113.7", TOKEN)
NOON = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)


def entry(number: int, previous: str | None, federation_id: UUID | None = FEDERATION) -> Entry:
    return Entry(
        federation_id=federation_id,
        number=number,
        at=NOON + timedelta(seconds=number),
        actor=ADA,
        action="site.approved",
        data={"site": "oslo", "count": number, "share": 1.0},
        previous=previous,
    )


def chain(
    length: int, *, after: Head | None = None, federation_id: UUID | None = FEDERATION
) -> list[Sealed]:
    made: list[Sealed] = []
    number, previous = (after.number, after.digest) if after else (0, None)
    for _ in range(length):
        number += 1
        made.append(seal(entry(number, previous, federation_id)))
        previous = made[-1].digest
    return made


def head_of(sealed: list[Sealed], number: int) -> Head:
    return Head(number, sealed[number - 1].digest)


def fault_in(sealed: list[Sealed], *kept: Head) -> tuple[int, ChainFault]:
    with pytest.raises(BrokenChainError) as caught:
        verify_chain(sealed, kept=kept)
    assert f"entry {caught.value.number} " in str(caught.value)
    return caught.value.number, caught.value.fault


def test_frozen_vector_holds() -> None:
    sealed = seal(entry(1, None))
    assert sealed.body == (
        '{"action":"site.approved","actor":{"address":"203.0.113.7",'
        '"id":"018f0000-0000-7000-8000-000000000002","kind":"person","name":"ada@example.org",'
        '"token_id":"018f0000-0000-7000-8000-000000000003"},"at":"2026-01-02T12:00:01.000000+00:00",'
        '"data":{"count":1,"share":1.0,"site":"oslo"},'
        '"federation_id":"018f0000-0000-7000-8000-000000000001","number":1,"previous":null,'
        '"version":1}'
    )
    assert sealed.digest == "4fd976f65e4db86caf75c71dfcda97a52e0d33833725783325730f4a60adefe5"


def test_an_entry_reads_back_as_it_was() -> None:
    made = entry(7, "0" * 64)
    assert read_entry(seal(made).body) == made
    assert read_line(write_line(seal(made))) == seal(made)


def test_the_time_is_written_in_utc_whatever_the_zone() -> None:
    there = replace(entry(1, None), at=(NOON).astimezone(timezone(timedelta(hours=5))))
    assert '"at":"2026-01-02T12:00:00.000000+00:00"' in seal(there).body


def test_what_canonical_json_cannot_carry_is_refused() -> None:
    with pytest.raises(CanonicalizationError):
        seal(replace(entry(1, None), data={"x": float("inf")}))


@pytest.mark.parametrize("length", [1, 2, 5])
@pytest.mark.parametrize("federation_id", [FEDERATION, None])
def test_an_honest_chain_verifies(length: int, federation_id: UUID | None) -> None:
    sealed = chain(length, federation_id=federation_id)
    found = verify_chain(sealed, kept=[head_of(sealed, n) for n in range(1, length + 1)])
    assert found is not None
    assert found.federation_id == federation_id
    assert (found.first, found.head) == (1, head_of(sealed, length))
    assert (found.since, found.until) == (
        NOON + timedelta(seconds=1),
        NOON + timedelta(seconds=length),
    )


def test_no_entries_are_no_chain() -> None:
    assert verify_chain([]) is None
    assert fault_in([], Head(3, "0" * 64)) == (1, ChainFault.TRUNCATED)


def test_a_stretch_verifies_after_a_kept_head_only() -> None:
    sealed = chain(6)
    found = verify_chain(sealed[3:], kept=[head_of(sealed, 1), head_of(sealed, 3)])
    assert found is not None
    assert (found.first, found.head.number) == (4, 6)
    assert fault_in(sealed[3:]) == (1, ChainFault.GAP)
    assert fault_in(sealed[3:], Head(3, "0" * 64)) == (4, ChainFault.UNLINKED)


def resealed(sealed: list[Sealed], number: int) -> list[Sealed]:
    """What a careful forger does: change an entry and its digest."""
    forged = replace(read_entry(sealed[number - 1].body), action="site.revoked")
    return [*sealed[: number - 1], seal(forged), *sealed[number:]]


def rewritten(sealed: list[Sealed], number: int) -> list[Sealed]:
    """What the database's owner does: change an entry and all that come after."""
    start = resealed(sealed, number)[:number]
    return [*start, *chain(len(sealed) - number, after=head_of(start, number))]


CHANGES: list[tuple[str, Callable[[list[Sealed]], list[Sealed]], int, ChainFault]] = [
    (
        "body",
        lambda s: [s[0], Sealed(s[1].body.replace("oslo", "Oslo"), s[1].digest), *s[2:]],
        2,
        ChainFault.CHANGED,
    ),
    ("digest", lambda s: [s[0], Sealed(s[1].body, "0" * 64), *s[2:]], 2, ChainFault.CHANGED),
    ("resealed", lambda s: resealed(s, 2), 3, ChainFault.UNLINKED),
    ("gap", lambda s: [s[0], *s[2:]], 2, ChainFault.GAP),
    ("first", lambda s: s[1:], 1, ChainFault.GAP),
    ("swapped", lambda s: [s[0], s[2], s[1], s[3]], 2, ChainFault.GAP),
    ("twice", lambda s: [*s[:2], *s[1:]], 3, ChainFault.REORDERED),
    (
        "other chain",
        lambda s: [*s[:2], *chain(2, after=head_of(s, 2), federation_id=None)],
        3,
        ChainFault.OTHER_CHAIN,
    ),
]


@pytest.mark.parametrize(("change", "number", "fault"), [c[1:] for c in CHANGES])
def test_a_changed_chain_names_the_first_wrong_entry(
    change: Callable[[list[Sealed]], list[Sealed]], number: int, fault: ChainFault
) -> None:
    assert fault_in(change(chain(4))) == (number, fault)


def test_a_rewritten_history_is_found_by_a_kept_head() -> None:
    honest = chain(5)
    forged = rewritten(honest, 2)
    assert verify_chain(forged) is not None  # it holds together
    assert fault_in(forged, head_of(honest, 4)) == (4, ChainFault.REPLACED)
    assert fault_in(forged, head_of(honest, 4), head_of(honest, 2)) == (2, ChainFault.REPLACED)


def test_a_cut_end_is_found_by_a_kept_head() -> None:
    honest = chain(5)
    assert verify_chain(honest[:3]) is not None
    assert fault_in(honest[:3], head_of(honest, 5)) == (4, ChainFault.TRUNCATED)
    assert fault_in(honest[:3], head_of(honest, 4)) == (4, ChainFault.TRUNCATED)


def test_two_heads_of_one_entry_cannot_both_be_right() -> None:
    honest = chain(3)
    assert fault_in(honest, head_of(honest, 2), Head(2, "0" * 64)) == (2, ChainFault.REPLACED)


@pytest.mark.parametrize(
    "body",
    [
        "[]",
        "not json",
        seal(entry(2, None)).body.replace('"version":1', '"version":2'),
        seal(entry(2, None)).body.replace(":", ": ", 1),
        seal(entry(2, None)).body.replace("{", '{"action":"x",', 1),  # a key twice
        seal(entry(2, None)).body.replace('"count":2', '"count":1e999'),
        "\ud800",
    ],
)
def test_a_body_that_is_no_entry_is_refused(body: str) -> None:
    with pytest.raises(ValueError, match="audit entry"):
        read_entry(body)


def test_a_body_with_its_digest_that_says_nothing_is_malformed() -> None:
    empty = Sealed("{}", "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a")
    assert fault_in([*chain(1), empty]) == (2, ChainFault.MALFORMED)


@pytest.mark.parametrize(
    "line", [b"", b"{}", b"[]", b"\xff", b'{"body":1,"digest":""}', b"[" * 9999]
)
def test_a_line_that_is_no_entry_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match="no exported entry"):
        read_line(line)


def test_a_head_is_text_and_back() -> None:
    head = Head(12, "ab" * 32)
    assert Head.parse(str(head)) == head
    for wrong in ("", "12", f"0:{'ab' * 32}", f"12:{'AB' * 32}", f" 12:{'ab' * 32}"):
        with pytest.raises(ValueError, match="NUMBER:SHA-256"):
            Head.parse(wrong)


HONEST = chain(4)
EXPORT = b"".join(write_line(sealed) for sealed in HONEST)


@given(st.integers(0, len(EXPORT) * 8 - 1))
def test_any_flipped_bit_of_an_export_is_noticed(bit: int) -> None:
    flipped = bytearray(EXPORT)
    flipped[bit // 8] ^= 1 << (bit % 8)
    with pytest.raises((BrokenChainError, ValueError)):
        verify_chain(
            [read_line(line) for line in bytes(flipped).split(b"\n")[:-1]],
            kept=[head_of(HONEST, 4)],
        )


@given(st.permutations(HONEST), st.integers(0, 4))
def test_no_other_order_or_selection_verifies(order: list[Sealed], length: int) -> None:
    shown = order[:length]
    if shown == HONEST:
        assert verify_chain(shown, kept=[head_of(HONEST, 4)]) is not None
    else:
        fault_in(shown, head_of(HONEST, 4))
