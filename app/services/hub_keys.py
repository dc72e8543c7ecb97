"""The hub's own key: what it signs receipts with, and what people pin."""

from dataclasses import dataclass, field
from typing import Self

from app.settings import Settings
from hansa_core.signing import KEY_SIZE, decode_base64, fingerprint, public_key


@dataclass(frozen=True, slots=True)
class HubKey:
    """An Ed25519 key pair with its names."""

    private: bytes = field(repr=False)
    public: bytes
    fingerprint: str

    @classmethod
    def of(cls, private: bytes) -> Self:
        """Return the pair that a 32-byte seed makes. Raises KeyFormatError."""
        public = public_key(private)
        return cls(private, public, fingerprint(public))

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return the key of HANSA_SIGNING_KEY, whose form the settings have checked."""
        return cls.of(decode_base64(settings.signing_key.get_secret_value(), size=KEY_SIZE))
