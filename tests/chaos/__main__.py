"""`python -m tests.chaos --faults 200 --seed 7`: the fault harness on its own.

Prints each fault as it strikes, a summary, and as its last line one JSON object; exits with 1
when anything was lost, counted twice or different. The same seed draws the same faults.
"""

import argparse
import json
import secrets
import signal
import sys
from collections.abc import Callable

from tests.chaos.harness import Outcome, run_chaos
from tests.chaos.runs import plans

TIMELINE_LINES = 60


def main() -> int:
    """Run the harness as the command line asks."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--faults", type=int, default=40, help="how many (default: 40)")
    parser.add_argument("--seed", type=int, help="repeat this one (default: a new one)")
    chosen = parser.parse_args()
    seed = secrets.randbelow(1_000_000) if chosen.seed is None else chosen.seed
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends everything, as Ctrl-C does
    show(f"{chosen.faults} faults, seed {seed}")
    try:
        outcome = run_chaos(seed, chosen.faults, show, chosen=plans())
    except KeyboardInterrupt:
        show(f"interrupted; seed {seed}")
        return 130
    describe(outcome, show)
    return 0 if outcome.is_good else 1


def describe(outcome: Outcome, report: Callable[[str], None]) -> None:
    """Print the summary, what went wrong and, last, the JSON object."""
    report("")
    report(f"{'part':<10} {'fault':<20} times")
    for (part, kind), times in sorted(outcome.struck.items()):
        report(f"{part:<10} {kind:<20} {times:>5}")
    if outcome.exceptions:
        report("")
        report("in the logs, all of them met and outlived:")
        for name, times in outcome.exceptions.most_common():
            report(f"{times:>5}  {name}")
    if not outcome.is_good:
        for name, lines in outcome.log_tails.items():
            report(f"\nthe end of {name}:\n{lines}")
        report(f"\nseed {outcome.seed}, the last of the timeline:")
        for line in outcome.timeline[-TIMELINE_LINES:]:
            report(line)
        for violation in outcome.violations:
            report(f"WRONG: {violation}")
    report(json.dumps(to_json(outcome)))


def to_json(outcome: Outcome) -> dict[str, object]:
    """Return the outcome's numbers."""
    return {
        "good": outcome.is_good,
        "seed": outcome.seed,
        "faults": outcome.struck.total(),
        "faults_wanted": outcome.wanted,
        "runs": outcome.runs,
        "rounds": outcome.rounds,
        "rounds_burnt": outcome.burnt,
        "updates_late": outcome.late,
        "faults_in_secure_runs": dict(sorted(outcome.secure_phases.items())),
        "tasks_taken_again": outcome.tasks_again,
        "aggregations_begun_again": outcome.aggregations_again,
        "violations": len(outcome.violations),
        "seconds": round(outcome.seconds, 1),
    }


def show(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
