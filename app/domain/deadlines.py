"""How long a round may take when its plan does not say. Pure."""

from collections.abc import Sequence

FIRST_SECONDS = 3600.0  # before anything is known, beside the transfers
LEAST_SECONDS = 900.0  # a deadline guards against silence; it is no goal
SLOWDOWN = 3.0  # how much slower than lately an honest site may be
SLOWEST_LINK = 64 * 1024  # bytes per second, each way


def derive_seconds(past: Sequence[float], *, transfer_bytes: int) -> float:
    """Return a round's time limit in seconds.

    `past` holds how long answered tasks of late rounds took, in seconds, from the round's opening
    to the answer. Without any, the limit allows for moving `transfer_bytes` over a slow link.
    """
    if not past:
        return FIRST_SECONDS + transfer_bytes / SLOWEST_LINK
    return max(LEAST_SECONDS, SLOWDOWN * max(past))
