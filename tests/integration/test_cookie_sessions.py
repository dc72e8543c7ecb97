"""A browser's session: its cookie opens what its person may do, and nothing that it should not."""

from collections.abc import Generator
from datetime import timedelta
from http.cookies import Morsel, SimpleCookie

import httpx2
import pytest
from fastapi.testclient import TestClient

from app.api.auth import SESSION_COOKIE
from app.main import create_app
from app.services import sessions
from app.services.transactions import Transactions
from app.settings import Settings
from hansa_core import wire
from hansa_core.chunks import CONTENT_DIGEST, Checksum
from tests.audits import entries_of
from tests.factories import Federation, a_federation, a_model, a_run, sites_online
from tests.identities import PASSWORD, Person, make_person, now
from tests.serving import hub_on_a_socket
from tests.tensors import a_delta, digest_of, encode

CONSOLE = {"Hansa-Client": "console"}


@pytest.fixture
def federation(client: TestClient, transactions: Transactions, settings: Settings) -> Federation:
    return a_federation(client, transactions, settings)


@pytest.fixture
def browser(settings: Settings) -> Generator[TestClient]:
    """A client that keeps cookies, and sends no header that a page of another site cannot."""
    with TestClient(create_app(settings), raise_server_exceptions=False) as opened:
        yield opened


def log_in(client: TestClient, person: Person, password: str = PASSWORD) -> httpx2.Response:
    body = {"email": person.email, "password": password}
    return client.post("/v1/session/cookie", json=body)


def cookie_of(answer: httpx2.Response) -> Morsel[str]:
    (field,) = answer.headers.get_list("Set-Cookie")
    return SimpleCookie(field)[SESSION_COOKIE]


def test_a_login_answers_with_a_cookie_that_no_script_can_read(
    browser: TestClient, federation: Federation
) -> None:
    answer = log_in(browser, federation.owner)
    assert answer.status_code == 201, answer.text
    session = wire.CookieSession.model_validate_json(answer.content)
    assert session.user.email == federation.owner.email
    cookie = cookie_of(answer)
    assert cookie.value.startswith("hs_")
    assert cookie.value not in answer.text
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "strict", "/")
    assert cookie["secure"] == ""  # a browser would keep it from http://127.0.0.1 otherwise
    assert abs(int(cookie["max-age"]) - 12 * 3600) <= 1
    left = session.expires_at - now()
    assert abs(left - timedelta(hours=12)) < timedelta(minutes=1)
    assert browser.get("/v1/session").json()["id"] == str(federation.owner.id)


def test_behind_tls_and_a_prefix_the_cookie_goes_there_alone(
    settings: Settings, federation: Federation
) -> None:
    changed = settings.model_copy(update={"public_url": "https://example.org/hansa/"})
    with TestClient(create_app(changed), base_url="https://example.org") as browser:
        answer = browser.post(
            "/hansa/v1/session/cookie",
            json={"email": federation.owner.email, "password": PASSWORD},
        )
        cookie = cookie_of(answer)
        assert (cookie["path"], cookie["secure"]) == ("/hansa", True)
        assert browser.get("/hansa/v1/session").status_code == 200
        assert browser.get("/v1/session").status_code == 401  # it is not sent there
        gone = cookie_of(browser.delete("/hansa/v1/session", headers=CONSOLE))
        assert (gone["path"], gone["secure"], gone["max-age"]) == ("/hansa", True, "0")
        assert browser.get("/hansa/v1/session").status_code == 401


def test_a_refused_login_sets_no_cookie_and_is_entered(
    browser: TestClient, federation: Federation, transactions: Transactions
) -> None:
    answer = log_in(browser, federation.owner, "wrong")
    assert (answer.status_code, answer.json()["slug"]) == (401, "not-authenticated")
    assert "Set-Cookie" not in answer.headers
    assert entries_of(transactions, None)[-1].action == "session.refused"


def test_a_login_that_another_sites_form_can_send_is_refused(
    browser: TestClient, federation: Federation
) -> None:
    body = f'{{"email": "{federation.owner.email}", "password": "{PASSWORD}"}}'
    answer = browser.post(
        "/v1/session/cookie", content=body, headers={"Content-Type": "text/plain"}
    )
    assert answer.status_code == 422
    assert "Set-Cookie" not in answer.headers
    asked = browser.options(
        "/v1/session/cookie",
        headers={
            "Origin": "https://evil.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type,hansa-client",
        },
    )
    assert asked.status_code == 405
    assert not [name for name in asked.headers if name.startswith("access-control")]


def test_what_changes_something_needs_the_header_of_the_console(
    browser: TestClient, federation: Federation
) -> None:
    log_in(browser, federation.owner)
    path = f"/v1/federations/{federation.slug}"
    for headers in ({}, {"Hansa-Client": "other"}, {"Hansa-Client": ""}):
        for method, within, body in (
            ("PATCH", "", {"description": "changed"}),
            ("POST", "/invitations", {}),
            ("DELETE", f"/members/{federation.owner.id}", None),
            ("PUT", f"/members/{federation.owner.id}", {"role": "owner"}),
        ):
            answer = browser.request(method, f"{path}{within}", json=body, headers=headers)
            assert (answer.status_code, answer.json()["slug"]) == (403, "client-header-missing")
            assert "Hansa-Client: console" in answer.json()["detail"]
    assert browser.get(path).json()["description"] == ""
    changed = browser.patch(path, json={"description": "changed"}, headers=CONSOLE)
    assert (changed.status_code, browser.get(path).json()["description"]) == (200, "changed")


