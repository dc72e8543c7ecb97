"""Messages about what needs somebody's attention in a federation."""

from datetime import datetime
from uuid import UUID

from hansa_core.wire.base import Response


class Alert(Response):
    id: UUID
    kind: str  # permanent slug, "site-offline"
    subject: str  # what it is about: a site's name, a run's id
    severity: str  # "info", "warning" or "critical"
    message: str
    run_id: UUID | None
    site_id: UUID | None
    count: int  # how often it was raised while open
    raised_at: datetime
    last_at: datetime  # last raised
    resolved_at: datetime | None  # None: open
    acknowledged_at: datetime | None
    acknowledged_by: str | None  # e-mail address
