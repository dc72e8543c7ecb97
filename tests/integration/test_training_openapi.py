"""The API's description: what generated clients are made from."""

import json
import re
from collections import Counter
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from app.main import create_app
from app.settings import Settings

METHODS = {"get", "post", "put", "patch", "delete"}


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The description; it depends on no setting, and nothing is connected to."""
    settings = Settings(
        database_url=SecretStr("postgresql+psycopg://hansa@localhost/hansa"),
        redis_url=SecretStr("redis://localhost:1/0"),
        signing_key=SecretStr("A" * 43),
        artifacts_url=f"file://{tmp_path_factory.mktemp('artifacts')}",
        log_format="console",
    )
    return TestClient(create_app(settings)).get("/openapi.json").json()


def operations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{method.upper()} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if method in METHODS
    ]


def test_every_operation_has_a_name_of_its_own(document: dict[str, Any]) -> None:
    names = Counter(operation["operationId"] for _, operation in operations(document))
    assert names
    assert [name for name, count in names.items() if count > 1] == []


def test_every_error_is_described_as_a_problem(document: dict[str, Any]) -> None:
    described = 0
    for name, operation in operations(document):
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                schema = response["content"]["application/problem+json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/Problem"}, (name, status)
                assert len(response["content"]) == 1, (name, status)
                described += 1
    assert described > 100
    problem = document["components"]["schemas"]["Problem"]
    assert {"type", "title", "status", "detail", "slug", "errors"} == set(problem["properties"])


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    references = re.findall(r'"\$ref": "#/components/schemas/([^"]+)"', json.dumps(document))
    assert references
    assert set(references) <= set(schemas)
    assert "HTTPValidationError" not in schemas


def test_a_wrong_request_is_answered_as_described(client: TestClient) -> None:
    answer = client.post("/v1/session", json={"email": 1})
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, answer.json()["slug"]) == (422, "invalid-request")
    assert {error["path"] for error in answer.json()["errors"]} == {"email", "password"}
    missing = client.get("/v1/nothing-here")
    assert (missing.status_code, missing.json()["slug"]) == (404, "not-found")
    wrong = client.delete("/healthz")
    assert (wrong.status_code, wrong.json()["slug"]) == (405, "method-not-allowed")
    lone = client.post("/v1/session", content=rb'{"\ud800": 1, "email": "\ud800"}')
    assert lone.status_code == 422


def test_the_hub_says_that_it_lives_and_is_ready(client: TestClient) -> None:
    for path in ("/healthz", "/readyz"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
