"""The HTTP layer against a real server: retries, problems, cut transfers, clear errors."""

import hashlib
import socket
from collections.abc import Generator
from pathlib import Path

import pytest
from starlette.responses import PlainTextResponse, Response

from hansa.client import HansaClient
from hansa.errors import (
    BadAnswerError,
    CorruptDownloadError,
    LocalError,
    NotAuthenticatedError,
    RefusedError,
    RetryableError,
    UnreachableError,
)
from hansa.transfers import download_file, upload_file
from hansa.transport import FixedToken, RetryPolicy, Transport
from hansa_core import wire
from tests.unit.client.cutting_proxy import CuttingProxy
from tests.unit.client.fake_hub import (
    PASSWORD,
    SESSION_TOKEN,
    FakeHub,
    problem,
    serving,
)

QUICK = RetryPolicy(attempts=3, first_delay_seconds=0.001, max_delay_seconds=0.002)
CONTENT = bytes(range(256)) * 4096 * 3  # 3 MiB
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def hub() -> Generator[FakeHub]:
    with serving(FakeHub()) as served:
        served.tokens.add("mine")
        yield served


@pytest.fixture
def transport(hub: FakeHub) -> Generator[Transport]:
    with Transport(hub.url, FixedToken("mine"), retry=QUICK) as opened:
        yield opened


def test_transient_failures_are_repeated_until_the_answer_comes(
    hub: FakeHub, transport: Transport
) -> None:
    for status in (502, 503):
        hub.fail("GET", "/v1/federations", lambda s=status: problem(s, "not-ready"))
    page = transport.call("GET", "/v1/federations", wire.Page[wire.Federation])
    assert [item.slug for item in page.items] == ["alpha", "beta"]
    assert hub.count("GET /v1/federations") == 3


def test_repetition_is_bounded_and_ends_in_a_retryable_error(
    hub: FakeHub, transport: Transport
) -> None:
    hub.fail("GET", "/v1/federations", lambda: problem(503, "not-ready", "no database"), times=99)
    with pytest.raises(RetryableError, match="no database") as caught:
        transport.send("GET", "/v1/federations")
    assert caught.value.slug == "not-ready"
    assert hub.count("GET /v1/federations") == QUICK.attempts


def test_retry_after_is_honoured(hub: FakeHub) -> None:
    waits: list[float] = []
    answers = [Response(status_code=429, headers={"Retry-After": "7"})]
    hub.fail("GET", "/v1/federations", answers.pop)
    with Transport(hub.url, FixedToken("mine"), retry=QUICK, sleep=waits.append) as transport:
        transport.send("GET", "/v1/federations")
    assert waits == [7.0]


def test_calls_that_may_not_be_repeated_are_sent_once(hub: FakeHub, transport: Transport) -> None:
    hub.fail("GET", "/v1/federations", lambda: problem(503, "not-ready"), times=99)
    with pytest.raises(RetryableError):
        transport.send("GET", "/v1/federations", repeat=False)
    assert hub.count("GET /v1/federations") == 1


def test_problem_becomes_a_refusal_with_its_slug_and_is_not_repeated(
    hub: FakeHub, transport: Transport
) -> None:
    hub.fail("GET", "/v1/federations", lambda: problem(403, "forbidden", "auditors only read"))
    with pytest.raises(RefusedError, match="auditors only read") as caught:
        transport.send("GET", "/v1/federations")
    assert caught.value.slug == "forbidden"
    assert hub.count("GET /v1/federations") == 1


def test_refused_token_that_cannot_be_renewed_says_so(hub: FakeHub) -> None:
    with (
        Transport(hub.url, FixedToken("other"), retry=QUICK) as transport,
        pytest.raises(NotAuthenticatedError),
    ):
        transport.send("GET", "/v1/federations")


def test_closed_port_is_one_clear_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (
        Transport(f"http://127.0.0.1:{port}", retry=QUICK) as transport,
        pytest.raises(UnreachableError) as caught,
    ):
        transport.send("GET", "/v1/federations")
    assert str(caught.value) == (
        f"cannot reach the hub at http://127.0.0.1:{port}: connection refused"
    )
    assert "running" in (caught.value.hint or "")


def test_something_that_is_no_hub_is_named_as_such(hub: FakeHub, transport: Transport) -> None:
    hub.fail("GET", "/v1/federations", lambda: PlainTextResponse("<html>hello</html>"))
    with pytest.raises(BadAnswerError) as caught:
        transport.call("GET", "/v1/federations", wire.Page[wire.Federation])
    assert "Hansa hub" in (caught.value.hint or "")


