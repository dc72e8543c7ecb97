"""The states that federations, sites, runs, rounds and tasks can be in, as every party names them.

The legal moves between them are in app/domain; here is only the vocabulary.
"""

from enum import StrEnum


class Role(StrEnum):
    """What a person may do in one federation."""

    OWNER = "owner"  # everything, members and settings included
    OPERATOR = "operator"  # invites, approves, suspends and revokes sites
    RESEARCHER = "researcher"  # models, runs, checkpoints
    AUDITOR = "auditor"  # reads everything, changes nothing


class Scope(StrEnum):
    """What an API token may be used for, within what its owner's roles allow."""

    READ = "read"  # every GET
    RUNS = "runs"  # models, checkpoints and runs
    SITES = "sites"  # invitations and sites
    ADMIN = "admin"  # users, tokens, federations, members


class SiteState(StrEnum):
    """How far a site's enrolment is."""

    PENDING = "pending"  # redeemed an invitation, waits for approval
    ACTIVE = "active"  # may claim tasks
    SUSPENDED = "suspended"  # refused until reinstated
    REVOKED = "revoked"  # refused for ever


class RunState(StrEnum):
    """Where a run is."""

    DRAFT = "draft"  # created, not started
    QUEUED = "queued"  # started, waits for enough sites
    RUNNING = "running"  # has an open round, or is about to
    PAUSED = "paused"  # between rounds until somebody resumes it
    COMPLETED = "completed"  # every round done
    FAILED = "failed"  # could not meet its own quorum
    CANCELLED = "cancelled"  # somebody stopped it


class RoundKind(StrEnum):
    """What a round asks of its cohort."""

    TRAIN = "train"  # train on the checkpoint and upload an update
    EVALUATE = "evaluate"  # report metrics of the checkpoint on held-out data


class RoundState(StrEnum):
    """Where a round is."""

    SETUP = "setup"  # secure: the sites agree on a roster
    COLLECTING = "collecting"  # the cohort trains or evaluates, then answers
    SIGNING = "signing"  # secure: the committee signs which updates the sum is of
    OPENING = "opening"  # secure: the committee opens the sum
    AGGREGATING = "aggregating"  # one worker, under a lease, writes the next checkpoint
    COMPLETED = "completed"
    FAILED = "failed"  # fewer answers than the plan's threshold
    CANCELLED = "cancelled"


class TaskState(StrEnum):
    """Where one site's part of a round is."""

    OPEN = "open"  # nobody works on it
    CLAIMED = "claimed"  # the site holds a lease
    DONE = "done"  # its answer is stored
    FAILED = "failed"  # the site reported an error, or gave up too often
    LATE = "late"  # the round closed without it
    CANCELLED = "cancelled"  # the run was cancelled


class TaskPhase(StrEnum):
    """What a site says that it is doing."""

    DOWNLOADING = "downloading"
    EVALUATING = "evaluating"
    TRAINING = "training"
    UPLOADING = "uploading"
