"""`hansa consortium ...`: the offline key that says which sites belong to a consortium.

These commands talk to no hub. The key belongs on a machine that is on no network.
"""

from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from hansa.cli.output import JsonFlag, print_fields, print_json, print_table, say
from hansa.errors import LocalError
from hansa.identity import read_key, store_key
from hansa.secure.memberships import (
    MAX_LIST,
    ListedSite,
    Membership,
    SignedMembership,
    read_membership,
    sign_membership,
)
from hansa.secure.peers import checked_fingerprint, checked_name
from hansa_core.signing import decode_base64, encode_base64, generate_private_key, public_key
from hansa_core.signing import fingerprint as fingerprint_of

app = typer.Typer(no_args_is_help=True, help="A consortium's offline key and membership lists.")


@app.command("keygen")
def make_key(
    file: Annotated[Path, typer.Argument(help="Where the private key goes; must not exist.")],
) -> None:
    """Make the consortium's key, and show what its sites have to know of it."""
    if file.exists():
        raise LocalError(
            f"{file} exists, and a key is never overwritten",
            hint="name another file; whoever loses the key needs a new one at every site",
        )
    private_key, public = _new_key()
    store_key(file, private_key)
    print_fields([("public key", encode_base64(public)), ("fingerprint", fingerprint_of(public))])
    say("Next: at every site, hansa site peers consortium PUBLIC-KEY")


@app.command("sign")
def sign_list(
    members: Annotated[
        list[str],
        typer.Argument(help="NAME=FINGERPRINT, or NAME:SITE-ID=FINGERPRINT.", metavar="NAME=..."),
    ],
    key: Annotated[Path, typer.Option(help="The consortium's private key.")],
    federation: Annotated[UUID, typer.Option(help="The federation's id.")],
    serial: Annotated[int, typer.Option(min=1, help="Above that of every list before.")],
) -> None:
    """Print a signed membership list. It replaces the one before it whole."""
    membership = Membership(
        federation_id=federation, serial=serial, members=[_listed(it) for it in members]
    )
    print_json(sign_membership(read_key(key), membership))


@app.command("show")
def show_list(
    file: Annotated[Path, typer.Argument(help="A membership list.")], *, as_json: JsonFlag = False
) -> None:
    """Show what a membership list says, and whose signature it has."""
    with file.open("rb") as opened:
        signed = read_membership(opened.read(MAX_LIST + 1))
    if as_json:
        print_json(signed)
        return
    _show(signed)


def _new_key() -> tuple[bytes, bytes]:
    """Return a private key and its public one, whose text no command line takes for an option."""
    while True:
        private_key = generate_private_key()
        public = public_key(private_key)
        if not encode_base64(public).startswith("-"):
            return private_key, public


def _show(signed: SignedMembership) -> None:
    said = signed.membership
    print_fields(
        [
            ("federation", said.federation_id),
            ("serial", said.serial),
            ("signed by", fingerprint_of(decode_base64(signed.public_key))),
        ]
    )
    print_table(
        ("NAME", "FINGERPRINT", "SITE ID"),
        [(it.site_name, it.fingerprint, it.site_id) for it in said.members],
        empty="no site is on it",
    )
    say("the signature is good; compare the key with the consortium's")


def _listed(text: str) -> ListedSite:
    """Return the line that NAME[:SITE-ID]=FINGERPRINT asks for. Raises LocalError."""
    who, equals, wanted = text.partition("=")
    name, colon, site_id = who.partition(":")
    if not equals:
        raise LocalError(f"{text!r} is no member, wanted NAME=FINGERPRINT")
    try:
        known = UUID(site_id) if colon else None
    except ValueError as error:
        raise LocalError(f"{site_id!r} of {text!r} is no site's id") from error
    return ListedSite(
        site_name=checked_name(name), site_id=known, fingerprint=checked_fingerprint(wanted)
    )
