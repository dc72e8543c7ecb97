"""The demo's story, told through the REST API alone: what an operator, four hospitals and a
researcher do, one after the other.

Invariant: nothing here depends on time, on kills or on earlier demos but the federation's name;
the same seed and rounds give the same bytes. A hub that is away is waited out by the client.
"""

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.embedded import network
from examples.demo import progress
from examples.demo.places import (
    ADMIN_EMAIL,
    HOST,
    HUB,
    TRAINER,
    Places,
    enroll_argv,
    site_spec,
)
from examples.demo.supervision import Requests
from hansa.cli.plans import read_document
from hansa.client import HansaClient
from hansa.identity import open_state_dir
from hansa.journal import load_tensors, store_tensors
from hansa.trainer import load_trainer, parse_config
from hansa.transport import RetryPolicy
from hansa_core import wire
from hansa_core.plans import RunPlan, parse_plan, problems_of
from hansa_core.states import RunState

PLAN = Path(__file__).parents[1] / "heart_disease" / "plan.toml"
SITES = ("cleveland", "hungary", "switzerland", "va-long-beach")
PATIENCE = RetryPolicy(attempts=90, max_delay_seconds=2.0)  # three minutes without a hub
ENROLL_ATTEMPTS = 5
ENROLL_SECONDS = 120.0


class DemoError(Exception):
    """A step of the demo failed; the message says which."""


@dataclass(frozen=True, slots=True)
class Demo:
    """One demo."""

    places: Places
    address: str
    plan: RunPlan
    console: Console
    requests: Requests
