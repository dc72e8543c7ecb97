"""How fast the console shows a large federation: Chromium, the built console, a whole hub.

    python -m benchmarks.console            # or --quick

Opens each page anew (empty cache, then warm) on a stage with a federation of 1,000 sites and a run
of 500 rounds by 50 sites. `paint` is the browser's first contentful paint (the name, until the
scripts have come), `heading` the time until the page has its heading, `content` until nothing on it
says that it is loading, all from the navigation's start; `elements` counts the DOM, which has to be
bounded whatever is listed. The goal: a first paint under a second on localhost. The last line is
one JSON object.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from playwright.sync_api import Browser, expect

from benchmarks.rounds.machine import load_average, this_machine
from tests.console import large
from tests.console.stage import staged
from tests.console.visits import Visit, a_browser, visiting
from tests.e2e.processes import ADMIN, free_port

GOAL_SECONDS = 1.0  # first paint, on localhost
REPEATS, QUICK_REPEATS = 7, 2
FIRST_PAINT = """() => new Promise(found => new PerformanceObserver(list => {
    const paint = list.getEntriesByName('first-contentful-paint')[0];
    if (paint) found(paint.startTime);
}).observe({ type: 'paint', buffered: true }))"""
SENT = """() => performance.getEntriesByType('resource')
    .concat(performance.getEntriesByType('navigation'))
    .reduce((sum, entry) => sum + entry.transferSize, 0)"""
ELEMENTS = "() => document.getElementsByTagName('*').length"


@dataclass(frozen=True, slots=True)
class Shown:
    """One page, opened several times; medians."""

    page: str
    cache: str  # cold or warm
    paint_seconds: float
    heading_seconds: float
    content_seconds: float
    elements: int
    kilobytes: float  # over the wire, the hub's answers included


class _Facts(NamedTuple):
    """One opening of one page."""

    paint_seconds: float
    heading_seconds: float
    content_seconds: float
    elements: float
    kilobytes: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    repeats = QUICK_REPEATS if options.quick else REPEATS
    machine = this_machine()
    with tempfile.TemporaryDirectory(prefix="hansa-stage-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        with staged(folder, free_port()) as stage, a_browser() as browser:
            pages = {
                "federations": "",
                "federation": f"f/{large.SLUG}",
                "sites": f"f/{large.SLUG}/sites",
                "runs": f"f/{large.SLUG}/runs",
                "run": f"f/{large.SLUG}/runs/{stage.registry.run_id}",
            }
            address, password = stage.stack.address, stage.stack.password
            found = measure(browser, address, password, pages, repeats)
    print(f"{machine.cpu}, {machine.cores} cores, load {load_average():.1f}")
    print(
        f"{'page':<12} {'cache':<5} {'paint':>8} {'heading':>8} {'content':>8} "
        f"{'elements':>9} {'kB':>8}"
    )
    for shown in found:
        print(
            f"{shown.page:<12} {shown.cache:<5} {shown.paint_seconds:>6.2f} s "
            f"{shown.heading_seconds:>6.2f} s {shown.content_seconds:>6.2f} s "
            f"{shown.elements:>9} {shown.kilobytes:>8.0f}"
        )
    worst = max(shown.paint_seconds for shown in found)
    print(
        json.dumps(
            {
                "benchmark": "console",
                "machine": asdict(machine),
                "results": [asdict(shown) for shown in found],
                "worst_paint_over_goal": round(worst / GOAL_SECONDS, 3),
            }
        )
    )


def measure(
    browser: Browser, address: str, password: str, pages: Mapping[str, str], repeats: int
) -> list[Shown]:
    """Open every page `repeats` times without a cache, and again with one."""
    found: list[Shown] = []
    for name, path in pages.items():
        opened: dict[str, list[_Facts]] = {"cold": [], "warm": []}
        for _ in range(repeats):
            with visiting(browser, address, ADMIN, password) as visit:
                for cache in ("cold", "warm"):
                    opened[cache].append(_open(visit, path))
        for cache, several in opened.items():
            middle = _Facts(*(statistics.median(some) for some in zip(*several, strict=True)))
            found.append(
                Shown(
                    page=name,
                    cache=cache,
                    paint_seconds=round(middle.paint_seconds, 3),
                    heading_seconds=round(middle.heading_seconds, 3),
                    content_seconds=round(middle.content_seconds, 3),
                    elements=round(middle.elements),
                    kilobytes=round(middle.kilobytes, 1),
                )
            )
    return found


def _open(visit: Visit, path: str) -> _Facts:
    page = visit.page
    started = time.monotonic()
    page.goto(visit.base + path, wait_until="commit")
    expect(page.get_by_role("heading", level=1).first).to_be_visible()
    heading = time.monotonic() - started
    visit.settle()
    content = time.monotonic() - started
    paint = page.evaluate(FIRST_PAINT)  # reported a moment after it happened
    return _Facts(
        paint / 1000, heading, content, page.evaluate(ELEMENTS), page.evaluate(SENT) / 1000
    )


if __name__ == "__main__":
    main()
