"""The tables, a module per aggregate root. Every invariant that a constraint can hold, one holds.

Only app/db reads these.
"""

from app.db.base import Base
from app.db.models.accounts import AuditEntry, Event, Receipt, ReceiptHold
from app.db.models.alerts import Alert, Channel, Mark
from app.db.models.artifacts import Artifact, Checkpoint, CheckpointSlot, Model
from app.db.models.federations import Federation, Invitation, Member
from app.db.models.people import ApiToken, IdempotencyKey, User
from app.db.models.runs import (
    AggregationPart,
    Evaluation,
    Metric,
    Round,
    Run,
    Task,
    Update,
    UpdatePart,
)
from app.db.models.secure import Duty, Roster, SecureRound
from app.db.models.sites import Site, SiteChallenge, SiteKey, SiteToken

__all__ = [
    "Base",
    "AggregationPart",
    "Alert",
    "ApiToken",
    "Artifact",
    "AuditEntry",
    "Channel",
    "Checkpoint",
    "CheckpointSlot",
    "Duty",
    "Evaluation",
    "Event",
    "Federation",
    "IdempotencyKey",
    "Invitation",
    "Mark",
    "Member",
    "Metric",
    "Model",
    "Receipt",
    "ReceiptHold",
    "Roster",
    "Round",
    "Run",
    "SecureRound",
    "Site",
    "SiteChallenge",
    "SiteKey",
    "SiteToken",
    "Task",
    "Update",
    "UpdatePart",
    "User",
]
