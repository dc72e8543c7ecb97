"""A whole hub with real sites at work, for somebody who looks at the console.

    python -m tests.console.stage --port 8410 --write stage.txt

It runs until it is interrupted. SIGHUP restarts the hub with its data, for new code.
"""

import argparse
import signal
import tempfile
import threading
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from hansa.client import HansaClient
from hansa_core import wire
from tests.console import heart, large
from tests.e2e.processes import ADMIN, Stack, free_port, stop
from tests.receivers import receiving

EMPTY = "lungs"  # a federation that nothing was done in yet
ENV = {
    "HANSA_SITE_ONLINE_SECONDS": "20",
    "HANSA_CLAIM_WAIT_SECONDS": "5",
    "HANSA_WEBHOOK_ALLOW_PRIVATE": "true",
}
REFRESH_SECONDS = 6.0  # between signs of life of the large federation's sites


@dataclass(frozen=True, slots=True)
class Stage:
    """What is on it."""

    stack: Stack
    heart: heart.Heart
    registry: large.Registry

    def lines(self) -> dict[str, str]:
        """Return what somebody who looks has to know."""
        people = {role.value: email for role, (email, _) in heart.PEOPLE.items()}
        runs = {f"run.{name}": str(run_id) for name, run_id in self.heart.runs.items()}
        return {
            "hub": self.stack.address,
            "console": f"{self.stack.address}/console/",
            "email": ADMIN,
            "password": self.stack.password,
            **people,
            "members_password": heart.PASSWORD,
            **runs,
            "run.large": str(self.registry.run_id),
        }


@contextmanager
def staged(
    folder: Path,
    port: int,
    *,
    pace: heart.Pace | None = None,
    scale: large.Scale | None = None,
    env: Mapping[str, str] | None = None,
) -> Generator[Stage]:
    """Start everything, fill it, and stop it at the end."""
    pace = pace or heart.Pace()
    stack = Stack(folder, port, env={**ENV, **(env or {})})
    with ExitStack() as ending:
        receiver = ending.enter_context(receiving())
        ending.callback(lambda: stack.process is not None and stop(stack.process))
        stack.start()
        hospitals = heart.found(stack, folder)
        ending.callback(hospitals.federation.close)
        heart.channels(hospitals, receiver.url, f"http://127.0.0.1:{free_port()}/gone")
        heart.enrol(hospitals)
        _found_empty(hospitals.client)
        heart.live_through(hospitals, pace)
        registry = large.fill(stack, hospitals.client, folder, scale or large.Scale())
        heart.begin(hospitals, pace)
        ending.enter_context(large.kept_alive(stack, registry, REFRESH_SECONDS))
        yield Stage(stack, hospitals, registry)


def _found_empty(client: HansaClient) -> None:
    client.create_federation(
        wire.FederationCreate(slug=EMPTY, name="Lung CT screening", description="")
    )


def main() -> None:
    """Run the stage until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--port", type=int, default=8410)
    parser.add_argument("--write", type=Path, help="where the address and passwords go, too")
    options = parser.parse_args()
    ended, restart = threading.Event(), threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        del frame
        if number == signal.SIGTERM:
            raise KeyboardInterrupt
        restart.set()
        ended.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGHUP, end)
    # Postgres, started by root, runs as nobody, who has to be able to pass through.
    with tempfile.TemporaryDirectory(prefix="hansa-stage-") as name, suppress(KeyboardInterrupt):
        folder = Path(name)
        folder.chmod(0o711)
        with staged(folder, options.port) as stage:
            told = "".join(f"{key}={value}\n" for key, value in stage.lines().items())
            print(told, end="", flush=True)  # noqa: T201
            if options.write:
                options.write.write_text(told)
            while ended.wait():
                ended.clear()
                if restart.is_set():
                    restart.clear()
                    assert stage.stack.process is not None
                    stop(stage.stack.process)
                    stage.stack.start()
                    print("the hub was started again", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
