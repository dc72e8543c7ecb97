"""What a site owes the protocol of a secure run: keys, confirmations, signatures, shares.

A duty takes no data and no training; it is checked, the journal flushed, then the answer sent. Done
again it is answered alike, for the journal remembers.

Invariants:
- what an honest site does not do is refused: told as the event `secure_refused`, kept in the
  journal, reported to the hub, and the same ever after;
- one thread at a time does duties; no duty ends the site's loop, and no hub that is away.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from uuid import UUID

from hansa.errors import (
    HansaError,
    LocalError,
    NotAuthenticatedError,
    ReenrollError,
    RetryableError,
    SiteNotActiveError,
    TaskLostError,
)
from hansa.identity import SiteRecord
from hansa.secure.calls import SecureCalls
from hansa.secure.journal import KeysEntry, RefusalEntry, RosterEntry, SecureJournal
from hansa.secure.peers import Peers
from hansa.secure.rosters import Rosters
from hansa_core.problems import CoreError
from hansa_core.secagg.errors import SecaggRefusedError
from hansa_core.secagg.member import check_survivors, open_sum
from hansa_core.secagg.messages import Header, Positions, Roster, parse
from hansa_core.secagg.rosters import Group
from hansa_core.secagg.site import check_roster, confirm, keys_message, make_keys
from hansa_core.signing import decode_base64, fingerprint
from hansa_core.wire.secure import (
    MAX_REFUSAL,
    ConfirmAnswer,
    ConfirmDuty,
    Duty,
    DutyAnswer,
    DutyKind,
    KeysAnswer,
    KeysDuty,
    OpenAnswer,
    OpenDuty,
    SignAnswer,
    SignDuty,
)

Step = Callable[[str, str, Mapping[str, object]], None]  # (event kind, message, fields)

_DONE = {
    DutyKind.KEYS: "made keys",
    DutyKind.CONFIRM: "confirmed the roster",
    DutyKind.SIGN: "signed the survivors",
    DutyKind.OPEN: "gave shares of the sum",
}


@dataclass(frozen=True, slots=True)
class Served:
    """What came of asking for duties once."""

    asked: int  # duties that the hub had
    settled: int  # of them, those that it has a word on now
    expected: bool  # more are to come of rounds that are open


class DutyServer:
    """Does the duties of one site."""

    def __init__(
        self,
        record: SiteRecord,
        calls: SecureCalls,
        journal: SecureJournal,
        rosters: Rosters,
        peers: Peers,
        step: Step,
    ) -> None:
        self._record = record
        self._calls = calls
        self._journal = journal
        self._rosters = rosters
        self._peers = peers
        self._step = step
        self._one = threading.Lock()

    def serve(self, *, wait_seconds: float = 0.0) -> Served:
        """Ask for duties, or wait for them, and do them.

        Raises:
            RetryableError: the hub is away; what is left undone is there the next time.
            HansaError: the hub does not take this site's word on duties at all.
        """
        with self._one:
            duties = self._calls.claim_duties(wait_seconds=wait_seconds)
            settled = sum([self._do(duty) for duty in duties.items])
            return Served(len(duties.items), settled, duties.expected)

    def _do(self, duty: Duty) -> bool:
        """Do one duty, or refuse it; return whether the hub knows of it now."""
        try:
            known = self._journal.refusal(duty.run_id, duty.id)
            if known is not None:
                self._calls.refuse(duty.id, known)
                return True
            try:
                answer = self._answer(duty)
            except (CoreError, LocalError) as error:
                self._refuse(duty, str(error))
            else:
                self._calls.answer(duty.id, answer)
                self._step(
                    "duty_done",
                    f"run {duty.run_name}, round {duty.round_number}: {_DONE[duty.kind]}",
                    _fields(duty),
                )
        except (RetryableError, ReenrollError, SiteNotActiveError, NotAuthenticatedError):
            raise
        except TaskLostError as error:
            self._step(
                "duty_closed",
                f"run {duty.run_name}, round {duty.round_number}: the duty {duty.kind} is not "
                f"wanted any more: {error}",
                _fields(duty),
            )
        except (HansaError, OSError) as error:
            self._step(
                "duty_failed",
                f"run {duty.run_name}, round {duty.round_number}: the duty {duty.kind} is not "
                f"done: {error}",
                _fields(duty),
            )
            return False
        return True

    def _refuse(self, duty: Duty, reason: str) -> None:
        told = reason[:MAX_REFUSAL]
        self._journal.refuse(duty.run_id, duty.id, RefusalEntry(kind=duty.kind, reason=told))
        self._step(
            "secure_refused",
            f"run {duty.run_name}, round {duty.round_number}: this site refuses the duty "
            f"{duty.kind}: {told}",
            {**_fields(duty), "reason": told},
        )
        self._calls.refuse(duty.id, told)

    def _answer(self, duty: Duty) -> DutyAnswer:
        """Return the answer to a duty, with the journal flushed.

        Raises CoreError and LocalError for what this site refuses, and HansaError.
        """
        if duty.federation_id != self._record.federation_id:
            raise SecaggRefusedError(
                f"the duty is of federation {duty.federation_id}, "
                f"wanted {self._record.federation_id}"
            )
        match duty:
            case KeysDuty():
                return self._keys(duty)
            case ConfirmDuty():
                return self._confirm(duty)
            case SignDuty():
                return self._sign(duty)
            case OpenDuty():
                return self._open(duty)

    def _keys(self, duty: KeysDuty) -> KeysAnswer:
        entry = self._journal.keys(duty.run_id, duty.version)
        if entry is None:
            own, _ = make_keys(
                run_id=duty.run_id, site_id=self._record.site_id, version=duty.version
            )
            entry = KeysEntry.of(duty.version, own, duty.terms)
            self._journal.store_keys(duty.run_id, entry)
        elif entry.terms != duty.terms:
            raise SecaggRefusedError(
                f"keys for version {duty.version} of the roster are asked for on other terms than "
                "this site made them on"
            )
        message = keys_message(
            entry.own, run_id=duty.run_id, site_id=self._record.site_id, version=duty.version
        )
        return KeysAnswer(kind=DutyKind.KEYS, message=message, signature=self._calls.sign(message))

    def _confirm(self, duty: ConfirmDuty) -> ConfirmAnswer:
        keys = self._journal.keys(duty.run_id, duty.version)
        if keys is None:
            raise SecaggRefusedError(
                f"this site has no keys for version {duty.version} of the roster"
            )
        body = self._calls.roster(duty.roster).body
        roster = parse(Roster, body.encode(), digest=duty.roster)
        _require_equal("the roster's federation", roster.federation_id, self._record.federation_id)
        _require_equal("the roster's run", roster.run_id, duty.run_id)
        _require_equal("the roster's version", roster.version, duty.version)
        check_roster(
            roster,
            site_id=self._record.site_id,
            own=keys.own,
            identity_key=self._calls.identity_key,
            terms=keys.terms,
            trust=self._peers.book().doubt,
        )
        self._meet(duty, roster)
        self._journal.confirm(
            duty.run_id, RosterEntry(version=duty.version, digest=duty.roster, body=body)
        )
        message = confirm(roster, site_id=self._record.site_id, own=keys.own)
        return ConfirmAnswer(
            kind=DutyKind.CONFIRM, message=message, signature=self._calls.sign(message)
        )

    def _meet(self, duty: ConfirmDuty, roster: Roster) -> None:
        """Pin those that are seen for the first time, loudly."""
        others = [it for it in roster.members if it.site_id != self._record.site_id]
        for member in self._peers.remember(others):
            seen = fingerprint(decode_base64(member.identity_key))
            self._step(
                "peer_pinned",
                f"met the site {member.site_name} in run {duty.run_name} and pinned its "
                f"fingerprint {seen}: compare it with that site's operator",
                {"peer": member.site_name, "fingerprint": seen, "run_id": str(duty.run_id)},
            )

    def _sign(self, duty: SignDuty) -> SignAnswer:
        group = self._group(duty, duty.header)
        message = check_survivors(group, duty.header, duty.survivors)
        self._require_own_word(group, duty.header, duty.survivors)
        self._journal.sign(duty.header, duty.survivors)
        return SignAnswer(kind=DutyKind.SIGN, message=message, signature=self._calls.sign(message))

    def _open(self, duty: OpenDuty) -> OpenAnswer:
        group = self._group(duty, duty.header)
        self._require_own_word(group, duty.header, duty.survivors)
        message = open_sum(
            group,
            duty.header,
            site_id=self._record.site_id,
            own=self._rosters.own_keys(duty.header),
            survivors=duty.survivors,
            signatures=duty.signatures,
            seals=decode_base64(duty.seals),
        )
        self._journal.open(duty.header, duty.survivors)
        return OpenAnswer(kind=DutyKind.OPEN, message=message, signature=self._calls.sign(message))

    def _group(self, duty: SignDuty | OpenDuty, header: Header) -> Group:
        """Return the group of a committee's duty, in which this site has to have a seat."""
        _require_equal("the round's run", header.run_id, duty.run_id)
        _require_equal("the round's id", header.round_id, duty.round_id)
        _require_equal("the round's number", header.round_number, duty.round_number)
        group = self._rosters.group(header)
        group.seat(self._position(group))
        return group

    def _require_own_word(self, group: Group, header: Header, survivors: Positions) -> None:
        """Raise SecaggRefusedError if the survivors name this site, and it masked no update."""
        if self._position(group) in survivors and self._journal.round(header).used is None:
            raise SecaggRefusedError(
                f"the survivors of round {header.round_number} are said to have an update of this "
                "site, which sent none"
            )

    def _position(self, group: Group) -> int:
        position = group.roster.position(self._record.site_id)
        if position is None:
            raise SecaggRefusedError("this site is no member of the roster")
        return position


