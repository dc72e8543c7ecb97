"""How files travel: the length of a chunk, how many at once, how fast."""

from dataclasses import dataclass, field

from hansa.transfers.throttles import Throttle
from hansa_core.chunks import CHUNK_BYTES

IN_FLIGHT = 2  # chunks at once: what a cut can cost, and enough to keep a connection busy


@dataclass(frozen=True, slots=True)
class TransferOptions:
    """How files travel. The throttles are shared by all transfers that have them."""

    chunk_bytes: int = CHUNK_BYTES  # wanted; a large file gets longer ones
    in_flight: int = IN_FLIGHT
    upload: Throttle = field(default_factory=Throttle)
    download: Throttle = field(default_factory=Throttle)
    compress: bool = True  # chunks that get shorter by it, over links where that pays
    direct: bool = True  # to and from the hub's store, where it offers that
