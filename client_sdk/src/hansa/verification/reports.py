"""What a verification found: counts of what holds, and each thing that does not, or is not known.

Invariant: nothing is silently left out. Whatever a check could not look at is a finding too, with
the reason.
"""

from collections import Counter
from enum import IntEnum, StrEnum
from uuid import UUID

from pydantic import BaseModel, ConfigDict


class Check(StrEnum):
    """What can be checked."""

    CHAIN = "chain"  # numbers, parents, one run
    DIGEST = "receipt digest"  # the body is the one that the name says
    SIGNATURE = "receipt signature"  # by the hub's key
    HUB_KEY = "hub key"  # the key that signed is one that was pinned
    PLAN = "plan"  # the plan has the digest that every receipt names
    LINEAGE = "lineage"  # each round began from what the one before it made
    QUORUM = "quorum"  # as many answers as the plan wants
    MANIFEST = "update signature"  # the site signed what the receipt says of its update
    WEIGHT = "weight"  # the update counted for its examples, and its staleness
    SITE_KEY = "site key"  # the key that signed is the one its operator named
    FILE = "stored file"  # the bytes have their SHA-256
    SUM = "secure sum"  # signed by the committee, opened as sites committed to, recomputed
    AGGREGATE = "aggregate"  # recomputed from the stored updates, bit for bit
    END = "run's end"  # agrees with the rounds


class ExitCode(IntEnum):
    """What `hansa verify` returns."""

    HOLDS = 0  # everything was checked and holds
    WRONG = 1  # something is wrong
    UNKNOWN = 2  # nothing is wrong, but something could not be checked


class Finding(BaseModel):
    """One thing that is wrong, or that could not be checked."""

    model_config = ConfigDict(frozen=True)

    check: Check
    subject: str  # "receipt 3 (round 2), site oslo"
    message: str


class Report(BaseModel):
    """The outcome of a verification."""

    model_config = ConfigDict(frozen=True)

    run_id: UUID
    run_name: str
    federation: str
    hub_keys: tuple[str, ...]  # fingerprints that signed the receipts
    receipts: int
    head: str | None  # digest of the last receipt: it stands for the whole chain
    story: tuple[str, ...]  # a sentence for each receipt
    holds: dict[Check, int]  # how often each check held
    wrong: tuple[Finding, ...]
    unchecked: tuple[Finding, ...]

    @property
    def exit_code(self) -> ExitCode:
        """What the command returns."""
        if self.wrong:
            return ExitCode.WRONG
        return ExitCode.UNKNOWN if self.unchecked else ExitCode.HOLDS


class Ledger:
    """Findings while they are made."""

    def __init__(self) -> None:
        self.holds: Counter[Check] = Counter()
        self.wrong: list[Finding] = []
        self.unchecked: list[Finding] = []

    def hold(self, check: Check) -> None:
        """Count something that was checked and holds."""
        self.holds[check] += 1

    def fail(self, check: Check, subject: str, message: str) -> None:
        """Note something wrong."""
        self.wrong.append(Finding(check=check, subject=subject, message=message))

    def skip(self, check: Check, subject: str, why: str) -> None:
        """Note something that could not be checked."""
        self.unchecked.append(Finding(check=check, subject=subject, message=why))

    def settle(self, check: Check, subject: str, problem: str | None) -> bool:
        """Note `problem`, or that there is none; tell whether it holds."""
        if problem is None:
            self.hold(check)
        else:
            self.fail(check, subject, problem)
        return problem is None
