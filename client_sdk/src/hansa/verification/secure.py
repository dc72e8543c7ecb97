"""Checking how a secure round's sum was opened: the roster, the transcript, and the sum itself.

What the sites signed speaks, not the hub: the committee's signatures of the survivors, each site's
commitments to its seeds, and the masked updates by their digests. With the seeds of the transcript
the masks are taken off again, and the mean delta is recomputed bit for bit.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hansa.verification.accounts import list_of
from hansa.verification.aggregates import OpenFiles, StoredFile, StoredUpdate
from hansa.verification.bundles import Bundle
from hansa.verification.files import Files
from hansa.verification.reports import Check, Ledger
from hansa_core import wire
from hansa_core.aggregation.inputs import part_layout
from hansa_core.local_work import Scalar
from hansa_core.plans import RunPlan
from hansa_core.problems import CoreError
from hansa_core.receipts import Receipt, ReceivedUpdate, RoundAccount, SecureAccount
from hansa_core.secagg.errors import SecaggError
from hansa_core.secagg.hub import Seals, check_transcript, open_seals
from hansa_core.secagg.messages import Roster, Transcript, parse
from hansa_core.secagg.rosters import SEALS, Group, open_group, vector_layout
from hansa_core.secagg.sums import (
    SumJob,
    open_masked,
    segments,
    totals_of,
    write_heads,
    write_means,
)
from hansa_core.secagg.terms import Weighing
from hansa_core.signing import decode_base64, fingerprint
from hansa_core.tensor_groups import partition
from hansa_core.tensors import Sink, read_header, read_tensors


@dataclass(frozen=True, slots=True)
class SecureRound:
    """What a secure round's sum is checked by."""

    receipt: Receipt
    account: RoundAccount
    secure: SecureAccount
    plan: RunPlan
    updates: Mapping[str, StoredUpdate]  # those that were used and are at hand, by digest
    lost: tuple[str, ...]  # what of them is not


def check_sum(
    ledger: Ledger, files: Files, bundle: Bundle, round_: SecureRound
) -> list[tuple[str, str]]:
    """Check all that there is of a secure round's sum; return its members' names and keys."""
    subject, secure, base = round_.receipt.subject, round_.secure, round_.account.base
    if secure.transcript is None:
        ledger.fail(Check.SUM, subject, "a completed secure round without a transcript")
        return []
    view = bundle.roster(secure.roster)
    path = files.checked(
        ledger, f"{subject}, its transcript", secure.transcript.digest, secure.transcript.size
    )
    if isinstance(view, str) or path is None:
        why = f"no roster: {view}" if isinstance(view, str) else "without its transcript"
        ledger.skip(Check.SUM, subject, why)
        return []
    members: list[tuple[str, str]] = []
    try:
        group = open_roster(view, round_.receipt, secure)
        members = [
            (member.site_name, fingerprint(decode_base64(member.identity_key)))
            for member in group.roster.members
        ]
        transcript = parse(Transcript, path.read_bytes(), digest=secure.transcript.digest)
        check_opening(round_, group, transcript)
        stored = files.checked(ledger, f"{subject}, its base checkpoint", base.digest, base.size)
        if round_.lost or stored is None:
            what = list_of([*round_.lost, *([] if stored else ["the base checkpoint"])])
            ledger.skip(Check.SUM, subject, f"it cannot be added up again without {what}")
            return members
        wrong = sum_problem(round_, group, transcript, stored)
    except CoreError as error:
        wrong = str(error)
    ledger.settle(Check.SUM, subject, wrong)
    return members


def open_roster(view: wire.RosterView, receipt: Receipt, secure: SecureAccount) -> Group:
    """Return the group of a round's roster, all signatures checked. Raises SecaggError."""
    roster = parse(Roster, view.body.encode(), digest=secure.roster)
    told = {
        "run": (roster.run_id, receipt.run.id),
        "federation": (roster.federation_id, receipt.federation.id),
        "plan": (roster.plan_digest, receipt.plan_digest),
        "version": (roster.version, secure.roster_version),
    }
    _require(told, "the roster")
    return open_group(roster, view.confirmations)


