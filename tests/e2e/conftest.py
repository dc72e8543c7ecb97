"""One hub for the session, real processes throughout; a federation of its own for each test."""

import tempfile
from collections.abc import Callable, Generator
from itertools import count
from pathlib import Path

import pytest

from tests.e2e.federations import Federation, plan
from tests.e2e.processes import ADMIN, Cli, Stack, free_port, stop

NewFederation = Callable[..., Federation]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes half a minute or more even when all is quiet")


@pytest.fixture(scope="session")
def stack() -> Generator[Stack]:
    """A hub with all its parts."""
    # Postgres, started by root, runs as nobody: pytest's own folders would keep it out.
    with tempfile.TemporaryDirectory(prefix="hansa-e2e-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        running = Stack(folder, free_port())
        try:
            running.start()
            yield running
        finally:
            if running.process is not None:
                stop(running.process)


@pytest.fixture(scope="session")
def cli(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """The command line of the administrator."""
    signed_in = Cli(tmp_path_factory.mktemp("cli") / "config.json")
    signed_in(
        "login", stack.address, "--email", ADMIN, "--password-stdin", stdin=f"{stack.password}\n"
    )
    return signed_in


@pytest.fixture(scope="session")
def new_federation(
    stack: Stack, cli: Cli, tmp_path_factory: pytest.TempPathFactory
) -> Generator[NewFederation]:
    """Makes a federation; its sites run until the session ends, or are stopped earlier."""
    numbers = count(1)
    made: list[Federation] = []

    def create(*, requires_approval: bool = False) -> Federation:
        slug = f"trial-{next(numbers)}"
        folder = tmp_path_factory.mktemp(slug)
        federation = Federation.create(
            stack, cli, slug, folder, requires_approval=requires_approval
        )
        made.append(federation)
        return federation

    yield create
    for federation in made:
        federation.close()


@pytest.fixture
def federation(new_federation: NewFederation) -> Generator[Federation]:
    """A federation that new sites join at once."""
    created = new_federation()
    yield created
    created.close()


@pytest.fixture(scope="session")
def quiet_digest(new_federation: NewFederation) -> str:
    """The final model of a run that nothing disturbs."""
    quiet = new_federation()
    quiet.enroll_three()
    run = quiet.until_ended(quiet.client.create_run(quiet.slug, plan()).id)
    quiet.require_counted_once(run)
    digest = quiet.digest_of(run)
    quiet.close()
    return digest
