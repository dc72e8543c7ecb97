"""The hub's signing key: made, checked and never shown."""

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError
from typer.testing import CliRunner

from app.cli import cli
from app.embedded.files import secret
from app.services.hub_keys import HubKey
from app.settings import Settings
from hansa_core.signing import decode_base64, encode_base64, fingerprint, public_key


def settings_with(key: str) -> Settings:
    return Settings(
        database_url=SecretStr("unused"),
        redis_url=SecretStr("unused"),
        artifacts_url="file:///unused",
        signing_key=SecretStr(key),
    )


def test_a_made_key_is_taken_and_has_the_fingerprint_that_was_told() -> None:
    made = CliRunner().invoke(cli, ["keygen"])
    assert made.exit_code == 0
    text = made.stdout.strip()
    key = HubKey.from_settings(settings_with(text))
    assert key.fingerprint == fingerprint(public_key(decode_base64(text)))
    assert key.fingerprint in made.stderr


def test_the_embedded_stack_makes_a_key_once(tmp_path: Path) -> None:
    first = secret(tmp_path / "signing-key", size=32)
    assert secret(tmp_path / "signing-key", size=32) == first
    assert HubKey.from_settings(settings_with(first)).private == decode_base64(first)


@pytest.mark.parametrize(
    "text", ["", "A" * 42, "A" * 44, "A" * 42 + "B", "A" * 42 + "=", "+" * 42 + "A", "é" + "A" * 42]
)
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="hansa-hub keygen"):
        settings_with(text)


def test_a_key_does_not_show_its_private_half() -> None:
    private = bytes(range(32))
    shown = repr(HubKey.of(private)) + repr(settings_with(encode_base64(private)))
    assert repr(private)[2:-1] not in shown
    assert encode_base64(private) not in shown
