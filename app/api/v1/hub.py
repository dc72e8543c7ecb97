"""Who this hub is, for anybody: the key that its receipts are signed with."""

from fastapi import APIRouter

from app.api.dependencies import TransactionsDep
from app.services.receipts import installed_version
from hansa_core import wire
from hansa_core.signing import encode_base64

router = APIRouter(tags=["hub"])

NAME = "Hansa hub"


@router.get("/v1/hub")
def get_hub(transactions: TransactionsDep) -> wire.Hub:
    """Return the hub's version and public key; compare the fingerprint before trusting it."""
    key = transactions.hub_key
    return wire.Hub(
        name=NAME,
        version=installed_version("hansa-hub"),
        public_key=encode_base64(key.public),
        fingerprint=key.fingerprint,
    )
