"""The kinds of alerts, and when what is watched deserves one. Pure.

An alert that lasts is about a condition and ends with it. One that does not is about something
that happened, and ends when somebody acknowledges it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final

from app.domain.permissions import Action

OFFLINE_TIMES: Final = 5  # as long as a site counts as online: it is missed, not only busy
NEARLY_FULL: Final = 0.10  # of the store's space left
NEARLY_FULL_NO_MORE: Final = 0.12  # apart, so that a store at the limit does not flutter


class Severity(StrEnum):
    INFO = "info"  # good to know
    WARNING = "warning"  # somebody should look
    CRITICAL = "critical"  # work stands still or is lost


class AlertKind(StrEnum):
    SITE_OFFLINE = "site-offline"  # an active site is not heard of
    SITE_EXCLUDED = "site-excluded"  # rounds leave a site out again and again
    TASK_ABANDONED = "task-abandoned"  # a site's task was given up after too many attempts
    RUN_FAILED = "run-failed"
    RUN_WAITING = "run-waiting"  # a run has too few sites to open a round
    AGGREGATION_RETRIED = "aggregation-retried"  # a worker died while it aggregated
    SECURE_REFUSED = "secure-refused"  # a site's own checks refuse a step of a secure run
    STORE_UNAVAILABLE = "store-unavailable"  # the artifact store does not answer
    STORE_NEARLY_FULL = "store-nearly-full"
    CHANNEL_FAILING = "channel-failing"  # a webhook or e-mail cannot be delivered


@dataclass(frozen=True, slots=True)
class Traits:
    """What all alerts of a kind have in common."""

    severity: Severity  # unless who raises it says otherwise
    lasts: bool  # see above
    action: Action  # who may do this may acknowledge it


TRAITS: Final[Mapping[AlertKind, Traits]] = {
    AlertKind.SITE_OFFLINE: Traits(Severity.WARNING, True, Action.ENROLL),
    AlertKind.SITE_EXCLUDED: Traits(Severity.WARNING, True, Action.ENROLL),
    AlertKind.TASK_ABANDONED: Traits(Severity.WARNING, False, Action.RUN),
    AlertKind.RUN_FAILED: Traits(Severity.CRITICAL, False, Action.RUN),
    AlertKind.RUN_WAITING: Traits(Severity.WARNING, True, Action.RUN),
    AlertKind.SECURE_REFUSED: Traits(Severity.CRITICAL, False, Action.RUN),
    AlertKind.AGGREGATION_RETRIED: Traits(Severity.WARNING, False, Action.RUN),
    AlertKind.STORE_UNAVAILABLE: Traits(Severity.CRITICAL, True, Action.GOVERN),
    AlertKind.STORE_NEARLY_FULL: Traits(Severity.WARNING, True, Action.GOVERN),
    AlertKind.CHANNEL_FAILING: Traits(Severity.WARNING, True, Action.GOVERN),
}


def missed_after(online_for: timedelta) -> timedelta:
    """Return after how long without a sign of life a site is reported offline."""
    return OFFLINE_TIMES * online_for


def is_nearly_full(*, free: int, total: int, was: bool) -> bool:
    """Tell whether a store with `free` of `total` bytes is short of space; `was` it before?"""
    return free < total * (NEARLY_FULL_NO_MORE if was else NEARLY_FULL)
