"""Every setting of the hub and its workers: one typed object, read from HANSA_* variables.

The embedded stack, docker compose and the tests all configure a process through these names
and nothing else.
"""

from functools import lru_cache
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Where the hub's parts are and how much it accepts."""

    model_config = SettingsConfigDict(env_prefix="HANSA_", extra="ignore")

    database_url: SecretStr  # postgresql+psycopg://user:password@host:port/name
    redis_url: SecretStr  # redis://host:port/0 or redis+socket:///path
    artifacts_url: str  # file:///folder or s3://bucket/prefix
    public_url: str = "http://127.0.0.1:8400"  # what sites and people reach the hub at

    # Only for an S3-compatible store; empty means the provider's own defaults.
    s3_endpoint: str = ""
    s3_region: str = "us-east-1"
    s3_access_key_id: str = ""
    s3_secret_access_key: SecretStr = SecretStr("")

    log_format: Literal["json", "console"] = "json"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    database_pool_size: int = Field(default=20, ge=1, le=200)  # most connections per process
    max_artifact_bytes: int = Field(default=64 * 2**30, ge=1)  # one model or update
    max_body_bytes: int = Field(default=4 * 2**20, ge=1024)  # one JSON request

    session_hours: float = Field(default=12, gt=0)  # a person's login
    site_token_minutes: float = Field(default=15, gt=0)  # a site's access token
    claim_wait_seconds: float = Field(default=25, ge=0, le=120)  # longest long-poll
    task_lease_seconds: float = Field(default=60, gt=0)  # without a heartbeat
    site_online_seconds: float = Field(default=120, gt=0)  # since last seen
    aggregation_lease_seconds: float = Field(default=30, gt=0)  # renewed while a worker lives
    sweep_seconds: float = Field(default=5, gt=0)  # between beat's sweeps


@lru_cache
def get_settings() -> Settings:
    """Return the process's settings, read once from the environment.

    Raises:
        pydantic.ValidationError: a variable is missing or malformed; it names each one.
    """
    return Settings()  # pyright: ignore[reportCallIssue] -- fields come from the environment
