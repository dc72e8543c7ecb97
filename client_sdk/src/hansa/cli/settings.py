"""Where the command line keeps who is logged in where, and how it makes a client of it.

    $HANSA_CONFIG, else ~/.config/hansa/config.json (mode 0600: it holds the token)

HANSA_URL, HANSA_TOKEN and HANSA_FEDERATION win over the file. A token is only ever sent to the
address it was stored for.
"""

import os
from itertools import islice
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from pydantic import BaseModel, ConfigDict, ValidationError

from hansa.client import HansaClient
from hansa.errors import LocalError
from hansa.files import write_durably
from hansa.transport import checked_url
from hansa_core import wire

FederationOption = Annotated[
    str | None,
    typer.Option("--federation", "-f", help="Slug or id; see `hansa federation use`."),
]


class Config(BaseModel):
    """Who is logged in where."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    url: str | None = None
    token: str | None = None
    email: str | None = None
    federation: str | None = None  # the default one


def config_path() -> Path:
    """Return where the configuration is."""
    named = os.environ.get("HANSA_CONFIG")
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(named) if named else Path(base) / "hansa" / "config.json"


def load_config() -> Config:
    """Return the stored configuration, empty if there is none.

    Raises:
        LocalError: the file is damaged.
    """
    try:
        return Config.model_validate_json(config_path().read_bytes())
    except FileNotFoundError:
        return Config()
    except ValidationError as error:
        raise LocalError(f"{config_path()} is damaged", hint="log in again: hansa login") from error


def save_config(config: Config) -> None:
    """Store the configuration, readable by its owner only."""
    path = config_path()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_durably(path, config.model_dump_json(indent=2).encode() + b"\n", mode=0o600)


def connect() -> HansaClient:
    """Return a client for the hub that the environment or the last login names.

    Raises:
        LocalError: nobody is logged in.
    """
    config = load_config()
    url = os.environ.get("HANSA_URL") or config.url
    if not url:
        raise LocalError(
            "no hub is named", hint="log in with `hansa login URL --email EMAIL`, or set HANSA_URL"
        )
    url = checked_url(url)
    token = os.environ.get("HANSA_TOKEN") or (config.token if url == config.url else None)
    if not token:
        raise LocalError(
            f"nobody is logged in at {url}",
            hint=f"log in with `hansa login {url} --email EMAIL`, or set HANSA_TOKEN",
        )
    return HansaClient(url, token)


def chosen_federation(client: HansaClient, option: str | None) -> str:
    """Return the federation to work in: the option, the default, or the only one there is.

    Raises:
        LocalError: it is not clear which.
    """
    named = option or os.environ.get("HANSA_FEDERATION") or load_config().federation
    if named:
        return named
    found = list(islice(client.federations(), 11))
    if len(found) == 1:
        return found[0].slug
    known = ", ".join(federation.slug for federation in found[:10])
    raise LocalError(
        f"which federation? You see: {known}" if known else "you see no federation",
        hint="name it with -f, or once and for all with `hansa federation use SLUG`"
        if known
        else "an administrator makes one with `hansa federation create`",
    )


def find_site(client: HansaClient, federation: str, named: str) -> wire.Site:
    """Return the site with that name or id. Raises LocalError, HansaError."""
    site_id = as_uuid(named)
    if site_id is not None:
        return client.site(federation, site_id)
    names: list[str] = []
    for site in client.sites(federation):
        if site.name == named:
            return site
        names.append(site.name)
    raise LocalError(
        f"federation {federation} has no site {named!r}",
        hint=f"it has: {', '.join(names[:20]) or 'none yet'}",
    )


def find_run(client: HansaClient, federation: str, named: str) -> wire.Run:
    """Return the run with that id, or the newest with that name. Raises LocalError, HansaError."""
    run_id = as_uuid(named)
    if run_id is not None:
        return client.run(federation, run_id)
    for run in client.runs(federation, q=named):
        if run.name == named:
            return run
    raise LocalError(f"federation {federation} has no run {named!r}", hint="see `hansa run list`")


def as_uuid(text: str) -> UUID | None:
    """Return `text` as a UUID; None if it is a name."""
    try:
        return UUID(text)
    except ValueError:
        return None


def parse_labels(pairs: list[str] | None) -> dict[str, str]:
    """Return `k=v` texts as labels. Raises LocalError."""
    labels: dict[str, str] = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise LocalError(f"label {pair!r}: wanted the form key=value")
        labels[key] = value
    return labels
