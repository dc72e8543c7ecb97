"""A roster is set up: sites make keys, then all of them confirm who takes part on which terms.

A site that does not, or whose checks refuse, is left out of this round and of the next version of
the roster; the round fails when too few are left.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from app.db import secure as rows
from app.db.models import Roster, Round, Run, Site
from app.db.secure import SiteDuty
from app.domain.cohorts import is_online
from app.domain.ids import new_id
from app.domain.rounds import Decision
from app.domain.secure import (
    Answer,
    DutyState,
    Next,
    Polled,
    RosterFacts,
    RosterState,
    covers,
    decide_confirmations,
    decide_keys,
)
from app.services.secure import collecting
from app.services.secure.asking import ROTATED, close_barred, owe
from app.services.secure.groups import group_of, terms_of
from app.services.transactions import Tx
from hansa_core.plans import RunPlan
from hansa_core.secagg.hub import assemble_roster
from hansa_core.secagg.messages import Keys, Member, parse
from hansa_core.signing import decode_base64, encode_base64
from hansa_core.states import RoundState, SiteState
from hansa_core.wire import DutyKind


def covering_roster(
    tx: Tx,
    run: Run,
    plan: RunPlan,
    cohort: Sequence[Site],
    *,
    now: datetime,
    online_for: timedelta,
) -> Roster | None:
    """Return the run's roster in force if it serves a round of this cohort."""
    roster = rows.roster_in_force(tx.session, run.id)
    if roster is None or plan.secure is None:
        return None
    group = group_of(tx, roster)
    members = {it.site_id: decode_base64(it.identity_key) for it in group.roster.members}
    sites = rows.sites(tx.session, [*members])
    committee = [group.roster.members[position].site_id for position in group.committee]
    facts = RosterFacts(
        keys=members,
        committee=committee,
        quorum=group.parameters.quorum,
        rounds=rows.rounds_of_roster(tx.session, roster.id),
    )
    serves = covers(
        facts,
        {site.id for site in cohort},
        keys=rows.keys_in_force(tx.session, [*members, *(site.id for site in cohort)]),
        present={
            site.id
            for site in sites
            if site.state == SiteState.ACTIVE and is_online(site.last_seen_at, online_for, now)
        },
        revoked={site.id for site in sites if site.state == SiteState.REVOKED},
        most_rounds=plan.secure.roster_rounds,
    )
    return roster if serves else None


def begin(
    tx: Tx, run: Run, plan: RunPlan, row: Round, sites: Iterable[Site], *, now: datetime
) -> None:
    """Ask sites for keys of the run's next roster."""
    assert plan.secure is not None
    roster = Roster(
        id=new_id(),
        federation_id=run.federation_id,
        run_id=run.id,
        round_id=row.id,
        version=rows.last_version(tx.session, run.id) + 1,
        state=RosterState.GATHERING,
        expires_at=now + timedelta(seconds=plan.secure.setup_seconds),
        created_at=now,
    )
    rows.add_roster(tx.session, roster)
    owe(tx, row, roster, DutyKind.KEYS, [site.id for site in sites], now=now)


def step(tx: Tx, run: Run, plan: RunPlan, row: Round, *, now: datetime) -> Decision | None:
    """Do what is due in a round's set-up; return how the round ends, if it does."""
    roster = rows.roster_at_work(tx.session, row.id)
    assert roster is not None
    gathering = roster.state == RosterState.GATHERING
    kind = DutyKind.KEYS if gathering else DutyKind.CONFIRM
    close_barred(tx, row, roster, now=now, states=(SiteState.SUSPENDED, SiteState.REVOKED))
    asked = rows.duties(tx.session, roster.id, row.id, kind)
    left_out = {item["site"] for item in row.excluded}
    cohort = {it.site.id for it in asked if it.site.name not in left_out}
    answers = _answers_to_keys(asked) if gathering else _answers(asked)
    polled = (decide_keys if gathering else decide_confirmations)(
        answers, cohort, needed=row.threshold, expires_at=roster.expires_at, now=now
    )
    if polled is None:
        return None
    names = {it.site.id: it.site.name for it in asked}
    lost = {names[site]: reason for site, reason in polled.lost.items()}
    _leave_out(row, lost)
    without = f"version {roster.version} goes on without it"
    rows.close_duties(
        tx.session,
        row.id,
        reason=without,
        now=now,
        kind=kind,
    )
    staying = [it for it in asked if it.site.id in polled.staying]
    return _proceed(tx, run, plan, row, roster, polled, staying, lost, now=now)


