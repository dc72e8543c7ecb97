"""`hansa site peers ...`: whose identity keys this site believes in, in secure runs."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel

from hansa.cli.output import JsonFlag, print_json, print_table, say
from hansa.cli.state_dirs import StateDirOption
from hansa.errors import LocalError
from hansa.identity import default_state_dir, open_state_dir
from hansa.secure.memberships import MAX_LIST
from hansa.secure.peers import Book, Peers, PeersMode

app = typer.Typer(help="The other sites that this one trusts in secure runs.")

_MEANINGS = {
    PeersMode.FIRST_USE: "a site's key is pinned when it is first seen",
    PeersMode.PINNED: "only sites that you pinned",
    PeersMode.CONSORTIUM: "only sites on the consortium's list",
}


class _Line(BaseModel):
    name: str
    fingerprint: str
    trusted: str
    since: str | None


@app.callback(invoke_without_command=True)
def list_peers(
    context: typer.Context, state_dir: StateDirOption = None, *, as_json: JsonFlag = False
) -> None:
    """Show the sites that this one knows, and how it came to trust them."""
    if context.invoked_subcommand is not None:
        return
    peers = _peers(state_dir)
    listed = peers.listed()
    if as_json:
        print_json(
            [
                _Line(
                    name=it.name,
                    fingerprint=it.fingerprint,
                    trusted=it.trusted,
                    since=None if it.since is None else it.since.isoformat(),
                )
                for it in listed
            ]
        )
        return
    say(f"mode {mode_in_words(peers.book())}")
    print_table(
        ("NAME", "FINGERPRINT", "TRUSTED", "SINCE"),
        [
            (it.name, it.fingerprint, it.trusted, it.since and f"{it.since:%Y-%m-%d %H:%M}Z")
            for it in listed
        ],
        empty="no other site is known yet",
    )


@app.command("pin")
def pin_peer(
    name: Annotated[str, typer.Argument(help="The site's name in the federation.")],
    fingerprint: Annotated[str, typer.Argument(help="As that site's operator tells it.")],
    state_dir: StateDirOption = None,
) -> None:
    """Trust a site with this fingerprint and no other, in place of what was pinned."""
    _peers(state_dir).pin(name, fingerprint)
    say(f"pinned {name}")


@app.command("unpin")
def unpin_peer(
    name: Annotated[str, typer.Argument(help="The site's name in the federation.")],
    state_dir: StateDirOption = None,
) -> None:
    """Forget a site's fingerprint."""
    _peers(state_dir).unpin(name)
    say(f"unpinned {name}")


@app.command("mode")
def set_mode(
    mode: Annotated[PeersMode, typer.Argument(help="How other sites come to be trusted.")],
    state_dir: StateDirOption = None,
) -> None:
    """Choose how other sites come to be trusted."""
    peers = _peers(state_dir)
    peers.set_mode(mode)
    say(f"mode {mode_in_words(peers.book())}")


@app.command("consortium")
def set_consortium(
    key: Annotated[str, typer.Argument(help="The consortium's public key.")],
    state_dir: StateDirOption = None,
) -> None:
    """Name the key that the consortium's membership lists are signed with."""
    shown = _peers(state_dir).set_consortium(key)
    say(f"the consortium's key has the fingerprint {shown}; compare it with its admin")
    say("Next: hansa site peers import FILE, then hansa site peers mode consortium")


@app.command("import")
def import_list(
    file: Annotated[Path, typer.Argument(help="The consortium's membership list.")],
    state_dir: StateDirOption = None,
) -> None:
    """Take over a membership list that the consortium's key signed."""
    state = open_state_dir(state_dir or default_state_dir())
    record = state.record()
    if record is None:
        raise LocalError(f"{state.path} holds no enrolled site")
    peers = Peers(state.path)
    with file.open("rb") as opened:
        content = opened.read(MAX_LIST + 1)
    membership = peers.import_list(content, federation_id=record.federation_id)
    say(f"list {membership.serial} of {len(membership.members)} sites is in force")
    if peers.book().mode is not PeersMode.CONSORTIUM:
        say("It counts once you say: hansa site peers mode consortium")


def _peers(state_dir: Path | None) -> Peers:
    return Peers(open_state_dir(state_dir or default_state_dir()).path)


def mode_in_words(book: Book) -> str:
    """Return how other sites come to be trusted."""
    return f"{book.mode}: {_MEANINGS[book.mode]}"
