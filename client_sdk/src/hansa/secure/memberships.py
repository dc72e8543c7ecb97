"""The list of a consortium's sites, signed by a key that no hub and no site holds.

    {"membership": {"format", "federation_id", "serial", "members": [{"site_name", "fingerprint"}]},
     "public_key", "signature"}

The signature (purpose `membership`) covers the canonical JSON of `membership`. A list replaces the
one before it whole; its serial number only grows, so that an old list cannot bring back a site that
left. The key stays on a machine of the consortium's that is on no network.
"""

from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hansa.errors import LocalError
from hansa_core.canonical import canonical_json
from hansa_core.names import Name
from hansa_core.problems import CoreError
from hansa_core.secagg.messages import Key, Signature
from hansa_core.signing import (
    Purpose,
    decode_base64,
    encode_base64,
    fingerprint,
    public_key,
    sign,
    verify,
)

MAX_LIST = 16 << 20  # bytes
MAX_MEMBERS = 100_000

Fingerprint = Annotated[str, Field(pattern=r"^[a-z2-7]{4}(-[a-z2-7]{4}){7}$")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ListedSite(_Section):
    """One line of the list."""

    site_name: Name
    site_id: UUID | None = None  # None: whichever id the hub gave it
    fingerprint: Fingerprint  # of its identity key


class Membership(_Section):
    """What the consortium signs."""

    format: Literal["hansa-membership/1"] = "hansa-membership/1"
    federation_id: UUID
    serial: int = Field(ge=1, lt=2**53)
    members: list[ListedSite] = Field(max_length=MAX_MEMBERS)

    @model_validator(mode="after")
    def _check(self) -> Self:
        for what in ("site_name", "fingerprint"):
            seen: set[str] = set()
            for member in self.members:
                value: str = getattr(member, what)
                if value in seen:
                    raise ValueError(f"two members have the {what} {value}")
                seen.add(value)
        return self

    def line(self, site_name: str) -> ListedSite | None:
        """Return what the list says of a site."""
        return next((it for it in self.members if it.site_name == site_name), None)


class SignedMembership(_Section):
    """A list as it travels: a file, by whatever way."""

    membership: Membership
    public_key: Key  # the consortium's, for people to compare; what counts is the key known here
    signature: Signature


def sign_membership(private_key: bytes, membership: Membership) -> SignedMembership:
    """Return the list with the consortium's signature. Raises KeyFormatError."""
    return SignedMembership(
        membership=membership,
        public_key=encode_base64(public_key(private_key)),
        signature=encode_base64(sign(private_key, Purpose.MEMBERSHIP, _payload(membership))),
    )


def read_membership(content: bytes, key: bytes | None = None) -> SignedMembership:
    """Return a list whose signature was checked, with `key` or else with the one it names itself.

    Raises LocalError.
    """
    if len(content) > MAX_LIST:
        raise LocalError(f"the membership list has {len(content)} bytes, wanted at most {MAX_LIST}")
    try:
        signed = SignedMembership.model_validate_json(content)
        named = decode_base64(signed.public_key)
        if key is not None and named != key:
            raise LocalError(
                f"the membership list is signed by the key {fingerprint(named)}, "
                f"wanted the consortium's, {fingerprint(key)}",
                hint="if the consortium has a new key: hansa site peers consortium KEY",
            )
        signature = decode_base64(signed.signature)
        verify(named, Purpose.MEMBERSHIP, _payload(signed.membership), signature)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        raise LocalError(f"this is no membership list: {where}: {first['msg']}") from error
    except CoreError as error:
        raise LocalError(f"the membership list is not what was signed: {error}") from error
    return signed


def _payload(membership: Membership) -> bytes:
    return canonical_json(membership.model_dump(mode="json"))
