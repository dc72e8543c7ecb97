"""What a secure run asks of a site beside its tasks, and what the site answers.

An answer is taken once: the same again gets the first receipt, others are refused. What was signed
is stored exactly. What has to be opened is read from the store after the transaction.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, assert_never
from uuid import UUID

from app.db import secure as rows
from app.db.secure import DutyContext
from app.domain.alerts import AlertKind
from app.domain.errors import (
    ArtifactMissingError,
    InvalidRequestError,
    NotFoundError,
    SignatureRefusedError,
    TaskClosedError,
    UpdateConflictError,
)
from app.domain.secure import DutyState
from app.doorbell import STEP_RUN
from app.services import alerts
from app.services.checkpoints import Blob
from app.services.principals import SitePrincipal
from app.services.secure.groups import (
    Bound,
    bound_of,
    confirmations_of,
    group_of,
    neighbours_of,
    terms_of,
)
from app.services.secure.opening import signatures_of
from app.services.secure.seals import open_stored
from app.services.transactions import Tx
from app.storage.artifacts import Artifacts
from hansa_core import wire
from hansa_core.plans import RunPlan
from hansa_core.secagg.errors import SecaggError
from hansa_core.secagg.hub import bundle, check_opening
from hansa_core.secagg.keys import generate_exchange_key, pair_secret
from hansa_core.secagg.messages import (
    Keys,
    Message,
    Opening,
    Roster,
    SignedConfirmation,
    Survivors,
    SurvivorSignature,
    parse,
)
from hansa_core.secagg.rosters import SEALS, check_confirmation, verify_message
from hansa_core.signing import decode_base64, encode_base64
from hansa_core.wire import DutyKind

MOST_DUTIES = 16  # in one answer; the others wait for the next one


@dataclass(frozen=True, slots=True)
class Opened:
    """A duty to open a sum, without its seals: those are read outside of the transaction."""

    about: Mapping[str, Any]  # the fields that all duties have
    bound: Bound
    member: int
    signatures: tuple[SurvivorSignature, ...]
    seals: Mapping[int, Blob]  # of the survivors, by position


@dataclass(frozen=True, slots=True)
class Waiting:
    """The duties that wait for a site."""

    items: tuple[wire.Duty | Opened, ...]
    expected: bool


def waiting(tx: Tx, site_id: UUID) -> Waiting:
    """Return what the site owes, oldest first."""
    found = rows.open_duties(tx.session, site_id, limit=MOST_DUTIES)
    return Waiting(tuple(_view(tx, it) for it in found), _is_expected(tx, site_id))


def count(tx: Tx, site_id: UUID) -> int:
    """Return how many duties wait for the site."""
    return rows.count_open_duties(tx.session, site_id)


def read(waiting: Waiting, artifacts: Artifacts) -> wire.Duties:
    """Return the duties as they are sent: those to open a sum with their seals.

    Raises:
        ArtifactMissingError, StorageUnavailableError: of the store.
    """
    items = [_read_seals(it, artifacts) if isinstance(it, Opened) else it for it in waiting.items]
    return wire.Duties(items=items, expected=waiting.expected)


def answer(
    tx: Tx, duty_id: UUID, site: SitePrincipal, given: wire.DutyAnswer, *, now: datetime
) -> tuple[wire.DutyReceipt, bool]:
    """Record a site's answer; tell whether it is news.

    Raises:
        NotFoundError: the site has no such duty.
        TaskClosedError: nobody waits for it any more.
        UpdateConflictError: another answer was accepted before.
        InvalidRequestError: the answer is to something else, or cannot be used.
        SignatureRefusedError: it is not signed by the key that it has to be signed by.
    """
    context = _require(tx, duty_id, site)
    duty = context.duty
    payload = given.message.body().decode()
    if duty.state == DutyState.DONE:
        if duty.message != payload or duty.answered_at is None:
            raise UpdateConflictError(f"duty {duty_id} has another answer already")
        return wire.DutyReceipt(duty_id=duty_id, received_at=duty.answered_at), False
    _require_open(context)
    if given.kind != duty.kind:
        raise InvalidRequestError(f"duty {duty_id} is {duty.kind}, the answer is {given.kind}")
    _check(tx, context, site, given)
    duty.state = DutyState.DONE
    duty.key_id = site.key_id
    duty.message = payload
    duty.signature = decode_base64(given.signature)
    duty.answered_at = now
    tx.send(STEP_RUN, context.run.id)
    return wire.DutyReceipt(duty_id=duty_id, received_at=now), True


def refuse(
    tx: Tx, duty_id: UUID, site: SitePrincipal, refusal: wire.DutyRefusal, *, now: datetime
) -> None:
    """Record why a site will not do a duty. Repeating changes nothing.

    Raises:
        NotFoundError: the site has no such duty.
        TaskClosedError: it is answered, or nobody waits for it any more.
    """
    context = _require(tx, duty_id, site)
    if context.duty.state == DutyState.REFUSED:
        return
    _require_open(context)
    reason = refusal.reason.replace("\0", "\N{REPLACEMENT CHARACTER}")
    _refuse(tx, context, site, reason, now=now)
    alerts.raise_alert(
        tx,
        AlertKind.SECURE_REFUSED,
        federation_id=context.run.federation_id,
        subject=f"{context.run.id} {site.name}",
        message=f"{site.name} refuses to {_ACTS[DutyKind(context.duty.kind)]} in round "
        f"{context.round.number} of run {context.run.name}: {reason}",
        run_id=context.run.id,
        site_id=site.id,
        now=now,
    )


def refuse_for_want(tx: Tx, site: SitePrincipal, reason: str, *, now: datetime) -> None:
    """Refuse all that a site owes, which its SDK knows nothing of."""
    for found in rows.open_duties(tx.session, site.id, limit=MOST_DUTIES):
        context = _require(tx, found.duty.id, site)
        if context.duty.state == DutyState.OPEN:
            _refuse(tx, context, site, reason, now=now)


def get_roster(tx: Tx, federation_id: UUID, digest: str) -> wire.RosterView:
    """Return a roster, with its members' words for it.

    Raises:
        NotFoundError: the federation has no such roster.
    """
    roster = rows.find_roster(tx.session, federation_id, digest)
    if roster is None or roster.body is None:
        raise NotFoundError(f"this federation has no roster {digest[:64]!r}")
    return wire.RosterView(
        digest=digest, body=roster.body, confirmations=confirmations_of(tx, roster)
    )


def federation_of_roster(tx: Tx, digest: str) -> UUID:
    """Return whose roster it is, for whoever then has to show that he may see it.

    Raises:
        NotFoundError: there is no such roster.
    """
    federation_id = rows.federation_of_roster(tx.session, digest)
    if federation_id is None:
        raise NotFoundError(f"there is no roster {digest[:64]!r}")
    return federation_id


_ACTS: Mapping[DutyKind, str] = {
    DutyKind.KEYS: "make keys",
    DutyKind.CONFIRM: "confirm the roster",
    DutyKind.SIGN: "sign the survivors",
    DutyKind.OPEN: "open the sum",
}


def _require(tx: Tx, duty_id: UUID, site: SitePrincipal) -> DutyContext:
    context = rows.lock_duty(tx.session, duty_id, site.id)
    if context is None:
        raise NotFoundError(f"this site has no duty {duty_id}")
    return context


def _require_open(context: DutyContext) -> None:
    duty = context.duty
    if duty.state != DutyState.OPEN:
        because = duty.reason or f"its round is {context.round.state}"
        raise TaskClosedError(f"duty {duty.id} takes no answer, it is {duty.state}: {because}")


def _refuse(
    tx: Tx, context: DutyContext, site: SitePrincipal, reason: str, *, now: datetime
) -> None:
    context.duty.state = DutyState.REFUSED
    context.duty.reason = reason
    context.duty.answered_at = now
    tx.record(
        "duty.refused",
        federation_id=context.run.federation_id,
        run_id=context.run.id,
        round_number=context.round.number,
        site_id=str(site.id),
        site_name=site.name,
        duty=context.duty.kind,
        reason=reason,
    )
    tx.send(STEP_RUN, context.run.id)


def _check(tx: Tx, context: DutyContext, site: SitePrincipal, given: wire.DutyAnswer) -> None:
    """Refuse an answer that is not what the duty asks for, or not signed as it has to be."""
    try:
        match given:
            case wire.KeysAnswer(message=keys):
                _check_keys(context, site, keys)
                signer = site.public_key
            case wire.ConfirmAnswer(message=confirmation):
                signed = SignedConfirmation(confirmation=confirmation, signature=given.signature)
                signer = _check_confirmed(context, site, signed)
            case wire.SignAnswer(message=survivors):
                signer = _check_survivors(tx, context, site, survivors)
            case wire.OpenAnswer(message=opening):
                signer = _check_opening(tx, context, site, opening)
            case _:
                assert_never(given)
    except SecaggError as error:
        raise InvalidRequestError(f"the answer to duty {context.duty.id}: {error}") from error
    _require_signed(given.message, given.signature, site, signer)


def _require_signed(message: Message, signature: str, site: SitePrincipal, signer: bytes) -> None:
    """Refuse what is not signed by `signer`, or a site that has another key in force by now."""
    if signer != site.public_key:
        raise SignatureRefusedError(
            f"the roster knows site {site.name} by the key that it had before: its new key counts "
            "from the next roster on"
        )
    try:
        verify_message(message, signature, signer)
    except SecaggError as error:
        raise SignatureRefusedError(
            f"the answer is not signed by the key in force of site {site.name}: {error}"
        ) from error


def _check_keys(context: DutyContext, site: SitePrincipal, keys: Keys) -> None:
    wanted = (context.run.id, site.id, context.roster.version)
    if (keys.run_id, keys.site_id, keys.version) != wanted:
        raise SecaggError(
            f"the keys are of site {keys.site_id} for version {keys.version} of run {keys.run_id}, "
            f"wanted {wanted[1]} for {wanted[2]} of {wanted[0]}"
        )
    # A key of low order would make secrets that everybody knows: no peer could use it.
    pair_secret(generate_exchange_key(), decode_base64(keys.exchange_key), bytes(32), 0, 1)


def _check_confirmed(
    context: DutyContext, site: SitePrincipal, signed: SignedConfirmation
) -> bytes:
    assert context.roster.body is not None
    assert context.roster.digest is not None
    roster = parse(Roster, context.roster.body.encode())
    position = roster.position(site.id)
    if position is None or signed.confirmation.site_id != site.id:
        raise SecaggError(f"site {signed.confirmation.site_id} confirms, wanted {site.id}")
    check_confirmation(roster, context.roster.digest, signed)
    return decode_base64(roster.members[position].identity_key)


def _check_survivors(tx: Tx, context: DutyContext, site: SitePrincipal, said: Survivors) -> bytes:
    bound, position = _seat_of(tx, context, site)
    wanted = Survivors(round=bound.row.digest, survivors=bound.survivors)
    if said != wanted:
        raise SecaggError(f"survivors {said.digest()} are signed, wanted {wanted.digest()}")
    return bound.group.identity_key(position)


def _check_opening(tx: Tx, context: DutyContext, site: SitePrincipal, opening: Opening) -> bytes:
    bound, position = _seat_of(tx, context, site)
    if opening.member != position:
        raise SecaggError(f"the opening is of member {opening.member}, wanted {position}")
    check_opening(bound.group, bound.header, bound.survivors, opening)
    return bound.group.identity_key(position)


def _seat_of(tx: Tx, context: DutyContext, site: SitePrincipal) -> tuple[Bound, int]:
    bound = bound_of(tx, context.round.id)
    assert bound is not None
    position = bound.group.roster.position(site.id)
    assert position is not None
    return bound, position


def _is_expected(tx: Tx, site_id: UUID) -> bool:
    """Tell whether the committee of an open round, or a set-up, may still want the site."""
    if rows.owes_setup(tx.session, site_id):
        return True
    for roster in rows.rosters_at_work(tx.session, site_id):
        group = group_of(tx, roster)
        if group.roster.position(site_id) in group.committee:
            return True
    return False


def _view(tx: Tx, context: DutyContext) -> wire.Duty | Opened:
    about: dict[str, Any] = {
        "id": context.duty.id,
        "federation_id": context.run.federation_id,
        "run_id": context.run.id,
        "run_name": context.run.name,
        "round_id": context.round.id,
        "round_number": context.round.number,
    }
    kind = DutyKind(context.duty.kind)
    match kind:
        case DutyKind.KEYS:
            terms = terms_of(RunPlan.model_validate(context.run.plan))
            return wire.KeysDuty(**about, kind=kind, version=context.roster.version, terms=terms)
        case DutyKind.CONFIRM:
            assert context.roster.digest is not None
            return wire.ConfirmDuty(
                **about, kind=kind, version=context.roster.version, roster=context.roster.digest
            )
        case DutyKind.SIGN:
            bound = bound_of(tx, context.round.id)
            assert bound is not None
            return wire.SignDuty(**about, kind=kind, header=bound.header, survivors=bound.survivors)
        case DutyKind.OPEN:
            return _to_open(tx, context, about)


def _to_open(tx: Tx, context: DutyContext, about: Mapping[str, Any]) -> Opened:
    bound = bound_of(tx, context.round.id)
    assert bound is not None
    member = bound.group.roster.position(context.duty.site_id)
    assert member is not None
    alive = set(bound.survivors)
    return Opened(
        about=about,
        bound=bound,
        member=member,
        signatures=tuple(signatures_of(tx, bound)),
        seals={
            position: Blob(bound.row.federation_id, it.seals, it.seals_size)
            for it in rows.uploads(tx.session, context.round.id, SEALS)
            if (position := bound.position(it.site_id)) is not None and position in alive
        },
    )


def _read_seals(it: Opened, artifacts: Artifacts) -> wire.OpenDuty:
    """Return the duty with the member's seals. Raises ArtifactMissingError for one that is gone."""
    group, header = it.bound.group, it.bound.header
    opened, unusable = open_stored(
        artifacts, it.seals, neighbours_of(it.bound), len(group.committee)
    )
    if unusable:
        raise ArtifactMissingError("; ".join(unusable.values()))
    sealed = bundle(group, header, it.bound.survivors, it.member, opened)
    return wire.OpenDuty.model_validate(
        {
            **it.about,
            "kind": DutyKind.OPEN,
            "header": header,
            "survivors": it.bound.survivors,
            "signatures": list(it.signatures),
            "seals": encode_base64(sealed),
        }
    )