def test_redirect_is_not_followed_with_the_token(hub: FakeHub, transport: Transport) -> None:
    hub.fail(
        "GET",
        "/v1/federations",
        lambda: Response(status_code=302, headers={"Location": "http://elsewhere.example/"}),
    )
    with pytest.raises(LocalError, match=r"elsewhere\.example"):
        transport.send("GET", "/v1/federations")


@pytest.mark.parametrize("url", ["hub.example", "ftp://hub.example", "http://", "https://h/?a=b"])
def test_address_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(LocalError, match="address"):
        Transport(url)


def test_cut_download_goes_on_where_it_stopped(hub: FakeHub, tmp_path: Path) -> None:
    hub.blobs[DIGEST] = CONTENT
    target = tmp_path / "model"
    with CuttingProxy(hub.port) as proxy, Transport(proxy.url, retry=QUICK) as transport:
        proxy.cut_answers_after = [1_000_000, 1_000_000]
        download_file(transport, f"/open/{DIGEST}", target, digest=DIGEST, size=len(CONTENT))
        assert proxy.cuts == 2
    assert target.read_bytes() == CONTENT
    starts = [int(value.removeprefix("bytes=").rstrip("-")) for value in hub.ranges]
    assert len(starts) == 2
    assert 0 < starts[0] < starts[1] < len(CONTENT)
    assert not (tmp_path / "model.part").exists()


def test_download_uses_what_an_earlier_process_left(
    hub: FakeHub, transport: Transport, tmp_path: Path
) -> None:
    hub.blobs[DIGEST] = CONTENT
    (tmp_path / "model.part").write_bytes(CONTENT[:2_000_000])
    target = tmp_path / "model"
    download_file(transport, f"/open/{DIGEST}", target, digest=DIGEST, size=len(CONTENT))
    assert hub.ranges == ["bytes=2000000-"]
    assert target.read_bytes() == CONTENT


def test_damaged_leftover_is_fetched_anew(
    hub: FakeHub, transport: Transport, tmp_path: Path
) -> None:
    hub.blobs[DIGEST] = CONTENT
    (tmp_path / "model.part").write_bytes(b"x" * 1000)
    target = tmp_path / "model"
    download_file(transport, f"/open/{DIGEST}", target, digest=DIGEST, size=len(CONTENT))
    assert target.read_bytes() == CONTENT


def test_wrong_bytes_never_appear_under_the_name(
    hub: FakeHub, transport: Transport, tmp_path: Path
) -> None:
    hub.blobs[DIGEST] = CONTENT[:-1] + b"!"
    target = tmp_path / "model"
    with pytest.raises(CorruptDownloadError, match=DIGEST):
        download_file(transport, f"/open/{DIGEST}", target, digest=DIGEST, size=len(CONTENT))
    assert list(tmp_path.iterdir()) == []


def test_more_bytes_than_announced_are_refused(
    hub: FakeHub, transport: Transport, tmp_path: Path
) -> None:
    hub.blobs[DIGEST] = CONTENT
    with pytest.raises(BadAnswerError, match="announced"):
        download_file(transport, f"/open/{DIGEST}", tmp_path / "model", digest=DIGEST, size=100)


def test_cut_upload_is_sent_again_whole(hub: FakeHub, tmp_path: Path) -> None:
    source = tmp_path / "delta"
    source.write_bytes(CONTENT)
    with CuttingProxy(hub.port) as proxy, Transport(proxy.url, retry=QUICK) as transport:
        proxy.cut_requests_after = [1_500_000]
        receipt = upload_file(
            transport, f"/open/{DIGEST}", source, wire.BlobReceipt, size=len(CONTENT)
        )
        assert proxy.cuts == 1
    assert receipt == wire.BlobReceipt(digest=DIGEST, size=len(CONTENT))
    assert hub.blobs[DIGEST] == CONTENT


def test_file_that_shrank_is_named(transport: Transport, tmp_path: Path) -> None:
    source = tmp_path / "delta"
    source.write_bytes(b"short")
    with pytest.raises(LocalError, match="5 bytes, wanted 10"):
        upload_file(transport, f"/open/{DIGEST}", source, wire.BlobReceipt, size=10)


def test_listing_is_fetched_page_by_page(hub: FakeHub) -> None:
    with HansaClient(hub.url, "mine", retry=QUICK) as client:
        listing = client.federations()
        assert next(listing).slug == "alpha"
        assert hub.count("GET /v1/federations") == 1
        assert [item.slug for item in listing] == ["beta", "gamma"]
    assert hub.count("GET /v1/federations") == 2


def test_password_reaches_the_hub_in_clear_and_a_wrong_one_is_refused(hub: FakeHub) -> None:
    with HansaClient(hub.url, retry=QUICK) as client:
        assert client.login("ada@example.org", PASSWORD).token == SESSION_TOKEN
        with pytest.raises(NotAuthenticatedError, match="wrong"):
            client.login("ada@example.org", "guess")
