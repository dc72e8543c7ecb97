"""Checking a stored update: the signed bytes speak, not the hub.

A signature proves that the holder of the key signed these numbers for this run and round. That
the key is the site's is for people to check, by its fingerprint.
"""

import hashlib
import math
from uuid import UUID

from pydantic import ValidationError

from hansa.verification.reports import Check, Ledger
from hansa_core import wire
from hansa_core.aggregation.staleness import staleness_scale
from hansa_core.plans import RunPlan
from hansa_core.problems import CoreError
from hansa_core.receipts import ReceivedUpdate
from hansa_core.signing import Purpose, decode_base64, fingerprint, verify

# Of the scale: the power is the machine's, which may differ elsewhere in the last bit.
CLOSE_ENOUGH = 1e-9


def check_update(update: wire.Update, *, run_id: UUID) -> str | None:
    """Return what is wrong with an update of `run_id`, or None when its signature holds."""
    try:
        key = decode_base64(update.public_key)
        payload = update.manifest.encode()
        verify(key, Purpose.UPDATE, payload, decode_base64(update.signature))
        manifest = wire.UpdateManifest.model_validate_json(payload)
    except (CoreError, ValidationError) as error:
        return str(error)
    told = {
        "run": (manifest.run_id, run_id),
        "task": (manifest.task_id, update.task_id),
        "site": (manifest.site_id, update.site_id),
        "digest": (manifest.digest, update.digest),
        "size": (manifest.size, update.size),
        "num_examples": (manifest.num_examples, update.num_examples),
        "fingerprint": (fingerprint(key), update.fingerprint),
    }
    wrong = [
        f"{name}: signed {signed}, the hub says {said}"
        for name, (signed, said) in told.items()
        if signed != said
    ]
    return "; ".join(wrong) or None


def check_received(
    ledger: Ledger,
    subject: str,
    update: ReceivedUpdate,
    stored: wire.Update | str,
    *,
    run_id: UUID,
    round_number: int,
    checkpoints: tuple[str, ...],
    plan: RunPlan | None,
) -> None:
    """Check what a receipt says of an update against what its site signed, and against the plan.

    `checkpoints` are the run's up to the round's base, the newest last; a str for `stored` is why
    the signed manifest is not there.
    """
    if isinstance(stored, str):
        ledger.skip(Check.MANIFEST, subject, f"no signed manifest: {stored}")
    else:
        wrong = check_update(stored, run_id=run_id)
        if wrong is None:
            wrong = _differs(update, stored, round_number, checkpoints)
        ledger.settle(Check.MANIFEST, subject, wrong)
        if update.staleness >= len(checkpoints):
            why = f"the checkpoint of {update.staleness} rounds before is in no receipt"
            ledger.skip(Check.LINEAGE, subject, why)
    if update.weight is None or update.scale is None:
        return
    if update.weight != update.num_examples:
        wrong = f"it counted for {update.weight} examples, {update.num_examples} were signed"
        ledger.fail(Check.WEIGHT, subject, wrong)
    elif plan is None:
        ledger.skip(Check.WEIGHT, subject, "the plan, which says what staleness costs, is unknown")
    else:
        wanted = staleness_scale(plan.buffer, update.staleness)
        same = math.isclose(update.scale, wanted, rel_tol=CLOSE_ENOUGH)
        if plan.buffer is None and update.staleness:
            same = False
        wrong = f"it was scaled by {update.scale!r} at staleness {update.staleness}, not {wanted!r}"
        ledger.settle(Check.WEIGHT, subject, None if same else wrong)


def _differs(
    update: ReceivedUpdate, stored: wire.Update, round_number: int, checkpoints: tuple[str, ...]
) -> str | None:
    """Return where a receipt says otherwise than the manifest, whose signature holds."""
    payload = stored.manifest.encode()
    manifest = wire.UpdateManifest.model_validate_json(payload)
    told: dict[str, tuple[object, object]] = {
        "the manifest's SHA-256": (hashlib.sha256(payload).hexdigest(), update.manifest),
        "the task": (manifest.task_id, update.task_id),
        "the site": (manifest.site_id, update.site.id),
        "the key": (stored.fingerprint, update.site.fingerprint),
        "the digest": (manifest.digest, update.digest),
        "the size": (manifest.size, update.size),
        "the number of examples": (manifest.num_examples, update.num_examples),
        "the round": (manifest.round_number, round_number - update.staleness),
    }
    if update.staleness < len(checkpoints):
        told["the checkpoint"] = (manifest.checkpoint_digest, checkpoints[-1 - update.staleness])
    wrong = [
        f"{name}: signed {signed}, the receipt says {said}"
        for name, (signed, said) in told.items()
        if signed != said
    ]
    return "; ".join(wrong) or None
