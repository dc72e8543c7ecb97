"""Pictures of every page for the documents: light and dark, at a desk, and some on a phone.

    python -m tests.console.screenshots --only run,sites

Fills a stage of its own, so that what is shown is real. With Pillow in the environment the
pictures are reduced to 256 colours.
"""

import argparse
import importlib
import importlib.util
import io
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page
from rich.console import Console
from rich.table import Table

from tests.console import heart
from tests.console.places import PLACES, path_of
from tests.console.stage import Stage, staged
from tests.console.visits import DESK, PHONE, Scheme, a_browser, visiting
from tests.e2e.processes import ADMIN, CHECKOUT, free_port, until

FOLDER = CHECKOUT / "docs" / "images" / "console"
PACE = heart.Pace(rounds=20, rounds_now=60, seconds_now=2.0)
ROUNDS_SHOWN = 24  # of the run that goes on, before its picture is taken
ON_A_PHONE = ("federations", "federation", "sites", "site", "runs", "run", "new-run")
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
COLOURS = 256


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture that was taken."""

    name: str
    size: int  # bytes


def _invite(page: Page) -> None:
    page.get_by_role("button", name="Make the invitation").click()
    page.get_by_text("Waiting for the site").wait_for()


def _verify(page: Page) -> None:
    page.get_by_role("button", name="Verify in this browser").click()
    page.get_by_text("Nothing is wrong").wait_for()


FIRST: Mapping[str, Callable[[Page], None]] = {"enrol": _invite, "receipts": _verify}


def take(
    stage: Stage, browser: Browser, folder: Path, names: Sequence[str] | None = None
) -> list[Picture]:
    """Take the pictures of `names`, by default of every page; each page is shown as it settled."""
    taken: list[Picture] = []
    kinds = [("", DESK, tuple(PLACES)), ("-phone", PHONE, ON_A_PHONE)]
    for suffix, size, pages in kinds:
        for scheme in SCHEMES:
            for name in pages:
                if names is not None and name not in names:
                    continue
                image = _shot(stage, browser, name, size, scheme)
                path = folder / f"{name}{suffix}-{scheme}.png"
                path.write_bytes(image)
                taken.append(Picture(path.name, len(image)))
    return taken


def _shot(
    stage: Stage, browser: Browser, name: str, size: tuple[int, int], scheme: Scheme
) -> bytes:
    email, password = (ADMIN, stage.stack.password) if name != "sign-in" else ("", "")
    with visiting(browser, stage.stack.address, email, password, size=size, scheme=scheme) as visit:
        page = visit.open(path_of(stage, name))
        visit.settle()
        if name in FIRST:
            FIRST[name](page)
        page.wait_for_load_state("networkidle") if name == "sign-in" else _drawn(page)
        image = page.screenshot(animations="disabled", caret="hide")
    return _reduced(image)


def _drawn(page: Page) -> None:
    """Wait until fonts are there and a chart, if there is one, has its lines."""
    page.evaluate("() => document.fonts.ready.then(() => true)")
    page.wait_for_timeout(700)  # what the page asks for next, and the browser's own painting


def _reduced(image: bytes) -> bytes:
    if importlib.util.find_spec("PIL") is None:
        return image
    pillow: Any = importlib.import_module("PIL.Image")
    reduced = io.BytesIO()
    opened = pillow.open(io.BytesIO(image)).convert("RGB")
    opened.quantize(COLOURS, method=pillow.Quantize.MEDIANCUT, dither=pillow.Dither.NONE).save(
        reduced, "PNG", optimize=True
    )
    return min(image, reduced.getvalue(), key=len)


def main() -> None:
    """Fill a stage and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--only", type=lambda text: text.split(","), help="pages, by name")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="hansa-stage-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        with staged(folder, free_port(), pace=PACE) as stage, a_browser() as browser:
            client, run_id = stage.heart.client, stage.heart.runs["longitudinal"]
            until(
                lambda: client.run(heart.SLUG, run_id).rounds_completed >= ROUNDS_SHOWN,
                "a run to look at",
                seconds=600,
            )
            taken = take(stage, browser, options.folder, options.only)
    table = Table("picture", "kB", box=None)
    for picture in taken:
        table.add_row(picture.name, f"{picture.size / 1000:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
