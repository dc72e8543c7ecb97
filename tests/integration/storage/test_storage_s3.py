"""What only the store in a bucket promises."""

from collections.abc import Generator
from contextlib import contextmanager

import pytest
from moto.server import ThreadedMotoServer

from app.domain.errors import StorageUnavailableError
from app.storage import open_artifacts
from app.storage.artifacts import probe
from tests.integration.storage.places import (
    BUCKET,
    FEDERATION,
    SECRET,
    Place,
    free_ports,
    get,
    put,
    run_child,
    s3_client,
    settings_for,
)


def test_wrong_secret_is_refused_by_a_server_that_checks(seaweedfs: str) -> None:
    store = open_artifacts(settings_for(f"s3://{BUCKET}/p", seaweedfs, "wrong"))
    with pytest.raises(StorageUnavailableError, match="403 Forbidden"):
        probe(store)
    with pytest.raises(StorageUnavailableError, match="403 Forbidden"):
        store.stat(FEDERATION, "0" * 64)


def test_a_server_that_comes_back_takes_what_it_refused() -> None:
    (port,) = free_ports(1)
    place = Place(settings_for(f"s3://{BUCKET}/outage", f"http://127.0.0.1:{port}"))
    store = open_artifacts(place.settings)
    content = b"before, while and after"
    with running_moto(port):
        digest = put(store, content)
        store.require_usable()
    with pytest.raises(StorageUnavailableError, match="does not answer"):
        store.require_usable()
    with pytest.raises(StorageUnavailableError, match="does not answer"):
        put(store, b"something new")
    with pytest.raises(StorageUnavailableError, match="does not answer"):
        get(store, digest)
    with running_moto(port):
        store.require_usable()
        assert get(store, put(store, b"something new")) == b"something new"
        assert get(store, put(store, content)) == content


def test_a_missing_bucket_is_no_missing_blob(moto: str) -> None:
    store = open_artifacts(settings_for("s3://no-such-bucket/p", moto, SECRET))
    with pytest.raises(StorageUnavailableError, match="NoSuchBucket"):
        get(store, "ab" * 32)


@contextmanager
def running_moto(port: int) -> Generator[None]:
    """Run a server with an empty bucket on a port."""
    server = ThreadedMotoServer("127.0.0.1", port=port, verbose=False)
    server.start()
    client = s3_client(f"http://127.0.0.1:{port}")
    if BUCKET not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
        client.create_bucket(Bucket=BUCKET)
    try:
        yield
    finally:
        server.stop()


@pytest.mark.parametrize("server", ["moto", "seaweedfs"])
def test_missing_bucket_is_reported(server: str, request: pytest.FixtureRequest) -> None:
    endpoint = request.getfixturevalue(server)
    store = open_artifacts(settings_for("s3://no-such-bucket/p", endpoint, SECRET))
    with pytest.raises(StorageUnavailableError, match=r"store a blob: 404 .*NoSuchBucket"):
        probe(store)


def test_dead_endpoint_is_reported() -> None:
    (port,) = free_ports(1)
    store = open_artifacts(settings_for(f"s3://{BUCKET}", f"http://127.0.0.1:{port}"))
    with pytest.raises(StorageUnavailableError, match="it does not answer"):
        probe(store)


def test_bucket_used_before_a_fork_is_refused_after_it(moto: str) -> None:
    place = Place(settings_for(f"s3://{BUCKET}/fork", moto))
    script = """
artifacts.stat(federation, "0" * 64)
if os.fork():
    print(os.waitstatus_to_exitcode(os.wait()[1]))
else:
    try:
        artifacts.stat(federation, "0" * 64)
    except RuntimeError as error:
        os._exit(7 if "forked" in str(error) else 8)
"""
    assert run_child(place, script) == "7\n"
