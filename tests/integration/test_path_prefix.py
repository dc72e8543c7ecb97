"""A hub below a path of its own: the SDK, the command, a browser, with and without the prefix."""

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import numpy as np
import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr, ValidationError

from app.main import create_app
from app.services.transactions import Transactions
from app.settings import Settings
from hansa.client import HansaClient
from hansa.identity import open_state_dir
from hansa.journal import store_tensors
from hansa.site import SiteClient, enroll
from hansa.transfers import TransferOptions
from hansa_core import wire
from tests.conftest import SIGNING_KEY
from tests.e2e.processes import Cli
from tests.factories import Federation, a_federation, a_run
from tests.identities import PASSWORD
from tests.serving import hub_on_a_socket

PREFIX = "/teams/hansa"
MIB = 2**20


@dataclass(frozen=True, slots=True)
class World:
    """A hub that knows its prefix."""

    hub: str  # its own address
    federation: Federation

    @property
    def address(self) -> str:
        """What people are told; and what a proxy that leaves the prefix asks for."""
        return f"{self.hub}{PREFIX}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    built = tmp_path / "dist"
    (built / "assets").mkdir(parents=True)
    (built / "index.html").write_text('<base href="__BASE__">')
    (built / "assets" / "index-1a2b.js").write_text("hello")
    return built


@pytest.fixture
def settings(settings: Settings, folder: Path) -> Settings:
    changes = {"public_url": f"http://127.0.0.1{PREFIX}", "console_folder": str(folder)}
    return settings.model_copy(update=changes)


@pytest.fixture
def world(client: TestClient, transactions: Transactions, settings: Settings) -> Generator[World]:
    federation = a_federation(client, transactions, settings)
    with hub_on_a_socket(settings) as hub:
        yield World(hub, federation)


def test_the_sdk_moves_models_and_follows_runs_below_the_prefix(
    world: World, tmp_path: Path
) -> None:
    slug = world.federation.slug
    numbers = np.random.default_rng(7).standard_normal(MIB, dtype=np.float32)
    source = store_tensors(tmp_path / "large.safetensors", {"w": numbers}).path
    transfers = TransferOptions(chunk_bytes=MIB)
    with HansaClient(world.address, world.federation.owner.token, transfers=transfers) as client:
        assert client.hub().fingerprint
        client.create_model(slug, "tumor")
        checkpoint = client.upload_checkpoint(slug, "tumor", source)
        target = tmp_path / "got.safetensors"
        client.download_checkpoint(slug, checkpoint.id, target)
        assert target.read_bytes() == source.read_bytes()
        run = a_run(world.federation)
        client.cancel_run(slug, run.id)
        kinds = [event.kind for event in client.watch(slug, run.id)]
    assert (kinds[0], kinds[-1]) == ("run.created", "run.cancelled")


def test_a_site_enrolls_where_its_invitation_says_and_asks_for_work(
    world: World, tmp_path: Path
) -> None:
    with HansaClient(world.address, world.federation.owner.token) as client:
        invitation = client.create_invitation(world.federation.slug, wire.InvitationCreate())
    assert f"hansa site enroll http://127.0.0.1{PREFIX} " in invitation.command
    state = open_state_dir(tmp_path / "site", create=True)
    with state.locked():
        enroll(state, world.address, invitation.token, name="oslo")
        with SiteClient(state.identity()) as site:
            assert site.view().name == "oslo"
            assert site.claim(wait_seconds=0, hardware=None) is None


def test_the_command_logs_in_below_the_prefix(world: World, tmp_path: Path) -> None:
    hansa = Cli(tmp_path / "config")
    owner = world.federation.owner
    hansa("login", world.address, "--email", owner.email, "--password-stdin", stdin=PASSWORD)
    assert world.federation.slug in hansa("federation", "list").stdout


