"""Where the storage tests keep their blobs, and what several of them need.

A test that kills, fills a disk or measures memory does it to a child process, which opens the
same store from the same HANSA_* variables.
"""

import hashlib
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import boto3
from botocore.config import Config
from pydantic import SecretStr

from app.settings import Settings
from app.storage.artifacts import Artifacts, chunks

ROOT = Path(__file__).parents[3]
FEDERATION = UUID("0198c0de-0000-7000-8000-000000000001")
MIB = 2**20
BUCKET = "artifacts"
KEY_ID, SECRET = "hub", "the-right-secret"
SECRETS = {"signing_key", "database_url", "redis_url", "s3_secret_access_key"}


@dataclass(frozen=True)
class Place:
    """Where one test's store is, and how to see what really lies there."""

    settings: Settings

    def environment(self) -> dict[str, str]:
        values = self.settings.model_dump()
        return {
            f"HANSA_{name.upper()}": value.get_secret_value() if name in SECRETS else str(value)
            for name, value in values.items()
            if name in {"artifacts_url", "s3_endpoint", "s3_access_key_id", *SECRETS}
        }

    def stored(self) -> list[str]:
        """Name every file or object, and every upload not completed."""
        url = self.settings.artifacts_url
        if url.startswith("file://"):
            root = Path(url.removeprefix("file://"))
            return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())
        prefix = url.removeprefix(f"s3://{BUCKET}/") + "/"
        client = s3_client(self.settings.s3_endpoint)
        objects = client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
        uploads = client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
        keys: list[str] = [found["Key"] for found in [*objects, *uploads]]
        return sorted(key.removeprefix(prefix) for key in keys if key.startswith(prefix))


def s3_client(endpoint: str) -> Any:  # boto3 makes its methods at run time: no types
    session = cast("Any", boto3)
    return session.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=KEY_ID,
        aws_secret_access_key=SECRET,
        config=Config(retries={"max_attempts": 0}),
    )


def settings_for(artifacts_url: str, endpoint: str = "", secret: str = SECRET) -> Settings:
    return Settings(
        database_url=SecretStr("unused"),
        redis_url=SecretStr("unused"),
        artifacts_url=artifacts_url,
        signing_key=SecretStr("A" * 43),
        s3_endpoint=endpoint,
        s3_access_key_id=KEY_ID,
        s3_secret_access_key=SecretStr(secret),
    )


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def put(artifacts: Artifacts, content: bytes, federation_id: UUID = FEDERATION) -> str:
    digest = hashlib.sha256(content).hexdigest()
    with artifacts.begin(federation_id) as writer:
        for start in range(0, len(content), MIB):
            writer.write(content[start : start + MIB])
        writer.commit(digest)
    return digest


def get(artifacts: Artifacts, digest: str, federation_id: UUID = FEDERATION) -> bytes:
    return b"".join(chunks(artifacts, federation_id, digest))


CHILD = """
import hashlib, os, resource, sys
from uuid import UUID
from app.settings import Settings
from app.storage import open_artifacts
from app.storage.artifacts import chunks
from app.domain.errors import StorageUnavailableError

federation = UUID(sys.argv[1])
artifacts = open_artifacts(Settings())
"""


def child_command(script: str) -> list[str]:
    return [sys.executable, "-c", CHILD + script, str(FEDERATION)]


def run_child(place: Place, script: str, *wrapper: str, **environment: str) -> str:
    done = subprocess.run(  # noqa: S603
        [*wrapper, *child_command(script)],
        env=os.environ | place.environment() | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
