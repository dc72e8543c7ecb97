"""Messages about the audit log. Its own format, which exports have, is hansa_core.audit's."""

from datetime import datetime
from uuid import UUID

from pydantic import JsonValue

from hansa_core.audit import ActorKind
from hansa_core.wire.base import Digest, Response


class AuditActor(Response):
    kind: ActorKind
    name: str  # a person's email, a site's name, or "hub"
    id: UUID | None = None
    address: str | None = None  # of the client, as the hub saw it
    token_id: UUID | None = None  # the person's token in use


class AuditEntry(Response):
    number: int  # from 1, without gaps
    at: datetime
    actor: AuditActor
    action: str  # past tense, dotted: "site.approved"
    data: dict[str, JsonValue]
    previous: Digest | None  # of the entry before
    digest: Digest


class AuditHead(Response):
    number: int  # of the newest entry; 0: there is none
    digest: Digest | None
