"""What is left of an update that began from an older checkpoint.

Nguyen, Malik, Zhan, Yousefpour, Rabbat, Malek and Huba 2022, "Federated Learning with Buffered
Asynchronous Aggregation", section 5: s(tau) = 1 / (1 + tau) ** a, with a = 1/2.
"""

from hansa_core.plans import BufferPlan


def staleness_scale(plan: BufferPlan | None, staleness: int) -> float:
    """Return the factor, in (0, 1], of an update that is `staleness` rounds old.

    Raises ValueError for a negative staleness.
    """
    if staleness < 0:
        raise ValueError(f"staleness is {staleness}, wanted at least 0")
    return 1.0 if plan is None else float((1.0 + staleness) ** -plan.staleness_exponent)
