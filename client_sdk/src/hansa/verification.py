"""Checking what a hub says of stored updates, offline: the signed bytes speak, not the hub.

A signature proves that the holder of the key signed these numbers for this run and round. That
the key is the site's is for people to check, by its fingerprint.
"""

from uuid import UUID

from pydantic import ValidationError

from hansa_core import wire
from hansa_core.problems import CoreError
from hansa_core.signing import Purpose, decode_base64, fingerprint, verify


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
