"""A hub in a process of its own, to be killed and started again on the same port."""

import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from app.settings import Settings

START_SECONDS = 60.0
ROOT = Path(__file__).parents[3]


@dataclass(slots=True)
class Hub:
    """`uvicorn app.main:create_app`, on a port that stays the same."""

    settings: Settings
    port: int
    log: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def resident(self) -> int:
        """Bytes of resident memory."""
        assert self.process is not None
        return psutil.Process(self.process.pid).memory_info().rss

    def start(self) -> None:
        """Start it and wait until it answers."""
        secrets = {"database_url", "redis_url", "signing_key", "s3_secret_access_key"}
        environment = {
            f"HANSA_{name.upper()}": (
                getattr(self.settings, name).get_secret_value() if name in secrets else str(value)
            )
            for name, value in self.settings.model_dump().items()
        }
        command = [sys.executable, "-m", "uvicorn", "--factory", "app.main:create_app"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 -- our own interpreter
                [*command, "--port", str(self.port), "--log-level", "warning"],
                env=os.environ | environment,
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_SECONDS
        while True:
            assert self.process.poll() is None, self.log.read_text()
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                assert time.monotonic() < deadline, self.log.read_text()
                try:  # a pause that ends when it dies
                    self.process.wait(0.05)
                except subprocess.TimeoutExpired:
                    continue
            else:
                return

    def kill(self) -> None:
        """End it with signal 9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End it politely, and surely."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(20)
            finally:
                self.process.kill()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
