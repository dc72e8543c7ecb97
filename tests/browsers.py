"""A Chromium for the tests of the console: the machine's own, or else Playwright's.

`python -m tests.browsers` installs one where there is none. Who has neither fails and is told
what to do: a test that needs a browser is never skipped.
"""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

NAMES = ("chromium", "google-chrome-stable", "google-chrome")
DEBIAN_PACKAGES = ("chromium", "fonts-liberation")
PLAYWRIGHT = (sys.executable, "-m", "playwright", "install", "chromium")


class NoBrowserError(RuntimeError):
    """There is no Chromium here."""


def chromium_path() -> Path:
    """Return the program. Raises NoBrowserError, which says how to get it.

    Call it before a Playwright is started: it may have to start one, and they do not nest.
    """
    for name in NAMES:
        if found := shutil.which(name):
            return Path(found)
    with sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
    if own.is_file():
        return own
    raise NoBrowserError(
        f"none of {', '.join(NAMES)} is in PATH, and Playwright's own is not at {own}; "
        "install one with: make browser"
    )


def install() -> None:
    """Install Debian's where that may be done, or else Playwright's, for this user alone.

    Raises:
        subprocess.CalledProcessError: it could not be fetched; the installer has said why.
    """
    if os.geteuid() == 0 and _is_debian():
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        options = ("--quiet", "--yes", "--no-install-recommends")
        _run("apt-get", "update", "--quiet", env=quiet)
        _run("apt-get", "install", *options, *DEBIAN_PACKAGES, env=quiet)
    else:
        _run(*PLAYWRIGHT)


def main() -> int:
    """Find a Chromium, install one if there is none, and see that it starts."""
    try:
        path = chromium_path()
    except NoBrowserError as error:
        sys.stderr.write(f"{error.args[0].partition(';')[0]}: installing one\n")
        try:
            install()
            path = chromium_path()
        except (NoBrowserError, OSError, subprocess.CalledProcessError) as failed:
            sys.stderr.write(f"no Chromium could be installed: {str(failed).partition(';')[0]}\n")
            return 1
    started = subprocess.run(  # noqa: S603 -- a browser that was found or installed above
        [path, "--version"], capture_output=True, text=True, check=False
    )
    if started.returncode != 0:
        sys.stderr.write(f"{path} does not start: {started.stderr.strip()}\n")
        return 1
    return 0


def _is_debian() -> bool:
    try:
        return platform.freedesktop_os_release()["ID"] == "debian"
    except OSError:
        return False


def _run(*argv: str, env: dict[str, str] | None = None) -> None:
    subprocess.run(argv, env=env, check=True)  # noqa: S603 -- our own commands


if __name__ == "__main__":
    sys.exit(main())