def _proceed(
    tx: Tx,
    run: Run,
    plan: RunPlan,
    row: Round,
    roster: Roster,
    polled: Polled,
    staying: Sequence[SiteDuty],
    lost: Mapping[str, str],
    *,
    now: datetime,
) -> Decision | None:
    match polled.next:
        case Next.ASSEMBLE:
            _assemble(tx, run, plan, row, roster, staying, now=now)
        case Next.AGAIN:
            roster.state = RosterState.ENDED
            begin(tx, run, plan, row, [it.site for it in staying], now=now)
        case Next.ENTER:
            roster.state = RosterState.IN_FORCE
            roster.confirmed_at = now
            tx.session.flush()
            rows.end_rosters(tx.session, run.id, but=roster.id)
            tx.record(
                "roster.confirmed",
                federation_id=run.federation_id,
                run_id=run.id,
                round_number=row.number,
                roster=roster.digest,
                version=roster.version,
                members=len(staying),
            )
            left_out = {item["site"] for item in row.excluded}
            cohort = [it.site for it in staying if it.site.name not in left_out]
            collecting.begin(tx, run, plan, row, roster, cohort, now=now)
        case Next.GIVE_UP:
            roster.state = RosterState.ENDED
            told = "; ".join(f"{name}: {why}" for name, why in sorted(lost.items()))
            return Decision(
                RoundState.FAILED,
                f"too few sites agreed on a roster, {row.threshold} were needed ({told})",
            )
    return None


def _assemble(
    tx: Tx,
    run: Run,
    plan: RunPlan,
    row: Round,
    roster: Roster,
    staying: Sequence[SiteDuty],
    *,
    now: datetime,
) -> None:
    """Make the roster of the sites that made keys, and ask them to confirm it."""
    assert plan.secure is not None
    body = assemble_roster(
        federation_id=run.federation_id,
        run_id=run.id,
        version=roster.version,
        plan_digest=run.plan_digest,
        terms=terms_of(plan),
        members=[_member(it) for it in staying],
    )
    roster.state = RosterState.CONFIRMING
    roster.body = body.body().decode()
    roster.digest = body.digest()
    roster.expires_at = now + timedelta(seconds=plan.secure.setup_seconds)
    owe(tx, row, roster, DutyKind.CONFIRM, [it.site.id for it in staying], now=now)


def _member(it: SiteDuty) -> Member:
    assert it.duty.signature is not None
    assert it.public_key is not None
    keys = _keys(it)
    return Member(
        site_id=it.site.id,
        site_name=it.site.name,
        identity_key=encode_base64(it.public_key),
        exchange_key=keys.exchange_key,
        commitment=keys.commitment,
        signature=encode_base64(it.duty.signature),
    )


def _keys(it: SiteDuty) -> Keys:
    assert it.duty.message is not None
    return parse(Keys, it.duty.message.encode())


def _answers(asked: Sequence[SiteDuty]) -> dict[UUID, Answer]:
    return {it.site.id: Answer(DutyState(it.duty.state), it.duty.reason) for it in asked}


def _answers_to_keys(asked: Sequence[SiteDuty]) -> dict[UUID, Answer]:
    """Return how far the sites are; keys that no roster can hold are as good as none."""
    answers = _answers(asked)
    seen: set[str] = set()
    done = [it for it in asked if it.duty.state == DutyState.DONE]
    for it in sorted(done, key=lambda it: (it.duty.answered_at, it.duty.id)):
        key = _keys(it).exchange_key
        if not it.in_force:
            answers[it.site.id] = Answer(DutyState.CLOSED, ROTATED)
        elif key in seen:
            answers[it.site.id] = Answer(DutyState.CLOSED, "sent the exchange key of another site")
        seen.add(key)
    return answers


def _leave_out(row: Round, lost: Mapping[str, str]) -> None:
    known = {item["site"] for item in row.excluded}
    row.excluded = [
        *row.excluded,
        *(
            {"site": name, "reason": reason, "drawn_against": False}
            for name, reason in sorted(lost.items())
            if name not in known
        ),
    ]
