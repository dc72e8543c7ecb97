"""Train one model across four hospitals on this machine, and see whether it was worth it.

    python -m examples.demo                 # everything, then stops everything
    python -m examples.demo --keep          # the hub and the sites stay up until Ctrl-C
    python -m examples.demo --rounds 5 --seed 3
    python -m examples.demo --secure        # once more with secure aggregation

The parts are the real ones, each a process of its own: a hub with Postgres, a broker and a
worker, and four sites that know nothing of the hub but its address. Kill any of them with signal
9 while it runs: it comes back, and the final model has the same digest.
"""

import argparse
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console
from rich.text import Text

from app.embedded import network
from app.embedded.errors import EXIT_PORT_IN_USE, StackError, StopRequestedError
from app.embedded.files import locked
from app.embedded.processes import Supervisor
from examples.demo.places import HOST, PORT, Places, for_people, hub_spec
from examples.demo.supervision import DemoError, Requests, StoppedError, supervise
from hansa.cli.plans import read_document
from hansa.errors import HansaError
from hansa_core.plans import RunPlan, parse_plan, problems_of

EXIT_INTERRUPTED = 130
PLAN = Path(__file__).parents[1] / "heart_disease" / "plan.toml"


@dataclass(frozen=True, slots=True)
class Choices:
    """What the caller chose."""

    work_dir: Path
    seed: int | None
    rounds: int | None
    keep: bool
    secure: bool


def main() -> int:
    """Run the demo; return the exit code."""
    choices = _parse()
    console = Console(highlight=False)
    places = Places(choices.work_dir.absolute())
    console.print(
        "A hub and four hospitals start on this machine and train one model of heart disease.\n"
        "No patient's record leaves its hospital; it takes a minute or two. "
        f"Everything is kept in {for_people(places.root)}.\n",
        markup=False,
    )
    try:
        return _run(choices, places, console)
    except (StopRequestedError, StoppedError, KeyboardInterrupt):
        console.print("stopped; nothing is left running", style="yellow")
        return EXIT_INTERRUPTED
    except (StackError, HansaError, DemoError) as error:
        console.print(Text(f"demo: {error}", style="red"), soft_wrap=True)
        console.print(f"The logs are in {for_people(places.logs)}.", markup=False)
        return 1


def _run(choices: Choices, places: Places, console: Console) -> int:
    plan = _read_plan(choices)
    places.logs.mkdir(parents=True, exist_ok=True)
    places.hub.mkdir(mode=0o711, exist_ok=True)
    with locked(places.root / "lock") as record_address:
        with locked(places.hub / "lock"):
            pass  # somebody may still look around in the hub of an earlier demo
        port = _free_port()
        record_address(network.address_of(HOST, port))
        shutil.rmtree(places.sites, ignore_errors=True)  # keys of the demo before
        for log in places.logs.iterdir():
            log.unlink()

        def report(message: str) -> None:
            console.print(Text(message, style="yellow"), soft_wrap=True)

        requests = Requests()
        with Supervisor(places.logs, report=report) as supervisor:
            supervisor.start(hub_spec(places, port))

            def work() -> bool:
                # Imports torch, which takes seconds: while the hub starts.
                from examples.demo.scenario import Demo  # noqa: PLC0415

                demo = Demo(places, port, plan, console, requests, secure=choices.secure)
                return demo.run()

            completed = supervise(supervisor, requests, work, report=report)
            if choices.keep:
                console.print(
                    "\nThe hub stays up and the sites wait for more runs. Ctrl-C stops everything.",
                    style="bold",
                )
                supervisor.run()
    console.print("stopped; nothing is left running", style="dim")
    return 0 if completed else 1


def _read_plan(choices: Choices) -> RunPlan:
    """Return the example's plan with the caller's seed and rounds.

    Raises:
        DemoError: no plan can have them.
    """
    wanted = {"seed": choices.seed, "rounds": choices.rounds}
    given = {name: value for name, value in wanted.items() if value is not None}
    try:
        plan = parse_plan(read_document(PLAN) | given)
    except ValidationError as error:
        told = "; ".join(f"{path}: {message}" for path, message in problems_of(error))
        raise DemoError(told) from error
    if plan.rounds == 0:  # a plan that only evaluates
        raise DemoError("rounds is 0: nothing would be trained, wanted 1 or more")
    return plan


def _free_port() -> int:
    """Return the hub's usual port, or any free one while that is taken."""
    try:
        return network.require_free_port(HOST, PORT)
    except StackError as error:
        if error.exit_code != EXIT_PORT_IN_USE:
            raise
        return network.require_free_port(HOST, 0)


def _parse() -> Choices:
    parser = argparse.ArgumentParser(
        prog="python -m examples.demo",
        description=(__doc__ or "").partition("\n")[0],
    )
    parser.add_argument("--keep", action="store_true", help="leave it running until Ctrl-C")
    parser.add_argument("--seed", type=int, help="of the split and the training (the plan's: 7)")
    parser.add_argument("--rounds", type=int, help="training rounds (the plan's: 15)")
    parser.add_argument(
        "--work-dir", type=Path, default=Path(".hansa/demo"), help="default: .hansa/demo"
    )
    parser.add_argument(
        "--secure", action="store_true", help="train once more with secure aggregation, and compare"
    )
    return Choices(**vars(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
