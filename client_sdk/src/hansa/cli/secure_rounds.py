"""What commands say of secure rounds: how far each is, what its sum is of, who refused."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import assert_never

from pydantic import JsonValue

from hansa.cli.output import print_table, say
from hansa_core import wire
from hansa_core.states import RoundState

_DUTIES = {
    wire.DutyKind.KEYS: "make keys",
    wire.DutyKind.CONFIRM: "confirm the roster",
    wire.DutyKind.SIGN: "sign whose sum it is",
    wire.DutyKind.OPEN: "open the sum",
}


def phase(state: RoundState, secure: wire.SecureRound) -> str:
    """Return in words how far a secure round is, and whom it waits for."""
    match state:
        case RoundState.SETUP:
            told = f"setting up {_roster(secure)}"
        case RoundState.COLLECTING:
            told = f"{_roster(secure)}; {secure.participants} take part"
        case RoundState.SIGNING:
            have = f"{secure.signatures} signatures, {secure.quorum} needed"
            told = f"signing {_sum_of(secure)}: {have}"
        case RoundState.OPENING:
            have = f"{secure.openings} openings, {secure.threshold} needed"
            told = f"opening {_sum_of(secure)}: {have}"
        case RoundState.AGGREGATING:
            told = f"opened: {_sum_of(secure)} is added up"
        case RoundState.COMPLETED:
            told = f"{_sum_of(secure)}, transcript {(secure.transcript or '-')[:16]}"
        case RoundState.FAILED | RoundState.CANCELLED:
            told = f"{state}, no sum was taken of it"
        case _:
            assert_never(state)
    if secure.waiting_for:
        told += f"; waiting for {', '.join(secure.waiting_for)}"
        if secure.expires_at is not None:
            told += f" until {_clock(secure.expires_at)}"
    return told


def refusals(secure: wire.SecureRound) -> list[str]:
    """Return a line for each site whose own checks refused what the round asked of it."""
    return [f"{site} refuses: {reason}" for site, reason in sorted(secure.refusals.items())]


def show_rounds(rounds: Iterable[wire.RoundDetail]) -> None:
    """Print a table of the secure ones among the rounds, and what sites refused in them."""
    told = [(item, item.secure) for item in rounds if item.secure is not None]
    if not told:
        return
    say("")
    print_table(
        ("SECURE ROUND", "ROSTER", "SUM OF", "SIGNED", "OPENED", "TRANSCRIPT"),
        (
            (
                item.number,
                secure.roster_version,
                None if secure.survivors is None else f"{secure.survivors}/{secure.participants}",
                f"{secure.signatures}, {secure.quorum} needed" if secure.quorum else None,
                f"{secure.openings}, {secure.threshold} needed" if secure.threshold else None,
                secure.transcript,
            )
            for item, secure in told
        ),
        empty="",
    )
    for item, secure in told:
        if item.state is not RoundState.COMPLETED:
            say(f"round {item.number}: {phase(item.state, secure)}")
        for refusal in refusals(secure):
            say(f"round {item.number}: {refusal}", style="red")


def event_words(event: wire.Event) -> str | None:
    """Return in words what happened in a secure round; None: the event is of something else."""
    told = _EVENTS.get(event.kind)
    return None if told is None else f"round {event.data.get('round_number')}: {told(event.data)}"


def _confirmed(data: Mapping[str, JsonValue]) -> str:
    return f"all {data.get('members')} sites confirmed roster version {data.get('version')}"


def _signing(data: Mapping[str, JsonValue]) -> str:
    until = data.get("expires_at")
    limit = f" until {_clock(datetime.fromisoformat(until))}" if isinstance(until, str) else ""
    return (
        f"the committee is asked to sign the sum of {data.get('survivors')} of "
        f"{data.get('participants')} sites{limit}"
    )


def _opening(data: Mapping[str, JsonValue]) -> str:
    return (
        f"a quorum signed; the committee is asked to open the sum of {data.get('survivors')} sites"
    )


def _refused(data: Mapping[str, JsonValue]) -> str:
    duty = str(data.get("duty"))
    what = next((words for kind, words in _DUTIES.items() if kind == duty), duty)
    return f"{data.get('site_name')} refuses to {what}: {data.get('reason')}"


_EVENTS: dict[str, Callable[[Mapping[str, JsonValue]], str]] = {
    "roster.confirmed": _confirmed,
    "round.signing": _signing,
    "round.opening": _opening,
    "duty.refused": _refused,
}


def _roster(secure: wire.SecureRound) -> str:
    return f"roster version {secure.roster_version} of {secure.members} sites"


def _sum_of(secure: wire.SecureRound) -> str:
    if secure.survivors is None:  # the hub is about to say who they are
        return f"a sum of up to {secure.participants} sites"
    return f"the sum of {secure.survivors} of {secure.participants} sites"


def _clock(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%MZ")