def check_opening(round_: SecureRound, group: Group, transcript: Transcript) -> None:
    """Check a transcript against the receipt, the roster and what sites committed to.

    Raises SecaggError.
    """
    account, secure, header = round_.account, round_.secure, transcript.header
    _require(
        {
            "round": (header.round_id, account.id),
            "number": (header.round_number, account.round_number),
            "retry": (header.retry, account.retry),
            "kind": (header.kind, account.kind),
            "base": (header.checkpoint, account.base.digest),
            "slots": (header.slots, {name: it.digest for name, it in account.base_slots.items()}),
            "participants": (header.participants, secure.participants),
            "header": (header.digest(), secure.round),
            "survivors": (transcript.survivors, secure.survivors),
            "terms": (group.roster.terms, round_.plan.secure_terms),
        },
        "the transcript",
    )
    used = {group.roster.position(it.site.id): it for it in account.used}
    if set(used) != set(transcript.survivors):
        raise SecaggError("the transcript's survivors are not the sites whose updates were used")
    for upload in transcript.uploads:
        update = used[upload.member]
        seen = (upload.manifest, upload.masked)
        if seen != (update.manifest, update.digest):
            raise SecaggError(f"the transcript names another upload of {update.site.name}")
    check_transcript(group, transcript, _seals(round_, group, transcript, used))


def sum_problem(
    round_: SecureRound, group: Group, transcript: Transcript, base: Path
) -> str | None:
    """Return how the sum of the masked updates differs from the receipt's, or None.

    All survivors' updates are at hand. Raises CoreError, OSError.
    """
    seeds = check_transcript(group, transcript, None)
    used = {group.roster.position(it.site.id): it for it in round_.account.used}
    with OpenFiles() as files:
        layout = read_header(files.reader(base)).layout
        uploaded = partition(layout, round_.plan.tensors).upload_layout(())
        parts = {name: part_layout(uploaded) for name in round_.plan.strategy.local_work().parts}
        terms = group.roster.terms
        vector = vector_layout(
            terms,
            uploaded,
            parts,
            sites=len(transcript.header.participants),
            kind=transcript.header.kind,
        )
        job = SumJob(
            vector=vector,
            terms=terms,
            ranges=transcript.ranges,
            files=tuple(
                open_masked(files.reader(round_.updates[used[it].digest].file.path), vector)
                for it in transcript.survivors
            ),
            seeds=seeds,
        )
        totals = totals_of(job)
        if round_.secure.summed is None:
            return None  # an evaluation: its sum is in the totals, which add up
        hashers = {name: hashlib.sha256() for name in (None, *parts)}
        sinks: dict[str | None, Sink] = {name: it.update for name, it in hashers.items()}
        write_heads(vector, sinks)
        write_means(job, totals, segments(vector), sinks)
    said = {None: round_.secure.summed, **round_.secure.summed_parts}
    for name, hasher in hashers.items():
        stated = said.get(name)
        if stated is None or hasher.hexdigest() != stated.digest:
            return (
                f"the masked updates give the mean {name or 'delta'} {hasher.hexdigest()}, "
                f"the receipt says {stated.digest if stated else 'nothing'}"
            )
    return None


def as_one_update(
    round_: SecureRound, delta: StoredFile, parts: Mapping[str, StoredFile]
) -> StoredUpdate:
    """Return the mean delta as the aggregation took it: one update that counts once."""
    normalised = round_.plan.strategy.weighing is Weighing.NORMALISED
    return StoredUpdate(
        file=delta,
        weight=1,
        scale=1.0,
        scalars={Scalar.NORMALISER.value: 1.0} if normalised else {},
        parts=parts,
    )


def _seals(
    round_: SecureRound,
    group: Group,
    transcript: Transcript,
    used: Mapping[int | None, ReceivedUpdate],
) -> Seals | None:
    """Return all survivors' seals; None where one is not at hand."""
    found: dict[int, bytes] = {}
    with OpenFiles() as files:
        for upload in transcript.uploads:
            update = round_.updates.get(used[upload.member].digest)
            part = update.parts.get(SEALS) if update else None
            if part is None:
                return None
            if part.digest != upload.seals:
                raise SecaggError(
                    f"the transcript names other seals of {used[upload.member].site.name}"
                )
            read = files.reader(part.path)
            tensors = read_tensors(read, part.path.stat().st_size)
            found[upload.member] = tensors[SEALS].tobytes()
    return open_seals(group, transcript.header, found)


def _require(told: Mapping[str, tuple[object, object]], what: str) -> None:
    wrong = [
        f"its {name} is {_brief(seen)}, wanted {_brief(wanted)}"
        for name, (seen, wanted) in told.items()
        if seen != wanted
    ]
    if wrong:
        raise SecaggError(f"{what} does not fit the receipt: {'; '.join(wrong)}")


def _brief(value: object) -> str:
    return str(value)[:100]
