"""Immutable blobs, named by their SHA-256 inside a federation. Start at artifacts.py."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from app.settings import Settings
from app.storage.artifacts import Artifacts
from app.storage.filesystem import FilesystemArtifacts, open_filesystem
from app.storage.s3 import open_s3
from app.storage.staging import disk_errors


@dataclass(frozen=True, slots=True)
class Capacity:
    """How much a store takes, in bytes."""

    free: int
    total: int


def open_artifacts(settings: Settings) -> Artifacts:
    """Return the store at `settings.artifacts_url`: file:///folder or s3://bucket/prefix.

    Raises:
        ValueError: the address is neither.
        StorageUnavailableError: the folder cannot be made.
    """
    address = urlsplit(settings.artifacts_url)
    if address.scheme == "file" and not address.netloc and address.path.startswith("/"):
        return open_filesystem(Path(unquote(address.path)), min_free_bytes=settings.min_free_bytes)
    if address.scheme == "s3" and address.netloc:
        return open_s3(
            address.netloc,
            prefix=address.path.strip("/"),
            endpoint=settings.s3_endpoint,
            region=settings.s3_region,
            access_key_id=settings.s3_access_key_id,
            secret_access_key=settings.s3_secret_access_key.get_secret_value(),
            presign=settings.s3_presign,
            public_endpoint=settings.s3_public_endpoint,
        )
    raise ValueError(
        f"artifacts_url is {settings.artifacts_url!r}; file:///folder or s3://bucket/prefix wanted"
    )


def capacity_of(artifacts: Artifacts) -> Capacity | None:
    """Return the space of a store on local disk; None: a bucket has no end that we know.

    Raises:
        StorageUnavailableError: the disk does not answer.
    """
    if not isinstance(artifacts, FilesystemArtifacts):
        return None
    with disk_errors("ask for the disk's space"):
        usage = shutil.disk_usage(artifacts.root)
    return Capacity(free=usage.free, total=usage.total)
