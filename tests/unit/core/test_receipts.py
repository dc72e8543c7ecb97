"""Receipts: one form, one digest, one chain."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError

from hansa_core import receipts
from hansa_core.canonical import canonical_json
from hansa_core.problems import ReceiptError
from hansa_core.receipts import Receipt, SealedReceipt, chain_problems, parse_body, seal
from hansa_core.signing import (
    Purpose,
    decode_base64,
    encode_base64,
    fingerprint,
    public_key,
    sign,
)
from hansa_core.states import RoundKind, RoundState, RunState, TaskState

VECTORS = Path(__file__).resolve().parents[2] / "vectors"
HUB = bytes(range(32))
AT = datetime(2026, 3, 1, 12, 30, 15, 250000, tzinfo=UTC)


def an_id(number: int) -> UUID:
    return UUID(int=0x0195_0000_0000_7000_8000_0000_0000_0000 + number)


def a_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def a_blob(text: str) -> receipts.Blob:
    return receipts.Blob(digest=a_digest(text), size=len(text))


def a_round() -> receipts.RoundAccount:
    """A round in which one of three sites failed, and one was not asked."""
    sites = [
        receipts.Site(id=an_id(10 + index), name=name, fingerprint=fingerprint(bytes([index]) * 32))
        for index, name in enumerate(("bergen", "oslo", "turku"))
    ]
    outcomes = (TaskState.DONE, TaskState.FAILED, TaskState.DONE)
    return receipts.RoundAccount(
        id=an_id(3),
        round_number=1,
        retry=0,
        kind=RoundKind.TRAIN,
        state=RoundState.COMPLETED,
        reason=None,
        opened_at=AT,
        closed_at=AT,
        threshold=2,
        target=None,
        base=a_blob("base"),
        cohort=tuple(
            receipts.CohortEntry(
                task_id=an_id(20 + index),
                site=site,
                evaluator=False,
                outcome=outcome,
                reason="out of memory" if outcome is TaskState.FAILED else None,
                report=None,
            )
            for index, (site, outcome) in enumerate(zip(sites, outcomes, strict=True))
        ),
        excluded=(receipts.Exclusion(site="åbo", reason="not drawn"),),
        updates=tuple(
            receipts.ReceivedUpdate(
                task_id=an_id(20 + index),
                site=sites[index],
                digest=a_digest(f"update {index}"),
                size=7,
                num_examples=10 + index,
                manifest=a_digest(f"manifest {index}"),
                staleness=0,
                weight=10 + index,
                scale=1.0,
                reason=None,
            )
            for index in (0, 2)
        ),
        aggregate=receipts.Aggregate(rule="weighted-mean/1", checkpoint=a_blob("next checkpoint")),
    )


def an_end() -> receipts.RunEnd:
    return receipts.RunEnd(
        cause=receipts.EndCause.FINISHED,
        state=RunState.COMPLETED,
        reason=None,
        stop_reason=None,
        sites=(),
        rounds_completed=1,
        checkpoint=a_blob("next checkpoint"),
        bytes_moved=2**40,
        started_at=AT,
        ended_at=AT,
    )


def a_receipt(number: int = 1, parent: str | None = None, **changes: Any) -> Receipt:
    """A receipt of a round; from the second on without an origin."""
    plan = '{"model":"tumor","name":"first","rounds":1}'
    fields: dict[str, Any] = {
        "format": receipts.FORMAT,
        "hub": fingerprint(public_key(HUB)),
        "federation": receipts.Named(id=an_id(1), name="nordic"),
        "run": receipts.Named(id=an_id(2), name="first"),
        "plan_digest": a_digest(plan),
        "number": number,
        "parent": parent,
        "origin": None
        if number > 1
        else receipts.Origin(
            checkpoint=a_blob("base"), parent_run=None, receipt=None, plan=plan, rounds_before=0
        ),
        "issued_at": AT,
        "software": {"hansa_core": "0.1.0", "hub": "0.1.0"},
        "round": a_round(),
        "end": None,
    }
    return Receipt(**(fields | changes))


def a_chain() -> list[tuple[SealedReceipt, Receipt]]:
    """Three receipts, the last one of the run's end."""
    chain: list[tuple[SealedReceipt, Receipt]] = []
    for number in (1, 2, 3):
        parent = chain[-1][0].digest if chain else None
        last: dict[str, Any] = {"round": None, "end": an_end()} if number == 3 else {}
        receipt = a_receipt(number, parent, **last)
        chain.append((seal(receipt, HUB), receipt))
    return chain


def walk(chain: list[tuple[SealedReceipt, Receipt]]) -> list[str]:
    """Return what is wrong with a chain."""
    wrong: list[str] = []
    parent: str | None = None
    before: Receipt | None = None
    for position, (sealed, receipt) in enumerate(chain, start=1):
        wrong += chain_problems(receipt, position=position, parent=parent, before=before)
        parent, before = hashlib.sha256(sealed.body).hexdigest(), receipt
    return wrong


def test_a_receipt_is_what_it_parses_to() -> None:
    for sealed, receipt in a_chain():
        assert parse_body(sealed.body) == receipt
        assert receipts.check_digest(sealed) is None
        assert receipts.check_signature(sealed, receipt) is None


def test_a_chain_in_order_holds() -> None:
    assert walk(a_chain()) == []


def of_format_1() -> Receipt:
    return a_receipt(format="hansa-receipt/1")


