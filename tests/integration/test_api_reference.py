"""The API's own page: what it loads, what it may load, and what a hub without a build says."""

import gzip
import re
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from app.main import create_app
from app.settings import Settings

SIGNING_KEY = "A" * 43
PROGRAM = "const SwaggerUIBundle = () => {};\n" * 100
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'"
)


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """What a build of the console has for the page."""
    files = tmp_path / "dist" / "reference"
    files.mkdir(parents=True)
    (files / "swagger-ui-bundle.js").write_text(PROGRAM)
    (files / "swagger-ui-bundle.js.gz").write_bytes(gzip.compress(PROGRAM.encode()))
    (files / "swagger-ui.css").write_text("body {}")
    (files.parent / "favicon.svg").write_text("<svg/>")
    return files.parent


def a_browser(console: Path, public_url: str = "http://127.0.0.1:8400") -> TestClient:
    """A browser of a hub that was not started: files need neither database nor broker."""
    settings = Settings(
        database_url=SecretStr("postgresql+psycopg://hansa@localhost/hansa"),
        redis_url=SecretStr("redis://localhost:1/0"),
        signing_key=SecretStr(SIGNING_KEY),
        artifacts_url=f"file://{console.parent}/artifacts",
        log_format="console",
        console_folder=str(console),
        public_url=public_url,
    )
    return TestClient(create_app(settings), follow_redirects=False)


@pytest.mark.parametrize("prefix", ["", "/teams/hansa"])
@pytest.mark.parametrize("left", [True, False], ids=["prefix-left", "prefix-taken-away"])
def test_everything_the_page_names_is_a_file_of_the_hub(
    built: Path, prefix: str, left: bool
) -> None:
    browser = a_browser(built, f"http://127.0.0.1:8400{prefix}")
    answer = browser.get(f"{prefix if left else ''}/docs")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    named = re.findall(r'(?:src|href|data-description)="([^"]*)"', answer.text)
    assert f"{prefix}/openapi.json" in named
    assert f"{prefix}/console/reference/swagger-ui-bundle.js" in named
    for address in named:
        there = urlsplit(urljoin(f"http://127.0.0.1:8400{prefix}/docs", address))
        assert there.netloc == "127.0.0.1:8400"
        assert there.path.startswith(f"{prefix}/")
        assert browser.get(there.path).status_code == 200
    assert "//" not in answer.text.replace("<!doctype html>", "")


def test_the_page_runs_scripts_in_files_alone_and_nobody_frames_it(built: Path) -> None:
    browser = a_browser(built)
    answer = browser.get("/docs")
    assert answer.headers["Content-Security-Policy"] == POLICY
    assert answer.headers["Cache-Control"] == "no-cache"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    scripts = re.findall(r"<script[^>]*>[^<]*</script>", answer.text)
    assert len(scripts) == 2
    assert all(" src=" in script and script.endswith("></script>") for script in scripts)
    assert not re.search(r"<style|\sstyle=|\son\w+=", answer.text)


def test_the_script_that_starts_it_is_a_script(built: Path) -> None:
    answer = a_browser(built).get("/docs/start.js")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "http" not in answer.text
    assert "validatorUrl: null" in answer.text  # its default tells somebody else of this API


def test_the_program_is_sent_packed(built: Path) -> None:
    answer = a_browser(built).get(
        "/console/reference/swagger-ui-bundle.js", headers={"Accept-Encoding": "gzip"}
    )
    assert answer.headers["Content-Encoding"] == "gzip"
    assert answer.text == PROGRAM


def test_the_pages_that_load_scripts_from_elsewhere_are_gone(built: Path) -> None:
    browser = a_browser(built)
    for path in ("/redoc", "/docs/oauth2-redirect"):
        assert browser.get(path).status_code == 404


def test_a_hub_without_a_build_says_how_to_build_it(tmp_path: Path, built: Path) -> None:
    answer = a_browser(tmp_path / "nothing").get("/docs")
    assert answer.status_code == 503
    assert "<h1>The API's page is not built</h1>" in answer.text
    assert "<code>make console</code>" in answer.text
    assert "script-src 'self';" in answer.headers["Content-Security-Policy"]
    assert not re.search(r"(src|href)=", answer.text)
    browser = a_browser(built)
    (built / "reference" / "swagger-ui-bundle.js").unlink()
    assert browser.get("/docs").status_code == 503
    (built / "reference" / "swagger-ui-bundle.js").write_text(PROGRAM)
    assert browser.get("/docs").status_code == 200  # without a restart
