"""Kills a site before its n-th change on disk, in the test's own process."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


class KilledError(BaseException):
    """The process is no more: nothing catches this."""


class Reaper:
    """Kills the site before its n-th change on disk; a dead process changes nothing any more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.before = 0  # the step that is not done; 0: none
        self.done = 0
        for owner, name in (
            (os, "fsync"),
            (Path, "replace"),
            (Path, "mkdir"),
            (Path, "unlink"),
            (shutil, "rmtree"),
        ):
            monkeypatch.setattr(owner, name, self._wrapped(getattr(owner, name)))

    def _wrapped(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def act(*arguments: Any, **options: Any) -> Any:
            self.done += 1
            if self.before and self.done >= self.before:
                raise KilledError
            return real(*arguments, **options)

        return act
