"""One stage for the session and one browser for each file, both real.

Run these tests in one process: a stage takes a minute to fill, and goes on training to the end.

The browser ends with its file: while a Playwright runs, no other test of the process could run an
event loop of its own.
"""

import tempfile
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from hansa_core.states import Role
from tests.console import heart
from tests.console.stage import Stage, staged
from tests.console.visits import Visit, a_browser, visiting
from tests.e2e.processes import ADMIN, CHECKOUT, free_port

Visiting = Callable[..., AbstractContextManager[Visit]]

BUILT = CHECKOUT / "admin_ui" / "dist" / "index.html"
QUICK = heart.Pace(rounds=6, rounds_now=4000, seconds_now=1.0)
ENV = {"HANSA_SITE_ONLINE_SECONDS": "15", "HANSA_CLAIM_WAIT_SECONDS": "3"}


@pytest.fixture(scope="session")
def stage() -> Generator[Stage]:
    """A hub with a federation that has seen some life, and a large one."""
    assert BUILT.is_file(), f"{BUILT} is not there: run `make console` first"
    with tempfile.TemporaryDirectory(prefix="hansa-stage-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        with staged(folder, free_port(), pace=QUICK, env=ENV) as made:
            yield made


@pytest.fixture(scope="module")
def browser() -> Generator[Browser]:
    with a_browser() as started:
        yield started


@pytest.fixture
def visits(browser: Browser, stage: Stage) -> Generator[Callable[..., Visit]]:
    """Opens windows: the administrator's, or that of a member with a role."""
    opened: list[Visit] = []
    with ExitStack() as ending:

        def visit(role: Role | None = None, **options: object) -> Visit:
            email, password = ADMIN, stage.stack.password
            if role is not None:
                email, password = heart.PEOPLE[role][0], heart.PASSWORD
            made = ending.enter_context(
                visiting(browser, stage.stack.address, email, password, **options)  # pyright: ignore[reportArgumentType]
            )
            opened.append(made)
            return made

        yield visit
    for made in opened:
        made.require_clean()


@pytest.fixture
def visit(visits: Callable[..., Visit]) -> Visit:
    """The administrator's window."""
    return visits()
