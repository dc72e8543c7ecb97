"""Immutable blobs, named by their SHA-256 inside a federation. Start at artifacts.py."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from app.settings import Settings
from app.storage.artifacts import Artifacts
from app.storage.filesystem import open_filesystem
from app.storage.s3 import open_s3


def open_artifacts(settings: Settings) -> Artifacts:
    """Return the store at `settings.artifacts_url`: file:///folder or s3://bucket/prefix.

    Raises:
        ValueError: the address is neither.
        StorageUnavailableError: the folder cannot be made.
    """
    address = urlsplit(settings.artifacts_url)
    if address.scheme == "file" and not address.netloc and address.path.startswith("/"):
        return open_filesystem(Path(unquote(address.path)))
    if address.scheme == "s3" and address.netloc:
        return open_s3(
            address.netloc,
            prefix=address.path.strip("/"),
            endpoint=settings.s3_endpoint,
            region=settings.s3_region,
            access_key_id=settings.s3_access_key_id,
            secret_access_key=settings.s3_secret_access_key.get_secret_value(),
        )
    raise ValueError(
        f"artifacts_url is {settings.artifacts_url!r}; file:///folder or s3://bucket/prefix wanted"
    )