def of_format_2() -> Receipt:
    """A round whose strategy has state of its own on the server."""
    round_ = a_round()
    assert round_.aggregate is not None
    slots = {"momentum": a_blob("next momentum")}
    changes = {
        "aggregate": round_.aggregate.model_copy(update={"slots": slots}),
        "base_slots": {"momentum": a_blob("momentum")},
        "population": 3,
    }
    return a_receipt(format="hansa-receipt/2", round=round_.model_copy(update=changes))


def of_format_3() -> Receipt:
    """A round of a secure run, one of whose three sites dropped out."""
    secure = receipts.SecureAccount(
        roster=a_digest("roster"),
        roster_version=2,
        round=a_digest("header"),
        participants=(0, 1, 3),
        survivors=(0, 3),
        transcript=a_blob("transcript"),
        summed=a_blob("the mean delta"),
        summed_parts={"control": a_blob("the mean control")},
    )
    return a_receipt(round=a_round().model_copy(update={"secure": secure}))


@pytest.mark.parametrize(
    ("name", "receipt"),
    [
        ("receipt.json", of_format_1()),
        ("receipt-2.json", of_format_2()),
        ("receipt-3.json", of_format_3()),
    ],
    ids=["format-1", "format-2", "format-3"],
)
def test_the_vectors_are_what_they_were(name: str, receipt: Receipt) -> None:
    vector = json.loads((VECTORS / name).read_text())
    sealed = seal(receipt, decode_base64(vector["private_key"]))
    assert sealed.body.decode() == vector["body"]
    assert sealed.digest == vector["digest"]
    assert encode_base64(sealed.signature) == vector["signature"]
    assert encode_base64(sealed.public_key) == vector["public_key"]
    assert parse_body(vector["body"].encode()) == receipt


def test_a_receipt_of_the_first_format_has_no_slots() -> None:
    body = json.loads(canonical_json(of_format_2().model_dump(mode="json")))
    body["format"] = "hansa-receipt/1"
    with pytest.raises(ReceiptError, match="has no slots and no population"):
        parse_body(canonical_json(body))


@pytest.mark.parametrize("older", ["hansa-receipt/1", "hansa-receipt/2"])
def test_a_receipt_of_an_older_format_has_no_secure_sum(older: str) -> None:
    body = json.loads(canonical_json(of_format_3().model_dump(mode="json")))
    body["format"] = older
    with pytest.raises(ReceiptError, match="has no secure sum"):
        parse_body(canonical_json(body))


def test_every_flipped_bit_of_a_body_is_seen() -> None:
    sealed, receipt = a_chain()[0]
    for place in range(0, len(sealed.body), 7):
        body = bytearray(sealed.body)
        body[place] ^= 1
        changed = SealedReceipt(bytes(body), sealed.digest, sealed.signature, sealed.public_key)
        assert "the body has SHA-256" in str(receipts.check_digest(changed))
        assert "does not verify" in str(receipts.check_signature(changed, receipt))


def test_the_signature_is_of_this_purpose_and_this_key() -> None:
    sealed, receipt = a_chain()[0]
    other = sign(HUB, Purpose.UPDATE, sealed.body)
    wrong = SealedReceipt(sealed.body, sealed.digest, other, sealed.public_key)
    assert "does not verify" in str(receipts.check_signature(wrong, receipt))
    stranger = bytes(32)
    signed = sign(stranger, Purpose.RECEIPT, sealed.body)
    wrong = SealedReceipt(sealed.body, sealed.digest, signed, public_key(stranger))
    assert "it names the hub's key" in str(receipts.check_signature(wrong, receipt))


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ((0, 2, 1), "it has number 3, wanted 2"),
        ((0, 2), "it has number 3, wanted 2"),
        ((1, 2), "it has number 2, wanted 1"),
        ((0, 0, 1, 2), "it has number 1, wanted 2"),
        ((0, 2, 1), "it comes after the run's end"),
    ],
)
def test_a_receipt_moved_dropped_or_repeated_is_seen(order: tuple[int, ...], said: str) -> None:
    chain = a_chain()
    assert any(said in problem for problem in walk([chain[index] for index in order]))


def test_a_receipt_of_another_run_is_seen() -> None:
    chain = a_chain()
    other = a_receipt(2, chain[0][0].digest, run=receipts.Named(id=an_id(9), name="first"))
    assert any("its run is" in p for p in walk([chain[0], (seal(other, HUB), other)]))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"nothing",
        b"\xff",
        b'{"format":"hansa-receipt/3"}',
        b'{"format":"hansa-receipt/2"}',
        b'{"format":"hansa-receipt/1"}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_receipt_is_refused(body: bytes) -> None:
    with pytest.raises(ReceiptError):
        parse_body(body)


def test_another_spelling_of_the_same_receipt_is_refused() -> None:
    body = seal(a_receipt(), HUB).body
    for other in (body + b"\n", body.replace(b'"retry":0', b'"retry":0.0')):
        assert other != body
        with pytest.raises(ReceiptError, match="not the canonical JSON"):
            parse_body(other)


def test_an_unknown_field_is_refused() -> None:
    fields = json.loads(seal(a_receipt(), HUB).body) | {"colour": "red"}
    with pytest.raises(ReceiptError, match="colour"):
        parse_body(json.dumps(fields).encode())


def test_a_receipt_cannot_contradict_itself() -> None:
    with pytest.raises(ValidationError, match="either of a round or of a run's end"):
        a_receipt(end=an_end())
    with pytest.raises(ValidationError, match="do not go together"):
        a_receipt(2)
    with pytest.raises(ValidationError, match="a weight and a scale, or a reason"):
        receipts.ReceivedUpdate.model_validate(a_round().updates[0].model_dump() | {"weight": None})
