"""Where the demo keeps things, and the commands it runs there.

<work dir>/hub/           the hub's data: kept, each demo adds a federation to it
<work dir>/hospitals/     one private directory a hospital
<work dir>/sites/         one state directory a site, of the latest demo
<work dir>/logs/          what the hub and the sites print
<work dir>/heart-final.safetensors
"""

import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from app.embedded.processes import ProcessSpec
from app.embedded.stack import ADMIN_PASSWORD_FILE, CHECKOUT

HOST = "127.0.0.1"
PORT = 8400
ADMIN_EMAIL = "admin@hansa.example"
HUB = "hansa-hub"
TRAINER = "examples.heart_disease.trainer:trainer"

# Four sites share this machine's cores: one thread each.
_SITE_ENV = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True, slots=True)
class Places:
    """The folders of one demo; `root` is absolute."""

    root: Path

    @property
    def hub(self) -> Path:
        """The hub's data directory."""
        return self.root / "hub"

    @property
    def hospitals(self) -> Path:
        """Where each hospital's private directory is."""
        return self.root / "hospitals"

    @property
    def sites(self) -> Path:
        """Where each site's state directory is."""
        return self.root / "sites"

    @property
    def logs(self) -> Path:
        """Where the processes' output goes."""
        return self.root / "logs"

    @property
    def secure_checkpoint(self) -> Path:
        """Where the model of the secure run is put, if there is one."""
        return self.root / "heart-secure.safetensors"

    @property
    def checkpoint(self) -> Path:
        """The final model's file."""
        return self.root / "heart-final.safetensors"

    @property
    def password(self) -> Path:
        """The file with the administrator's password."""
        return self.hub / ADMIN_PASSWORD_FILE


def hub_spec(places: Places, port: int) -> ProcessSpec:
    """Describe the hub with all its parts."""
    return ProcessSpec(
        name=HUB,
        argv=(
            *(command(HUB), "up", "--data-dir", str(places.hub)),
            *("--host", HOST, "--port", str(port), "--admin-email", ADMIN_EMAIL),
        ),
        env={},
        cwd=CHECKOUT,
        # Not SIGKILL: if the demo is killed, Postgres still stops in good order.
        death_signal=signal.SIGTERM,
        stop_seconds=60,
    )


def site_spec(places: Places, site: str) -> ProcessSpec:
    """Describe one hospital's runner, as its operator would start it."""
    return ProcessSpec(
        name=site,
        argv=(
            *(command("hansa"), "site", "run", "--trainer", TRAINER),
            *("--state-dir", str(places.sites / site)),
        ),
        env={**_SITE_ENV, "HANSA_DATA_DIR": str(places.hospitals / site)},
        cwd=CHECKOUT,  # where the trainer is found
        stop_seconds=10,
    )


def enroll_argv(places: Places, site: str, address: str, invitation: str) -> tuple[str, ...]:
    """Return the command that enrolls one hospital."""
    state_dir = str(places.sites / site)
    options = ("--name", site, "--state-dir", state_dir)
    return (command("hansa"), "site", "enroll", address, invitation, *options)


def command(name: str) -> str:
    """Return the installed command beside this very Python."""
    return str(Path(sys.executable).with_name(name))


def for_people(path: Path) -> str:
    """Return the path as short as it can be typed from here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
