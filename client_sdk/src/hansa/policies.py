"""What a site tells of its own policy: what its operator lets it do, and lets it tell."""

from pathlib import Path

from hansa.errors import LocalError
from hansa.options import RunnerOptions
from hansa.secure.peers import Peers
from hansa_core import wire

UNREADABLE = "unreadable"  # peers.json is damaged: secure rounds are refused


def policy_of(options: RunnerOptions, state_dir: Path) -> wire.SitePolicy:
    """Return the policy of the site in `state_dir`; whom it trusts may change while it runs."""
    try:
        peers = str(Peers(state_dir).book().mode)
    except LocalError:
        peers = UNREADABLE
    return wire.SitePolicy(
        secure_only=options.secure_only,
        least_sum=options.least_sum,
        tracebacks=options.tracebacks,
        share_log=options.shared_lines,
        peers=peers,
        features=list(wire.Feature),
    )
