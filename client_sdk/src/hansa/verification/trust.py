"""Whose keys are whose: what the person who checks knows by another way than from the hub."""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from hansa.verification.reports import Check, Ledger


@dataclass(frozen=True, slots=True)
class Trust:
    """What the person who checks knows by another way than from the hub."""

    hub_keys: AbstractSet[str] = frozenset()  # fingerprints
    site_keys: Mapping[str, AbstractSet[str]] = field(
        default_factory=dict[str, AbstractSet[str]]
    )  # fingerprints by site name


def check_keys(
    ledger: Ledger,
    trust: Trust,
    hub_keys: Iterable[str],
    site_keys: Iterable[tuple[str, str]],
) -> None:
    """Hold the keys that signed, fingerprints of the hub and (name, fingerprint) of sites."""
    for key in hub_keys:
        if not trust.hub_keys:
            why = f"no key is pinned; compare {key} with the hub's operator, then --hub-key"
            ledger.skip(Check.HUB_KEY, "the hub", why)
            continue
        known = ", ".join(sorted(trust.hub_keys))
        wrong = f"receipts are signed with {key}, pinned: {known}"
        pinned = key in trust.hub_keys
        ledger.settle(Check.HUB_KEY, "the hub", None if pinned else wrong)
    for name, key in site_keys:
        wanted = trust.site_keys.get(name)
        if wanted is None:
            why = f"not pinned; compare {key} with its operator, then --site-key {name}={key}"
            ledger.skip(Check.SITE_KEY, f"site {name}", why)
            continue
        wrong = f"updates are signed with {key}, pinned: {', '.join(sorted(wanted))}"
        ledger.settle(Check.SITE_KEY, f"site {name}", None if key in wanted else wrong)
