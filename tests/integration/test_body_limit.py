"""A body that would fill the hub's memory is refused, whatever it announces."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from app.settings import Settings

LIMIT = 1024  # bytes


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    limited = settings.model_copy(update={"max_body_bytes": LIMIT})
    with TestClient(create_app(limited)) as opened:
        yield opened


def test_an_announced_long_body_is_refused(client: TestClient) -> None:
    answer = client.post("/v1/session", content=b"x" * (LIMIT + 1))
    assert (answer.status_code, answer.json()["slug"]) == (413, "too-large")
    assert "1024 bytes" in answer.json()["detail"]


def test_a_long_body_in_chunks_is_refused(client: TestClient) -> None:
    answer = client.post("/v1/session", content=(b"x" * 100 for _ in range(50)))
    assert (answer.status_code, answer.json()["slug"]) == (413, "too-large")


def test_a_body_at_the_limit_is_read(client: TestClient) -> None:
    answer = client.post("/v1/session", content=b"x" * LIMIT)
    assert answer.status_code == 422
