"""What stops the embedded stack or a `hansa-hub` command.

Not a DomainError: these never meet HTTP, and each carries the exit code of the command.
"""

EXIT_FAILED = 1
EXIT_ALREADY_RUNNING = 3
EXIT_PORT_IN_USE = 4


class StackError(Exception):
    """A part of the stack cannot start or answer; the message says which and what to do."""

    def __init__(self, message: str, *, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class StopRequestedError(Exception):
    """SIGINT or SIGTERM arrived while something was being waited for."""
