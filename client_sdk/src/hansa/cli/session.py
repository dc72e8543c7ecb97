"""`hansa login`, `hansa logout`, `hansa whoami`."""

import os
import sys
from typing import Annotated

import typer

from hansa.cli.hub_keys import pin_at_login
from hansa.cli.output import JsonFlag, errors, print_json, say
from hansa.cli.settings import Config, config_path, connect, load_config, save_config
from hansa.client import HansaClient
from hansa.errors import HansaError
from hansa.transport import is_plain_and_remote

MAX_PASSWORD = 1024  # characters


def add_to(app: typer.Typer) -> None:
    """Give the application these commands, without a noun before them."""
    app.command("login")(login)
    app.command("logout")(logout)
    app.command("whoami")(whoami)


def login(
    url: Annotated[str, typer.Argument(help="The hub's address.")],
    email: Annotated[str, typer.Option(help="Who you are.", prompt=True)],
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    hub_key: Annotated[
        str | None,
        typer.Option(metavar="FINGERPRINT", help="The hub's key, as its operator told you."),
    ] = None,
) -> None:
    """Log in at a hub and remember the session, and the hub's key."""
    password = (
        sys.stdin.readline(MAX_PASSWORD + 2).rstrip("\r\n")
        if password_stdin
        else str(typer.prompt("Password", hide_input=True))
    )
    with HansaClient(url) as client:
        if is_plain_and_remote(client.url):
            warn_of_plain_http(client.url)
        pin_at_login(client, hub_key)
        session = client.login(email, password)
        before = load_config()
        federation = before.federation if before.url == client.url else None
        save_config(
            Config(
                url=client.url, token=session.token, email=session.user.email, federation=federation
            )
        )
        say(f"logged in at {client.url} as {session.user.email}, until {session.expires_at:%F %R}")


def logout() -> None:
    """End the session and forget its token."""
    config = load_config()
    if config.url and config.token:
        try:
            with HansaClient(config.url, config.token) as client:
                client.logout()
        except HansaError as error:
            say(f"the hub did not end the session ({error}); its token is forgotten here")
    config_path().unlink(missing_ok=True)
    say("logged out")


def whoami(*, as_json: JsonFlag = False) -> None:
    """Say who you are, and where."""
    with connect() as client:
        user = client.me()
        if as_json:
            print_json(user)
            return
        role = ", administrator" if user.is_admin else ""
        source = " (by HANSA_TOKEN)" if os.environ.get("HANSA_TOKEN") else ""
        say(f"{user.email} ({user.name}{role}) at {client.url}{source}")


def warn_of_plain_http(url: str) -> None:
    """Say that secrets to `url` cross the network in clear."""
    errors.print(
        f"warning: {url} is not https: passwords and tokens cross the network unencrypted",
        style="yellow",
        soft_wrap=True,
        markup=False,
    )
