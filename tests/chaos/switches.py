"""Faults that are no process's: the network in between, and the folder of artifacts."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(slots=True)
class Switch:
    """Something that is off for a while."""

    off_until: float = 0.0  # monotonic seconds
    _back: Callable[[], None] | None = None  # while it is off

    @property
    def is_whole(self) -> bool:
        return self._back is None

    def was_off_within(self, seconds: float) -> bool:
        """Whether it is off, or was so lately."""
        return time.monotonic() - self.off_until < seconds

    def turn_off(self, off: Callable[[], None], on: Callable[[], None], seconds: float) -> None:
        """Call `off` now and `on` after `seconds`."""
        assert self._back is None
        self.off_until = time.monotonic() + seconds
        off()
        self._back = on

    def tick(self) -> None:
        """Turn it on again when that is due."""
        if self._back is not None and time.monotonic() >= self.off_until:
            self.end()

    def end(self) -> None:
        """Turn it on again now."""
        back, self._back = self._back, None
        if back is not None:
            back()


@dataclass(frozen=True, slots=True)
class StoreFolder:
    """An artifact folder that can vanish and come back, in one step each, contents untouched.

    Two symbolic links, <home>/artifacts and in it `incoming`, point to folders or to nothing.
    Works for root too, whom no permission keeps from writing.
    """

    home: Path

    @property
    def path(self) -> Path:
        """What the hub is told."""
        return self.home / "artifacts"

    def make(self) -> None:
        """Make both folders and both links."""
        for folder in (self.home / "disk", self.home / "disk-incoming"):
            folder.mkdir(mode=0o700)
        self.show(there=True)
        self.allow_writing(allowed=True)

    def show(self, *, there: bool) -> None:
        """Make the whole folder appear, or vanish like a disk that is not mounted."""
        _point(self.path, self.home / ("disk" if there else "no-disk"))

    def allow_writing(self, *, allowed: bool) -> None:
        """Let files be begun, or refuse new ones; what is stored can be read."""
        target = "disk-incoming" if allowed else "no-incoming"
        _point(self.home / "disk" / "incoming", self.home / target)


def _point(link: Path, target: Path) -> None:
    fresh = link.with_name(f"{link.name}.new")
    fresh.symlink_to(target)
    fresh.replace(link)
