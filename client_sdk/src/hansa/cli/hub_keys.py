"""Which keys the hubs had when this person first logged in there: what receipts are held to.

    known_hubs.json    beside the configuration: {"<url>": ["<fingerprint>", ...]}

A key is pinned when its hub is first met, as ssh does, or by name with `hansa login --hub-key`.
A hub that shows another key later is told of, never followed. Logging out forgets no key.
"""

import json
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from hansa.cli.output import errors, say
from hansa.cli.settings import config_path
from hansa.client import HansaClient
from hansa.errors import LocalError, RefusedError
from hansa.files import write_durably
from hansa_core.signing import decode_base64, fingerprint

_KNOWN = TypeAdapter(dict[str, list[str]])


def pinned_keys(url: str) -> frozenset[str]:
    """Return the fingerprints pinned for the hub at `url`. Raises LocalError."""
    return frozenset(_load().get(url, ()))


def pin_at_login(client: HansaClient, wanted: str | None) -> None:
    """Remember the hub's key when it is the first one, or the one that was `wanted`.

    Raises:
        LocalError: the hub has another key than `wanted`, or a name that is not its key's.
    """
    try:
        hub = client.hub()
    except RefusedError:  # a hub from before receipts
        if wanted is not None:
            raise
        return
    shown = fingerprint(decode_base64(hub.public_key))
    if wanted not in {None, shown}:
        raise LocalError(
            f"the hub at {client.url} has the key {shown}, wanted {wanted}",
            hint="ask its operator; nothing was sent but this question",
        )
    known = _load()
    keys = known.get(client.url, [])
    if shown in keys:
        return
    if keys and wanted is None:
        errors.print(
            f"warning: the hub's key is {shown}, pinned is {', '.join(keys)}. If its operator "
            f"says that it changed: hansa login {client.url} --hub-key {shown}",
            style="yellow",
            soft_wrap=True,
            markup=False,
        )
        return
    path = _path()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    known[client.url] = [*keys, shown]
    write_durably(path, json.dumps(known, indent=2).encode() + b"\n", mode=0o600)
    say(f"pinned the hub's key {shown}; compare it with its operator")


def _path() -> Path:
    return config_path().with_name("known_hubs.json")


def _load() -> dict[str, list[str]]:
    try:
        return _KNOWN.validate_json(_path().read_bytes())
    except FileNotFoundError:
        return {}
    except ValidationError as error:
        raise LocalError(
            f"{_path()} is damaged", hint="correct or remove it; removed, hubs are met anew"
        ) from error
