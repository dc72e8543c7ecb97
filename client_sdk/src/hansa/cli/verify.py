"""`hansa verify RUN`: recompute what a run did, and say what holds."""

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from hansa.cli.hub_keys import pinned_keys
from hansa.cli.output import JsonFlag, print_json, print_table, say
from hansa.cli.settings import FederationOption, chosen_federation, connect, find_run
from hansa.errors import LocalError
from hansa.verification import (
    Bundle,
    Check,
    Finding,
    HubBlobs,
    Report,
    Trust,
    collect,
    verify_bundle,
)
from hansa.verification.reports import ExitCode

_VERDICTS = {
    ExitCode.HOLDS: ("everything was checked, and holds", "bold green"),
    ExitCode.WRONG: ("something is WRONG: see above", "bold red"),
    ExitCode.UNKNOWN: ("nothing is wrong; something could not be checked: see above", "yellow"),
}


def add_to(app: typer.Typer) -> None:
    """Give the application the command."""
    app.command("verify")(verify)


def verify(
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="Id, or name of the newest.")
    ] = None,
    federation: FederationOption = None,
    keep: Annotated[
        Path | None, typer.Option(help="Keep all that is fetched here, to check again offline.")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Check what --keep kept; no hub is asked.")
    ] = None,
    hub_key: Annotated[
        list[str] | None,
        typer.Option(metavar="FINGERPRINT", help="Instead of the key pinned at login."),
    ] = None,
    site_key: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FINGERPRINT", help="What a site's operator says."),
    ] = None,
    *,
    as_json: JsonFlag = False,
) -> None:
    """Check a run's receipts and recompute its aggregates here, bit for bit.

    Exit code: 0 all holds, 1 something is wrong, 2 something could not be checked.
    """
    sites = _site_keys(site_key or [])
    hubs = frozenset(hub_key or ())
    told = None if as_json else say
    if bundle is not None:
        stored = _open_bundle(bundle, run, keep)
        trust = Trust(hubs or pinned_keys(stored.info().hub_url), sites)
        report = verify_bundle(stored, trust, on_receipt=told)
    elif run is not None:
        with ExitStack() as stack:
            client = stack.enter_context(connect())
            slug = chosen_federation(client, federation)
            found = find_run(client, slug, run)
            folder = keep or Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="hansa-verify-"))
            )
            stored = collect(client, slug, found, folder)
            blobs = HubBlobs(client.receipts(slug, found.id), stored, keep=keep is not None)
            trust = Trust(hubs or pinned_keys(client.url), sites)
            report = verify_bundle(stored, trust, blobs=blobs, on_receipt=told)
    else:
        raise LocalError("which run?", hint="name it, or a folder that --keep kept with --bundle")
    if as_json:
        print_json(report)
    else:
        _show(report)
    raise typer.Exit(report.exit_code)


def _open_bundle(folder: Path, run: str | None, keep: Path | None) -> Bundle:
    if keep is not None:
        raise LocalError("--bundle and --keep do not go together: a bundle is kept already")
    stored = Bundle(folder)
    info = stored.info()
    if run not in {None, str(info.run_id), info.run_name}:
        raise LocalError(f"{folder} is a bundle of run {info.run_name} ({info.run_id})")
    return stored


def _site_keys(pairs: list[str]) -> dict[str, frozenset[str]]:
    keys: dict[str, frozenset[str]] = {}
    for pair in pairs:
        name, equals, key = pair.partition("=")
        if not (name and equals and key):
            raise LocalError(f"--site-key {pair!r}: wanted the form NAME=FINGERPRINT")
        keys[name] = keys.get(name, frozenset()) | {key}
    return keys


def _show(report: Report) -> None:
    wrong, unchecked = _count(report.wrong), _count(report.unchecked)
    say("")
    print_table(
        ("CHECK", "HOLDS", "WRONG", "NOT CHECKED"),
        (
            (check, report.holds.get(check), wrong.get(check), unchecked.get(check))
            for check in Check
            if check in report.holds or check in wrong or check in unchecked
        ),
        empty="nothing was checked",
    )
    for title, findings, style in (
        ("wrong", report.wrong, "red"),
        ("not checked", report.unchecked, "yellow"),
    ):
        for finding in findings:
            say(f"{title}: {finding.check}: {finding.subject}: {finding.message}", style=style)
    say("")
    say(f"run {report.run_name} ({report.run_id}), {report.receipts} receipts")
    say(f"last receipt {report.head or '-'}")
    say(f"signed by {', '.join(report.hub_keys) or 'nobody'}")
    sentence, style = _VERDICTS[report.exit_code]
    say(sentence, style=style)


def _count(findings: tuple[Finding, ...]) -> dict[Check, int]:
    counts: dict[Check, int] = {}
    for finding in findings:
        counts[finding.check] = counts.get(finding.check, 0) + 1
    return counts
