"""The console's files: what is served how, what is not, and what a hub without them says."""

import gzip
import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response
from pydantic import SecretStr

from app.main import create_app
from app.settings import Settings

PAGE = """<!doctype html>
<html><head>
<base href="__BASE__"><meta name="csp-nonce" content="__NONCE__">
<script type="module" src="assets/index-1a2b.js"></script>
</head><body><div id="root"></div></body></html>
"""
SCRIPT = "console.log('hello');\n" * 100
SIGNING_KEY = "A" * 43
FOR_EVER = "public, max-age=31536000, immutable"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a build looks like, and a secret beside it."""
    built = tmp_path / "dist"
    (built / "assets").mkdir(parents=True)
    (built / "index.html").write_text(PAGE)
    (built / "index.html.gz").write_bytes(gzip.compress(PAGE.encode()))
    (built / "icon.svg").write_text("<svg/>")
    (built / ".hidden").write_text("secret")
    (built / "assets" / "index-1a2b.js").write_text(SCRIPT)
    (built / "assets" / "index-1a2b.js.gz").write_bytes(gzip.compress(SCRIPT.encode()))
    (built / "assets" / "index-3c4d.css").write_text("body {}")
    (built / "assets" / "inter-5e6f.woff2").write_bytes(b"wOF2")
    (tmp_path / "secret.txt").write_text("secret")
    (built / "assets" / "link.txt").symlink_to(tmp_path / "secret.txt")
    return built


@pytest.fixture
def browser(folder: Path) -> TestClient:
    """A browser of a hub that was not started: files need neither database nor broker."""
    settings = Settings(
        database_url=SecretStr("postgresql+psycopg://hansa@localhost/hansa"),
        redis_url=SecretStr("redis://localhost:1/0"),
        signing_key=SecretStr(SIGNING_KEY),
        artifacts_url=f"file://{folder.parent}/artifacts",
        log_format="console",
        console_folder=str(folder),
    )
    return TestClient(create_app(settings), follow_redirects=False)


def policy_of(answer: Response) -> dict[str, str]:
    """Return the content security policy, directive by directive."""
    parts = answer.headers["Content-Security-Policy"].split("; ")
    return {name: rest for name, _, rest in (part.partition(" ") for part in parts)}


def require_guarded(answer: Response) -> None:
    """Every answer of the console keeps browsers from guessing, framing and telling."""
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert policy_of(answer)["frame-ancestors"] == "'none'"


def test_the_page_has_its_address_and_a_nonce_of_its_own(browser: TestClient) -> None:
    nonces: set[str] = set()
    for _ in range(2):
        answer = browser.get("/console/")
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert answer.headers["Cache-Control"] == "no-cache"
        assert '<base href="/console/">' in answer.text
        assert "__" not in answer.text
        found = re.search(r'name="csp-nonce" content="([\w-]{22,})"', answer.text)
        assert found is not None
        nonces.add(found[1])
        require_guarded(answer)
        assert policy_of(answer) == {
            "default-src": "'self'",
            "script-src": "'self'",
            "style-src": f"'self' 'nonce-{found[1]}'",
            "img-src": "'self' data:",
            "connect-src": "'self'",
            "font-src": "'self'",
            "object-src": "'none'",
            "base-uri": "'self'",
            "frame-ancestors": "'none'",
            "form-action": "'self'",
        }
    assert len(nonces) == 2


@pytest.mark.parametrize(
    "path",
    [
        "index.html",
        "federations/nordic/runs",
        "federations/nordic/runs/heart.v2",
        "assets",
        "a/" * 40,
        "x" * 3000,
        "%2e%2e/secret.txt",
        "..%2fsecret.txt",
        "%00",
        "%C3%A9",
    ],
)
def test_a_deep_link_is_answered_with_the_page(browser: TestClient, path: str) -> None:
    answer = browser.get(f"/console/{path}", headers={"Accept-Encoding": "gzip"})
    assert answer.status_code == 200
    assert '<base href="/console/">' in answer.text
    assert "Content-Encoding" not in answer.headers  # the packed page has no address in it


def test_hashed_files_are_kept_for_ever(browser: TestClient) -> None:
    for name, kind in (
        ("index-1a2b.js", "text/javascript; charset=utf-8"),
        ("index-3c4d.css", "text/css; charset=utf-8"),
        ("inter-5e6f.woff2", "font/woff2"),
    ):
        answer = browser.get(f"/console/assets/{name}")
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, kind)
        assert answer.headers["Cache-Control"] == FOR_EVER
        require_guarded(answer)
    icon = browser.get("/console/icon.svg")
    assert (icon.text, icon.headers["Content-Type"]) == ("<svg/>", "image/svg+xml")
    assert icon.headers["Cache-Control"] == "public, max-age=3600"
    require_guarded(icon)


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [
        ("gzip, deflate, br", True),
        ("br;q=1.0, GZIP;q=0.5", True),
        ("*", True),
        ("", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000, br", False),
    ],
)
def test_a_packed_file_is_sent_to_who_takes_it(
    browser: TestClient, folder: Path, accepted: str, packed: bool
) -> None:
    path = "/console/assets/index-1a2b.js"
    answer = browser.get(path, headers={"Accept-Encoding": accepted})
    assert answer.text == SCRIPT
    assert answer.headers["Vary"] == "Accept-Encoding"
    assert answer.headers.get("Content-Encoding") == ("gzip" if packed else None)
    file = folder / "assets" / ("index-1a2b.js.gz" if packed else "index-1a2b.js")
    assert int(answer.headers["Content-Length"]) == file.stat().st_size
    plain = browser.get("/console/assets/index-3c4d.css", headers={"Accept-Encoding": accepted})
    assert "Content-Encoding" not in plain.headers


@pytest.mark.parametrize(
    "name",
    [
        "index-0000.js",
        "",
        "%2e%2e/%2e%2e/secret.txt",
        "..%2f..%2fsecret.txt",
        "..%5c..%5csecret.txt",
        "%2e%2e/.hidden",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "index-1a2b.js%00",
        "index-1a2b.js/x",
        "link.txt",
        "x" * 3000,
    ],
)
def test_no_other_file_is_served(browser: TestClient, name: str) -> None:
    answer = browser.get(f"/console/assets/{name}")
    assert (answer.status_code, answer.json()["slug"]) == (404, "not-found")
    hidden = browser.get("/console/.hidden")
    assert "secret" not in hidden.text


def test_who_asks_for_the_hub_is_sent_to_the_console(browser: TestClient) -> None:
    for path in ("/", "/console"):
        answer = browser.get(path)
        assert (answer.status_code, answer.headers["Location"]) == (307, "/console/")
    assert browser.head("/console/").status_code == 200
    assert browser.post("/console/").status_code == 405


def test_a_new_build_shows_without_a_restart(browser: TestClient, folder: Path) -> None:
    (folder / "index.html").write_text(PAGE.replace("1a2b", "7788"))
    (folder / "assets" / "index-7788.js").write_text("new")
    assert "index-7788.js" in browser.get("/console/").text
    assert browser.get("/console/assets/index-7788.js").text == "new"


def test_a_hub_without_a_console_says_how_to_build_it(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "nothing"
    changed = settings.model_copy(update={"console_folder": str(missing)})
    with TestClient(create_app(changed)) as browser:
        assert capsys.readouterr().err.count("console_not_built") == 1
        for path in ("/console/", "/console/federations/nordic"):
            answer = browser.get(path)
            assert answer.status_code == 503
            assert "<code>make console</code>" in answer.text
            require_guarded(answer)
            nonce = re.search(r'<style nonce="([\w-]+)">', answer.text)
            assert nonce is not None
            assert policy_of(answer)["style-src"] == f"'self' 'nonce-{nonce[1]}'"
            assert not re.search(r"(src|href)=", answer.text)
        assert browser.get("/console/assets/index-1a2b.js").status_code == 404
        assert browser.get("/healthz").status_code == 200
        missing.mkdir()
        (missing / "index.html").write_text(PAGE)
        assert browser.get("/console/").status_code == 200


def test_a_hub_with_a_console_says_nothing_of_it(
    settings: Settings, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = settings.model_copy(update={"console_folder": str(folder)})
    with TestClient(create_app(changed)):
        assert "console" not in capsys.readouterr().err


def test_the_console_is_that_of_the_checkout_unless_named(settings: Settings) -> None:
    checkout = Path(__file__).resolve().parents[2]
    assert settings.console == checkout / "admin_ui" / "dist"
