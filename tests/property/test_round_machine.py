"""The round logic under any interleaving of what people, sites, workers and the clock do."""

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.property.round_model import MemoryWorld
from tests.round_machines import RoundMachine

THOROUGH = settings(
    max_examples=120,
    stateful_step_count=50,
    deadline=None,  # a busy machine is no failure
    suppress_health_check=[HealthCheck.too_slow],
)


def test_any_interleaving_keeps_the_invariants() -> None:
    run_state_machine_as_test(  # pyright: ignore[reportUnknownMemberType] -- hypothesis leaves it untyped
        lambda: RoundMachine(MemoryWorld),  # pyright: ignore[reportArgumentType] -- a factory will do
        settings=THOROUGH,
    )
