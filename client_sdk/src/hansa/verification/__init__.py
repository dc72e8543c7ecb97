"""Checking what a hub says, offline: the signed and the stored bytes speak, not the hub.

A run's receipts, manifests and files make a bundle (bundles.py, collecting.py); `verify_bundle`
recomputes every aggregate from it and checks the chain and all signatures (checks.py), and its
report says what was checked, what is wrong and what could not be checked (reports.py).
"""

from hansa.verification.bundles import Bundle
from hansa.verification.checks import verify_bundle
from hansa.verification.collecting import HubBlobs, collect
from hansa.verification.reports import Check, Finding, Report
from hansa.verification.trust import Trust
from hansa.verification.updates import check_update

__all__ = [
    "Bundle",
    "Check",
    "Finding",
    "HubBlobs",
    "Report",
    "Trust",
    "check_update",
    "collect",
    "verify_bundle",
]
