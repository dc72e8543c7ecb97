"""Expected failures. Each class has a permanent slug; the message says what, seen and wanted.

app/api/problems.py gives every class its HTTP status; nothing here knows of HTTP.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One wrong field of a request, by its path."""

    path: str  # dotted, as in "strategy.name"
    message: str


class DomainError(Exception):
    """An expected failure that the caller is told about."""

    slug = "domain-error"
    title = "The request cannot be done"

    def __init__(self, message: str, *, fields: tuple[FieldProblem, ...] = ()) -> None:
        super().__init__(message)
        self.fields = fields


class NotFoundError(DomainError):
    slug = "not-found"
    title = "No such thing here"


class NotAuthenticatedError(DomainError):
    slug = "not-authenticated"
    title = "Sign in first"


class ForbiddenError(DomainError):
    slug = "forbidden"
    title = "Your role does not allow this"


class ClientHeaderMissingError(DomainError):
    slug = "client-header-missing"
    title = "The request may come from another site's page"


class InvalidRequestError(DomainError):
    slug = "invalid-request"
    title = "The request has wrong fields"


class AlreadyExistsError(DomainError):
    slug = "already-exists"
    title = "That name is taken"


class IllegalTransitionError(DomainError):
    slug = "illegal-transition"
    title = "Not possible in its present state"


class InvitationError(DomainError):
    slug = "invitation-refused"
    title = "The invitation cannot be used"


class SiteNotActiveError(DomainError):
    slug = "site-not-active"
    title = "The site may not take part now"


class SiteRevokedError(DomainError):
    slug = "site-revoked"
    title = "The site was revoked for ever"


class SignatureRefusedError(DomainError):
    slug = "signature-refused"
    title = "The signature does not match"


class TaskClosedError(DomainError):
    slug = "task-closed"
    title = "The task takes no more answers"


class LeaseLostError(DomainError):
    slug = "lease-lost"
    title = "Another process of this site holds the task"


class UpdateConflictError(DomainError):
    slug = "update-conflict"
    title = "A different update was already accepted"


class UpdateRefusedError(DomainError):
    slug = "update-refused"
    title = "The update was refused at the door"


class UnusableUpdatesError(DomainError):
    slug = "unusable-updates"
    title = "The round's updates cannot be combined"


class IdempotencyKeyReusedError(DomainError):
    slug = "idempotency-key-reused"
    title = "The idempotency key belongs to another request"


class SecretAlreadyShownError(DomainError):
    slug = "secret-already-shown"
    title = "A secret is shown only once"


class TooLargeError(DomainError):
    slug = "too-large"
    title = "More bytes than allowed"


class RangeNotSatisfiableError(DomainError):
    slug = "range-not-satisfiable"
    title = "The bytes asked for are not there"


class DigestMismatchError(DomainError):
    slug = "digest-mismatch"
    title = "The bytes do not have the digest they were announced with"


class ChunkDamagedError(DomainError):
    slug = "chunk-damaged"
    title = "The chunk did not arrive as it was sent"


class UploadIncompleteError(DomainError):
    slug = "upload-incomplete"
    title = "The upload is not open, or lacks chunks"


class TooManyUploadsError(DomainError):
    slug = "too-many-uploads"
    title = "Too many uploads are in progress"


class ArtifactMissingError(DomainError):
    slug = "artifact-missing"
    title = "The artifact is not stored"


class ArtifactPurgedError(DomainError):
    slug = "artifact-purged"
    title = "The artifact was deleted by the retention policy"


class StorageUnavailableError(DomainError):
    slug = "storage-unavailable"
    title = "The artifact store cannot be used now"


class StorageFullError(StorageUnavailableError):
    slug = "storage-full"
    title = "The artifact store has no room"


class NotReadyError(DomainError):
    slug = "not-ready"
    title = "A part that the hub needs does not answer"
