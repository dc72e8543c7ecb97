"""Which browser the tests of the console take, and what they say without one."""

from pathlib import Path

import pytest

from tests.browsers import NoBrowserError, chromium_path


@pytest.fixture
def nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without a browser: the only folder in PATH, empty."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path / "playwright"))
    return tmp_path


def test_the_machines_own_browser_comes_first(nothing: Path) -> None:
    for name in ("google-chrome", "chromium"):
        (nothing / name).touch(mode=0o755)
        assert chromium_path() == nothing / name


def test_without_a_browser_it_says_how_to_get_one(nothing: Path) -> None:
    with pytest.raises(NoBrowserError, match=r"not at .*playwright.*make browser"):
        chromium_path()
