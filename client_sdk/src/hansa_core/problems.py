"""The failures the kernel expects. Each has a permanent slug; messages name thing, seen, wanted.

The hub maps slugs to problem+json and the SDK to its own errors, so a slug never changes.
"""

from enum import StrEnum
from typing import ClassVar


class RefusalReason(StrEnum):
    """Why one update cannot be used. Shown to the site, stored beside the refused update."""

    MALFORMED = "malformed-header"  # the header breaks the tensor format
    LAYOUT_MISMATCH = "layout-mismatch"  # other tensors, dtypes or shapes than the model has
    NON_FINITE = "non-finite"  # a NaN or an infinity in a float tensor, or in the sum
    OVERFLOW = "overflow"  # finite, but the squared norm exceeds float64
    NOT_BOOLEAN = "not-boolean"  # a BOOL byte other than 0 and 1
    TRUNCATED = "truncated"  # the stream ended before the tensors did
    TRAILING_BYTES = "trailing-bytes"  # the stream went on after the last tensor
    TOO_LARGE = "too-large"  # more bytes than the federation allows
    WEIGHT_OUT_OF_RANGE = "weight-out-of-range"  # not a number of examples


class ChainFault(StrEnum):
    """What is wrong with an entry of an audit log."""

    CHANGED = "changed"  # its bytes do not have its digest
    MALFORMED = "malformed"  # its bytes have their digest, but say nothing we know
    GAP = "gap"  # entries before it are missing
    REORDERED = "reordered"  # it stands where a later one belongs
    OTHER_CHAIN = "other-chain"  # it belongs to another federation
    UNLINKED = "unlinked"  # it does not name the digest of the entry before
    REPLACED = "replaced"  # it has another digest than somebody kept
    TRUNCATED = "truncated"  # the log ends before an entry that somebody kept


class CoreError(Exception):
    """Base of every expected failure of the kernel."""

    slug: ClassVar[str] = "core-error"


class TensorFormatError(CoreError):
    """Bytes or arrays that the tensor format cannot carry."""

    slug = "tensor-format"


class UpdateRefusedError(CoreError):
    """One update (or checkpoint upload) is unusable; the others are not affected."""

    slug = "update-refused"

    def __init__(self, reason: RefusalReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type["UpdateRefusedError"], tuple[RefusalReason, str]]:
        """Keep the reason when a process pool carries the error home."""
        return (type(self), (self.reason, str(self)))


class AggregationError(CoreError):
    """The aggregation as a whole cannot be carried out."""

    slug = "aggregation-impossible"


class TensorGroupsError(CoreError):
    """A plan's tensor groups that do not fit the model, or leave nothing to train."""

    slug = "tensor-groups-unusable"


class StrategyLoadError(CoreError):
    """A package's strategy that cannot be used."""

    slug = "strategy-unusable"


class CanonicalizationError(CoreError):
    """A value that canonical JSON cannot carry."""

    slug = "not-canonical"


class EncodingError(CoreError):
    """Text that is not strict unpadded base64url, or has the wrong length."""

    slug = "encoding-malformed"


class KeyFormatError(CoreError):
    """Key bytes of the wrong length or kind."""

    slug = "key-malformed"


class SignatureError(CoreError):
    """A signature that does not verify for this key, purpose and payload."""

    slug = "signature-invalid"


class ReceiptError(CoreError):
    """Bytes that are no receipt of a format known here."""

    slug = "receipt-malformed"


class BrokenChainError(CoreError):
    """An audit log that was changed after it was written."""

    slug = "audit-chain-broken"

    def __init__(self, number: int, fault: ChainFault, message: str) -> None:
        super().__init__(f"entry {number} {message}")
        self.number = number  # of the first wrong entry
        self.fault = fault


class ChunkError(CoreError):
    """One chunk of a file is not there, or its bytes are not those that were announced."""

    slug = "chunk-damaged"
