"""Every setting of the hub and its workers: one typed object, read from HANSA_* variables.

The embedded stack, docker compose and the tests all configure a process through these names
and nothing else.
"""

import re
from functools import lru_cache
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

# 32 bytes in url-safe base64 without padding; the last character has two bits to spare, both 0.
_SIGNING_KEY = re.compile(r"[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]")

# What the hub's own paths begin with: a prefix of one of these names could be told from none.
_OWN_PATHS = frozenset({"v1", "console", "docs", "openapi.json", "healthz", "readyz"})
_PATH_PREFIX = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*/?")  # needs no escaping anywhere

_CHECKOUT = Path(__file__).resolve().parents[1]


class Settings(BaseSettings):
    """Where the hub's parts are and how much it accepts."""

    model_config = SettingsConfigDict(env_prefix="HANSA_", extra="ignore")

    database_url: SecretStr  # postgresql+psycopg://user:password@host:port/name
    redis_url: SecretStr  # redis://host:port/0 or redis+socket:///path
    artifacts_url: str  # file:///folder or s3://bucket/prefix
    signing_key: SecretStr  # the hub's Ed25519 seed: `hansa-hub keygen` makes one
    public_url: str = "http://127.0.0.1:8400"  # what sites and people reach the hub at

    # Only for an S3-compatible store; empty means the provider's own defaults.
    s3_endpoint: str = ""
    s3_region: str = "us-east-1"
    s3_access_key_id: str = ""
    s3_secret_access_key: SecretStr = SecretStr("")
    s3_presign: bool = False  # sites and people move bytes to and from the store directly
    s3_public_endpoint: str = ""  # where they reach it; empty: at s3_endpoint

    log_format: Literal["json", "console"] = "json"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    database_pool_size: int = Field(default=20, ge=1, le=200)  # most connections per process
    max_artifact_bytes: int = Field(default=64 * 2**30, ge=1)  # one model or update
    min_free_bytes: int = Field(default=512 * 2**20, ge=0)  # left on the disk of a file:// store
    orphan_grace_hours: float = Field(default=24, gt=0)  # before an unreferenced blob is deleted
    max_body_bytes: int = Field(default=4 * 2**20, ge=1024)  # one JSON request

    session_hours: float = Field(default=12, gt=0)  # a person's login
    site_token_minutes: float = Field(default=15, gt=0)  # a site's access token
    claim_wait_seconds: float = Field(default=25, ge=0, le=120)  # longest long-poll
    task_lease_seconds: float = Field(default=60, gt=0)  # without a heartbeat
    site_online_seconds: float = Field(default=120, gt=0)  # since last seen
    aggregation_lease_seconds: float = Field(default=30, gt=0)  # renewed while a worker lives
    # Input of one part of an aggregation that is split over workers; a smaller one is not split.
    aggregation_part_bytes: int = Field(default=4 * 2**30, ge=2**20)
    sweep_seconds: float = Field(default=5, gt=0)  # between beat's sweeps
    event_keepalive_seconds: float = Field(default=15, gt=0, le=300)  # of a quiet event stream
    console_folder: str = ""  # what admin_ui/ was built into; empty: admin_ui/dist of the checkout

    run_waiting_minutes: float = Field(default=15, gt=0)  # without enough sites: an alert
    # smtp:// is STARTTLS, smtps:// TLS from the start, smtp+plain:// no TLS and no password.
    smtp_url: SecretStr = SecretStr("")  # smtp://user:password@host:587; empty: no e-mail
    mail_from: str = ""  # the sender of e-mail
    webhook_allow_private: bool = False  # plain HTTP and addresses of private networks

    @property
    def path_prefix(self) -> str:
        """The path of `public_url`, as in "/hansa"; empty where the hub has its address alone."""
        return urlsplit(self.public_url).path.rstrip("/")

    @property
    def is_public_over_tls(self) -> bool:
        """Whether people and sites reach the hub by https."""
        return urlsplit(self.public_url).scheme == "https"

    @property
    def console(self) -> Path:
        """The folder of the built console."""
        if self.console_folder:
            return Path(self.console_folder)
        return _CHECKOUT / "admin_ui" / "dist"

    @field_validator("public_url")
    @classmethod
    def _check_public_url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{url!r} is no address, wanted http(s)://name or http(s)://name/path")
        is_plain = _PATH_PREFIX.fullmatch(parts.path) and not parts.query and not parts.fragment
        if not is_plain or parts.path.strip("/").partition("/")[0] in _OWN_PATHS:
            raise ValueError(
                f"{url!r} ends in a path that cannot be the hub's prefix, wanted letters, digits "
                f"and -._~, and none of {', '.join(sorted(_OWN_PATHS))} first"
            )
        return url

    @field_validator("signing_key")
    @classmethod
    def _check_signing_key(cls, key: SecretStr) -> SecretStr:
        if not _SIGNING_KEY.fullmatch(key.get_secret_value()):
            raise ValueError(
                f"{len(key.get_secret_value())} characters that are no key, wanted the 43 that "
                "`hansa-hub keygen` prints"
            )
        return key


@lru_cache
def get_settings() -> Settings:
    """Return the process's settings, read once from the environment.

    Raises:
        pydantic.ValidationError: a variable is missing or malformed; it names each one.
    """
    return Settings()  # pyright: ignore[reportCallIssue] -- fields come from the environment
