"""A stored update is checked by what its site signed, not by what the hub says of it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from hansa.verification import check_update
from hansa_core import wire
from hansa_core.canonical import canonical_json
from hansa_core.signing import (
    Purpose,
    encode_base64,
    fingerprint,
    generate_private_key,
    public_key,
    sign,
)


@dataclass(frozen=True, slots=True)
class Signed:
    update: wire.Update
    run_id: UUID


@pytest.fixture
def signed() -> Signed:
    private = generate_private_key()
    manifest = wire.UpdateManifest(
        task_id=uuid4(),
        run_id=uuid4(),
        site_id=uuid4(),
        round_number=3,
        checkpoint_digest="a" * 64,
        digest="b" * 64,
        size=17,
        num_examples=5,
        metrics={"loss": 0.25},
    )
    payload = canonical_json(manifest.model_dump(mode="json"))
    update = wire.Update(
        id=uuid4(),
        task_id=manifest.task_id,
        site_id=manifest.site_id,
        site_name="cleveland",
        digest=manifest.digest,
        size=manifest.size,
        num_examples=manifest.num_examples,
        manifest=payload.decode(),
        signature=encode_base64(sign(private, Purpose.UPDATE, payload)),
        public_key=encode_base64(public_key(private)),
        fingerprint=fingerprint(public_key(private)),
        created_at=datetime.now(UTC),
    )
    return Signed(update, manifest.run_id)


def test_a_signed_update_holds(signed: Signed) -> None:
    assert check_update(signed.update, run_id=signed.run_id) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("digest", "c" * 64),
        ("size", 18),
        ("num_examples", 6),
        ("site_id", uuid4()),
        ("task_id", uuid4()),
        ("fingerprint", "aaaa-bbbb"),
    ],
)
def test_what_the_hub_says_otherwise_is_named(signed: Signed, field: str, value: object) -> None:
    told = signed.update.model_copy(update={field: value})
    wrong = check_update(told, run_id=signed.run_id)
    assert wrong is not None
    assert str(value) in wrong


def test_a_changed_manifest_breaks_the_signature(signed: Signed) -> None:
    changed = signed.update.manifest.replace('"num_examples":5', '"num_examples":6')
    assert changed != signed.update.manifest
    told = signed.update.model_copy(update={"manifest": changed, "num_examples": 6})
    assert check_update(told, run_id=signed.run_id) is not None


def test_an_update_of_another_run_is_refused(signed: Signed) -> None:
    assert "run:" in (check_update(signed.update, run_id=uuid4()) or "")


def test_another_key_breaks_the_signature(signed: Signed) -> None:
    other = encode_base64(public_key(generate_private_key()))
    assert check_update(
        signed.update.model_copy(update={"public_key": other}), run_id=signed.run_id
    )
