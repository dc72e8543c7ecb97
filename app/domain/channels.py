"""What a channel may point at, and how long it waits after a failure. Pure."""

import re
from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final
from urllib.parse import SplitResult, urlsplit

from hansa_core.wire import ChannelKind

FIRST_DELAY: Final = timedelta(seconds=5)
LONGEST_DELAY: Final = timedelta(hours=1)
WARN_AFTER: Final = 5  # failures in a row: about a minute
GIVE_UP_AFTER: Final = timedelta(days=3)  # of failing

DEFAULT_EVENTS: Final = {ChannelKind.WEBHOOK: ["*"], ChannelKind.EMAIL: ["alert.*"]}

_TRANSLATED: Final = IPv6Network("64:ff9b::/96")  # NAT64: the last 32 bits are an IPv4 address
_LOCAL_TRANSLATED: Final = IPv6Network("64:ff9b:1::/48")
_VISIBLE: Final = re.compile(r"[\x21-\x7e]+")
# One address and nothing that a mail header gives a meaning to.
_EMAIL: Final = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*")


def delay(failures: int, draw: float) -> timedelta:
    """Return the wait after `failures` (from 1) in a row; `draw` in [0, 1) is the jitter."""
    ceiling = min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(failures - 1, 32))
    return ceiling * (0.5 + draw / 2)


def is_public(address: str) -> bool:
    """Tell whether an IP address is one of the public internet, by all its possible readings."""
    found = ip_address(address.partition("%")[0])
    if isinstance(found, IPv4Address):
        return found.is_global and not found.is_multicast
    if found.ipv4_mapped is not None:
        return is_public(str(found.ipv4_mapped))
    if found in _TRANSLATED:
        return is_public(str(IPv4Address(found.packed[-4:])))
    return found.is_global and not found.is_multicast and not _tunnels(found)


def wrong_with_url(url: str, *, allow_private: bool) -> str | None:
    """Return what keeps `url` from being a webhook's; None: nothing that is known without DNS."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return f"it is no URL: {error}"
    schemes = ("https", "http") if allow_private else ("https",)
    checks = {
        "it has characters that a URL must encode": not _VISIBLE.fullmatch(url),
        f"it starts with {parts.scheme!r}, wanted {' or '.join(schemes)}": (
            parts.scheme not in schemes
        ),
        "it names no host": not parts.hostname,
        "port 0 is none": port == 0,
        "it has a user or a fragment": "@" in parts.netloc or bool(parts.fragment),
        f"{parts.hostname} is no address of the public internet": (
            not allow_private and _is_private_literal(parts)
        ),
    }
    return next((wrong for wrong, holds in checks.items() if holds), None)


def wrong_with_email(address: str) -> str | None:
    """Return what keeps `address` from being an e-mail address."""
    if len(address) <= 254 and _EMAIL.fullmatch(address):  # noqa: PLR2004 -- RFC 5321, 4.5.3.1.3
        return None
    return "it is no plain e-mail address, as in name@example.org"


def shown(kind: ChannelKind, target: str) -> str:
    """Return a target as others may see it: the path of a webhook's URL may be a secret."""
    if kind is ChannelKind.EMAIL:
        return target
    return f"{urlsplit(target).scheme}://{urlsplit(target).netloc}"


def _is_private_literal(parts: SplitResult) -> bool:
    try:
        return not is_public(parts.hostname or "")
    except ValueError:
        return False  # a name: looked up, and checked, when it is connected to


def _tunnels(address: IPv6Address) -> bool:
    """Tell whether packets to the address may come out of a tunnel or translator elsewhere."""
    return (
        address.sixtofour is not None or address.teredo is not None or address in _LOCAL_TRANSLATED
    )