class DutyThread:
    """Does duties beside the work on a task, when somebody says that there are some."""

    def __init__(
        self,
        server: DutyServer,
        step: Step,
        *,
        delay: Callable[[int], float],
    ) -> None:
        """`delay`: seconds to wait after so many failures in a row."""
        self._server = server
        self._step = step
        self._delay = delay
        self._wanted = threading.Event()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def nudge(self) -> None:
        """Say that there are duties. Returns at once."""
        self._wanted.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="hansa-duties", daemon=True)
            self._thread.start()

    def close(self, timeout_seconds: float) -> None:
        """End the thread, after the duty in hand if that takes no longer than this."""
        self._closed.set()
        self._wanted.set()
        if self._thread is not None:
            self._thread.join(timeout_seconds)

    def _run(self) -> None:
        failures = 0
        while True:
            self._wanted.wait()
            if self._closed.is_set():
                return
            self._wanted.clear()
            try:
                served = self._server.serve()
            except RetryableError:
                self._wanted.set()  # a hub that is away is waited out; the main loop tells of it
                failures += 1
            except HansaError as error:
                self._step("duties_failed", f"no duties can be done: {error}", {})
                failures += 1
            else:
                failures = 0 if served.settled == served.asked else failures + 1
            if failures:
                self._closed.wait(self._delay(failures))


def _fields(duty: Duty) -> dict[str, object]:
    return {"duty_id": str(duty.id), "run_id": str(duty.run_id), "kind": duty.kind.value}


def _require_equal(what: str, seen: UUID | int, wanted: UUID | int) -> None:
    if seen != wanted:
        raise SecaggRefusedError(f"{what} is {seen}, wanted {wanted}")
