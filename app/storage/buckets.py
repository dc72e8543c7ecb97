"""Calls of a bucket: its client's errors as ours, and no client that has been forked."""

import os
import re
from collections.abc import Generator
from contextlib import contextmanager

from obstore.exceptions import BaseError

from app.domain.errors import StorageFullError, StorageUnavailableError

_client_pid: int | None = None  # the process in which the client's threads run


@contextmanager
def bucket_errors(action: str) -> Generator[None]:
    """Turn the client's errors into StorageUnavailableError. A missing bucket is one, too."""
    global _client_pid
    if _client_pid not in (None, os.getpid()):
        raise RuntimeError("the bucket was used before this process was forked; see s3.py")
    _client_pid = os.getpid()
    try:
        yield
    except (BaseError, FileNotFoundError) as error:
        reason = _reason(error)
        kind = StorageFullError if reason.startswith("507") else StorageUnavailableError
        raise kind(f"the bucket could not {action}: {reason}") from error


def _reason(error: Exception) -> str:
    """Shorten the client's report, which goes on for pages, to a status and S3's own code."""
    report = str(error)
    status = re.search(r"status code: (\d{3}[ \w]*)", report)
    code = re.search(r"<Code>(\w+)</Code>", report)
    if status is None:
        return "it does not answer" if "error sending request" in report else type(error).__name__
    return " ".join(found[1] for found in (status, code) if found)
