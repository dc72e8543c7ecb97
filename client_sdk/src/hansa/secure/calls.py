"""The hub's routes for duties and rosters, as one site calls them."""

from uuid import UUID

from hansa.transport import Transport
from hansa_core.secagg.messages import Message
from hansa_core.secagg.rosters import PURPOSES
from hansa_core.signing import encode_base64, public_key, sign
from hansa_core.wire.secure import (
    MAX_REFUSAL,
    Duties,
    DutyAnswer,
    DutyReceipt,
    DutyRefusal,
    RosterView,
)


class SecureCalls:
    """Duties and rosters. Every call may be repeated; every method raises HansaError."""

    def __init__(self, transport: Transport, private_key: bytes) -> None:
        self._transport = transport
        self._private_key = private_key

    @property
    def identity_key(self) -> bytes:
        """The site's public key."""
        return public_key(self._private_key)

    def claim_duties(self, *, wait_seconds: float = 0.0) -> Duties:
        """Return the duties that wait for this site, or come within the wait."""
        return self._transport.call(
            "POST",
            "/v1/duties/claim",
            Duties,
            params={"wait_seconds": wait_seconds},
            wait_seconds=wait_seconds,
        )

    def answer(self, duty_id: UUID, answer: DutyAnswer) -> DutyReceipt:
        """Do a duty."""
        return self._transport.call("PUT", f"/v1/duties/{duty_id}", DutyReceipt, body=answer)

    def refuse(self, duty_id: UUID, reason: str) -> None:
        """Tell the hub that this site will not do a duty, and why."""
        body = DutyRefusal(reason=reason[:MAX_REFUSAL])
        self._transport.send("POST", f"/v1/duties/{duty_id}/refusal", body=body)

    def roster(self, digest: str) -> RosterView:
        """Return a roster, with the confirmations that there are."""
        return self._transport.call("GET", f"/v1/rosters/{digest}", RosterView)

    def sign(self, message: Message) -> str:
        """Return the site's signature of a message of the protocol."""
        purpose = PURPOSES[type(message)]
        return encode_base64(sign(self._private_key, purpose, message.body()))
