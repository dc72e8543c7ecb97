"""The SDK alone, as a hospital installs it: no hub, no torch."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.processes import CHECKOUT, clean_env

SECONDS = 300.0  # of a slow package index


def run(*argv: str | Path, cwd: Path) -> str:
    done = subprocess.run(  # noqa: S603 -- our own commands
        [str(part) for part in argv],
        cwd=cwd,
        env=clean_env(PYTHONPATH=""),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_sdk_installs_alone_and_runs_without_the_hub_and_torch(tmp_path: Path) -> None:
    source = tmp_path / "client_sdk"  # a copy: building writes beside the sources
    shutil.copytree(
        CHECKOUT / "client_sdk", source, ignore=shutil.ignore_patterns("*.egg-info", "build")
    )
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    bin_dir = tmp_path / "venv" / "bin"
    run(bin_dir / "pip", "install", "--quiet", "./client_sdk", cwd=tmp_path)

    assert "Train one model" in run(bin_dir / "hansa", "--help", cwd=tmp_path)
    installed = {line.partition("==")[0].lower() for line in run_freeze(bin_dir, tmp_path)}
    server_side = {"torch", "fastapi", "sqlalchemy", "celery", "redis", "uvicorn", "hansa-hub"}
    assert installed & server_side == set()
    # Every module can be imported but those for torch, and the compiled loops, which need numba.
    script = """
import importlib, pkgutil, hansa, hansa_core
for package in (hansa, hansa_core):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if module.name == "hansa.pytorch":
            continue  # it says what to install
        try:
            print(importlib.import_module(module.name).__name__)
        except ModuleNotFoundError as error:
            if error.name not in {"torch", "numba", "llvmlite"}:
                raise
"""
    imported = run(bin_dir / "python", "-W", "error", "-c", script, cwd=tmp_path).splitlines()
    assert {"hansa.runner", "hansa.cli.main", "hansa_core.aggregation.mean"} <= set(imported)


def run_freeze(bin_dir: Path, cwd: Path) -> list[str]:
    return run(bin_dir / "pip", "freeze", cwd=cwd).splitlines()