def test_a_bearer_token_comes_before_the_cookie_and_needs_no_header(
    browser: TestClient, federation: Federation, transactions: Transactions
) -> None:
    log_in(browser, federation.owner)
    other = make_person(transactions, "bo@example.org")
    assert browser.get("/v1/session", headers=other.headers).json()["email"] == other.email
    named = browser.post(
        "/v1/tokens", json={"name": "ci", "scopes": ["read"]}, headers=other.headers
    )
    assert named.status_code == 201
    for wrong in ("Bearer hs_nothing", "Basic YTpi", "Bearer"):
        answer = browser.get("/v1/session", headers={"Authorization": wrong})
        assert answer.status_code == 401, wrong


def test_logging_out_ends_the_session_and_clears_the_cookie(
    browser: TestClient, federation: Federation, transactions: Transactions
) -> None:
    secret = cookie_of(log_in(browser, federation.owner)).value
    assert browser.delete("/v1/session").status_code == 403
    answer = browser.delete("/v1/session", headers=CONSOLE)
    assert (answer.status_code, cookie_of(answer)["max-age"]) == (204, "0")
    assert SESSION_COOKIE not in browser.cookies
    assert browser.get("/v1/session").status_code == 401
    with transactions.begin("look") as tx, pytest.raises(Exception, match="revoked"):
        sessions.authenticate(tx, secret, now=now())
    last = entries_of(transactions, None)[-1]
    assert (last.action, last.actor.name) == ("session.closed", federation.owner.email)


def test_no_site_route_takes_a_cookie(browser: TestClient, federation: Federation) -> None:
    (site,) = sites_online(federation, "oslo")
    log_in(browser, federation.owner)
    for secret in (browser.cookies[SESSION_COOKIE], site.identity.token):
        browser.cookies.clear()
        browser.cookies.set(SESSION_COOKIE, secret)
        assert browser.get("/v1/site").status_code == 401
        claim = browser.post("/v1/tasks/claim", json={"sdk_version": "1"}, headers=CONSOLE)
        assert claim.status_code == 401, claim.text
        duties = browser.post("/v1/duties/claim", json={}, headers=CONSOLE)
        assert duties.status_code == 401, duties.text
    # The last one was the site's token, which is no person's either, wherever both may ask.
    for path in ("/v1/session", f"/v1/federations/{federation.slug}", f"/v1/rosters/{'0' * 64}"):
        assert browser.get(path).status_code == 401, path


def test_routes_for_sites_and_people_take_a_persons_cookie(
    browser: TestClient, federation: Federation
) -> None:
    path = f"/v1/rosters/{'0' * 64}"
    assert browser.get(path).status_code == 401
    log_in(browser, federation.owner)
    assert browser.get(path).status_code == 404


def test_chunks_are_sent_by_cookie_and_not_without_the_header(
    browser: TestClient, federation: Federation
) -> None:
    log_in(browser, federation.owner)
    data = encode(a_delta(1))
    path = f"/v1/federations/{federation.slug}/uploads/{digest_of(data)}"
    opened = browser.put(path, json={"size": len(data), "chunk_bytes": 2**20}, headers=CONSOLE)
    assert opened.is_success, opened.text
    checksum = Checksum()
    checksum.update(data)
    said = {CONTENT_DIGEST: checksum.field()}
    for _ in range(2):  # the second time the hub remembers who it is, and asks for the header still
        chunk = browser.put(f"{path}/chunks/0", content=data, headers=said | CONSOLE)
        assert chunk.is_success, chunk.text
        forged = browser.put(f"{path}/chunks/0", content=data, headers=said)
        assert (forged.status_code, forged.json()["slug"]) == (403, "client-header-missing")
    completed = browser.post(f"{path}/complete", headers=CONSOLE)
    assert completed.is_success, completed.text


def test_links_download_by_the_cookie_alone(browser: TestClient, federation: Federation) -> None:
    base = a_model(federation)
    path = f"/v1/federations/{federation.slug}"
    assert browser.get(f"{path}/artifacts/{base.digest}").status_code == 401
    log_in(browser, federation.owner)
    assert digest_of(browser.get(f"{path}/artifacts/{base.digest}").content) == base.digest
    assert browser.get(f"{path}/audit/export").text.startswith('{"body"')


def test_a_stream_is_followed_by_the_cookie_alone(
    settings: Settings, federation: Federation, browser: TestClient
) -> None:
    a_model(federation)
    quick = settings.model_copy(update={"event_keepalive_seconds": 0.2})
    with hub_on_a_socket(quick) as url:
        secret = cookie_of(log_in(browser, federation.owner)).value
        path = f"{url}/v1/federations/{federation.slug}/events/stream?after=0"
        assert httpx2.get(path).status_code == 401
        with httpx2.stream("GET", path, cookies={SESSION_COOKIE: secret}, timeout=30) as answer:
            assert answer.headers["Content-Type"].startswith("text/event-stream")
            lines = answer.iter_lines()
            assert next(line for line in lines if line.startswith("event: ")) == (
                "event: federation.created"
            )
            a_run(federation)
            assert "event: run.created" in lines
            browser.delete("/v1/session", headers=CONSOLE)
            for count, _ in enumerate(lines):  # it ends: the session is over
                assert count < 100


def test_the_description_says_that_people_may_use_either(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    schemes = document["components"]["securitySchemes"]
    assert schemes["console"]["in"] == "cookie"
    assert schemes["console"]["name"] == SESSION_COOKIE
    security = {
        name: {next(iter(way)) for way in operation["security"]}
        for methods in document["paths"].values()
        for operation in methods.values()
        if "security" in operation
        for name in (operation["operationId"],)
    }
    assert security["list_federations"] == {"person", "console"}
    assert security["claim_task"] == {"site"}
    assert [name for name, ways in security.items() if ways == {"person"}] == []
    assert [name for name, ways in security.items() if "site" in ways and len(ways) == 2] == []