@pytest.mark.parametrize("asked", [PREFIX, ""], ids=["left", "taken-away"])
def test_a_proxy_may_leave_the_prefix_or_take_it_away(world: World, asked: str) -> None:
    with httpx2.Client(base_url=world.hub, timeout=60) as browser:  # openapi.json takes its time
        assert browser.get(f"{asked}/healthz").json() == {"status": "ok"}
        for path in ("/", "/console"):
            sent = browser.get(f"{asked}{path}")
            assert (sent.status_code, sent.headers["Location"]) == (307, f"{PREFIX}/console/")
        page = browser.get(f"{asked}/console/federations/nordic")
        assert page.text == f'<base href="{PREFIX}/console/">'
        assert browser.get(f"{asked}/console/assets/index-1a2b.js").text == "hello"
        assert browser.get(f"{asked}/console/assets/none.js").status_code == 404
        described = browser.get(f"{asked}/openapi.json").json()
        assert {"url": PREFIX} in described["servers"]
        answer = browser.post(
            f"{asked}/v1/session/cookie",
            json={"email": world.federation.owner.email, "password": PASSWORD},
        )
        assert f"Path={PREFIX};" in answer.headers["Set-Cookie"]


def test_the_prefix_alone_is_the_hub_and_a_longer_name_is_not(world: World) -> None:
    sent = httpx2.get(world.address)
    assert (sent.status_code, sent.headers["Location"]) == (307, f"{PREFIX}/console/")
    for path in (f"{PREFIX}s/healthz", f"{PREFIX}{PREFIX}/healthz", "/teams/healthz"):
        assert httpx2.get(f"{world.hub}{path}").status_code == 404


def test_a_repeat_by_another_way_is_the_same_request(world: World) -> None:
    headers = world.federation.owner.headers | {"Idempotency-Key": "once"}
    path = f"/v1/federations/{world.federation.slug}/models"
    made = [
        httpx2.post(f"{hub}{path}", json={"name": "tumor"}, headers=headers)
        for hub in (world.hub, world.address)
    ]
    assert [answer.status_code for answer in made] == [201, 201]
    assert made[0].json() == made[1].json()


def test_a_prefix_does_not_lift_the_bound_of_bodies(settings: Settings) -> None:
    changed = settings.model_copy(
        update={"public_url": "http://127.0.0.1/artifacts/hansa", "max_body_bytes": 1024}
    )
    with TestClient(create_app(changed)) as client:
        for prefix in ("", "/artifacts/hansa"):
            answer = client.put(f"{prefix}/v1/federations/x/members/y", content=b"x" * 1025)
            assert answer.status_code == 413


@pytest.mark.parametrize(
    ("url", "prefix"),
    [
        ("https://example.org", ""),
        ("https://example.org/", ""),
        ("https://example.org:8443/hansa", "/hansa"),
        ("https://example.org/teams/hansa.v2/", "/teams/hansa.v2"),
        ("http://[::1]:8400/~ada", "/~ada"),
    ],
)
def test_the_prefix_is_the_path_of_the_public_address(url: str, prefix: str) -> None:
    settings = of_public_url(url)
    assert settings.path_prefix == prefix
    assert settings.is_public_over_tls == url.startswith("https")


@pytest.mark.parametrize(
    "url",
    [
        "example.org",
        "localhost:8400",
        "ftp://example.org",
        "https://",
        "https://example.org/v1",
        "https://example.org/console/hansa",
        "https://example.org//hansa",
        "https://example.org/../hansa",
        'https://example.org/"><script>',
        "https://example.org/a%20b",
        "https://example.org/hansa?x=1",
        "https://example.org/hansa#x",
    ],
)
def test_a_public_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="public_url"):
        of_public_url(url)


def of_public_url(url: str) -> Settings:
    return Settings(
        database_url=SecretStr("postgresql+psycopg://hansa@localhost/hansa"),
        redis_url=SecretStr("redis://localhost:1/0"),
        artifacts_url="file:///tmp/none",
        signing_key=SecretStr(SIGNING_KEY),
        public_url=url,
    )
