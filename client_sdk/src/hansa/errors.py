"""Everything that can go wrong in the SDK, sorted by what the caller should do next.

    HansaError
      RetryableError        nothing is wrong with the request: do the same again later
        UnreachableError    no hub answered at that address
      RefusedError          the hub understood and said no: doing the same again changes nothing
        NotAuthenticatedError   sign in again (a site does so by itself, once)
        SiteNotActiveError      pending or suspended: an operator of the federation must act
        TaskLostError           the task is closed or in other hands: abandon it, ask for the next
        ReenrollError           the hub no longer knows this site or key: enroll again
      BadAnswerError        what came back is no answer of a Hansa hub this SDK understands
      CorruptDownloadError  bytes do not have their digest, again and again
      LocalError            something on this machine is wrong: a file, an option, a lock

Each message names the thing, the value seen and the value wanted; `hint` says what to do.
"""

from hansa_core.wire import Problem

TASK_LOST_SLUGS = frozenset({"task-closed", "lease-lost", "update-conflict"})


class HansaError(Exception):
    """Anything the SDK expects to go wrong."""

    def __init__(
        self, message: str, *, hint: str | None = None, problem: Problem | None = None
    ) -> None:
        super().__init__(message)
        self.hint = hint
        self.problem = problem

    @property
    def slug(self) -> str | None:
        """The hub's permanent name of the problem; None where no hub said anything."""
        return self.problem.slug if self.problem else None


class RetryableError(HansaError):
    """Do the same again later, not before `retry_after_seconds`."""

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        problem: Problem | None = None,
        retry_after_seconds: float = 0.0,
    ) -> None:
        super().__init__(message, hint=hint, problem=problem)
        self.retry_after_seconds = retry_after_seconds


class UnreachableError(RetryableError):
    """No hub answered at that address."""


class RefusedError(HansaError):
    """The hub understood the request and said no."""


class NotAuthenticatedError(RefusedError):
    """The token is missing, wrong or expired."""


class SiteNotActiveError(RefusedError):
    """The site may not take part now: an operator has to approve or reinstate it."""


class TaskLostError(RefusedError):
    """The task takes no answer from this process any more."""


class ReenrollError(RefusedError):
    """The hub does not accept this site's identity any more."""


class BadAnswerError(HansaError):
    """The answer is not one that this SDK understands."""


class CorruptDownloadError(HansaError):
    """The downloaded bytes do not have the digest they should have."""


class LocalError(HansaError):
    """A file, an option or a lock on this machine is in the way."""


def refusal(problem: Problem, *, retry_after_seconds: float = 0.0) -> HansaError:
    """Return the error that stands for a problem the hub answered with."""
    message = "; ".join(
        [problem.detail or problem.title, *(f"{e.path}: {e.message}" for e in problem.errors)]
    )
    if problem.status == 429 or problem.status >= 500:  # noqa: PLR2004 -- HTTP's own numbers
        return RetryableError(message, problem=problem, retry_after_seconds=retry_after_seconds)
    if problem.status == 401:  # noqa: PLR2004
        return NotAuthenticatedError(message, problem=problem)
    if problem.slug in TASK_LOST_SLUGS:
        return TaskLostError(message, problem=problem)
    if problem.slug == "site-not-active":
        return SiteNotActiveError(message, problem=problem)
    if problem.slug == "site-revoked":
        return ReenrollError(message, problem=problem)
    return RefusedError(message, problem=problem)
