"""Moving a checkpoint's safetensors file to and from a hub."""

from pathlib import Path

from hansa.calls import within
from hansa.transfers import (
    OnBytes,
    TransferOptions,
    UploadRoute,
    digest_file,
    download_file,
    send_file,
)
from hansa.transport import Transport
from hansa_core import wire


def send_checkpoint(
    transport: Transport,
    federation: str,
    source: Path,
    *,
    options: TransferOptions,
    on_bytes: OnBytes | None,
) -> str:
    """Store a file at the hub and return its digest. Raises HansaError, OSError."""
    digest, size = digest_file(source)
    route = UploadRoute(
        whole=within(federation, "artifacts", digest),
        chunks=within(federation, "uploads", digest),
    )
    send_file(transport, route, source, size=size, options=options, on_bytes=on_bytes)
    return digest


def fetch_checkpoint(
    transport: Transport,
    federation: str,
    checkpoint: wire.Checkpoint,
    target: Path,
    *,
    options: TransferOptions,
    on_bytes: OnBytes | None,
) -> None:
    """Store a checkpoint's file at `target`. Raises HansaError, OSError."""
    download_file(
        transport,
        within(federation, "checkpoints", checkpoint.id, "content"),
        target,
        digest=checkpoint.digest,
        size=checkpoint.size,
        options=options,
        on_bytes=on_bytes,
    )
