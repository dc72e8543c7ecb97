"""Secure runs under test: what has to hold of one, however many of its rounds were burnt.

Masks are drawn anew, and who is late is left out of a sum, so that two runs of a plan differ. What
the hub says of one is recomputed instead, from what it has stored and what the sites have kept.
"""

import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import LiteralString
from uuid import UUID

from hansa.client import HansaClient
from hansa.identity import open_state_dir
from hansa.secure.journal import RefusalEntry, SecureJournal
from hansa.verification import HubBlobs, Trust, collect, verify_bundle
from hansa_core import wire
from hansa_core.receipts import SecureAccount, parse_body
from hansa_core.secagg.messages import Roster, Transcript, parse
from hansa_core.states import RoundKind, RoundState, RunState
from tests.chaos.runs import Auditor

TRANSCRIPT_BEGINS = b'{"'  # no other file in the store is JSON
# What a site says that sees itself asked for a second answer. It does not where nothing is lost.
OWN_WORD = (
    "has masked its update of round",
    "is now shown another set",
    "a round is never held again with another",
    "as the same version",
    "which sent none",
)
# Each finds nothing, or says what.
_QUESTIONS: dict[str, LiteralString] = {
    "tasks that nobody closed": "SELECT count(*) FROM tasks t JOIN rounds r ON r.id = t.round_id"
    " WHERE r.run_id = %(run)s AND t.state IN ('open', 'claimed')",
    "tasks that failed": "SELECT string_agg(t.state_reason, '; ') FROM tasks t"
    " JOIN rounds r ON r.id = t.round_id WHERE r.run_id = %(run)s AND t.state = 'failed'",
    "duties that nobody closed": "SELECT count(*) FROM duties d JOIN rounds r"
    " ON r.id = d.round_id WHERE r.run_id = %(run)s AND d.state = 'open'",
    "duties refused": "SELECT string_agg(d.kind || ': ' || d.reason, '; ') FROM duties d"
    " JOIN rounds r ON r.id = d.round_id WHERE r.run_id = %(run)s AND d.state = 'refused'",
    "leases left on rounds": "SELECT count(*) FROM rounds"
    " WHERE run_id = %(run)s AND lease_token IS NOT NULL",
    "rosters that did not end": "SELECT count(*) FROM rosters"
    " WHERE run_id = %(run)s AND state <> 'ended'",
    "rounds beyond one for each digest": "SELECT count(*) - count(DISTINCT s.digest)"
    " FROM secure_rounds s JOIN rounds r ON r.id = s.round_id WHERE r.run_id = %(run)s",
    "updates beyond one for each task": "SELECT count(*) - count(DISTINCT u.task_id)"
    " FROM updates u JOIN rounds r ON r.id = u.round_id WHERE r.run_id = %(run)s",
    "completed rounds without an attempt or a checkpoint": "SELECT count(*) FROM rounds"
    " WHERE run_id = %(run)s AND kind = 'train' AND state = 'completed'"
    " AND (attempts < 1 OR checkpoint_id IS NULL)",
    "burnt rounds with a checkpoint": "SELECT count(*) FROM rounds"
    " WHERE run_id = %(run)s AND state <> 'completed' AND checkpoint_id IS NOT NULL",
}


@dataclass(frozen=True, slots=True)
class SecureAuditor:
    """Looks at secure runs from outside: as their owner, in the database, in the sites' folders."""

    auditor: Auditor
    sites: Path  # a folder for each site, by name

    @property
    def client(self) -> HansaClient:
        """Whose eyes these are."""
        return self.auditor.client

    @property
    def slug(self) -> str:
        """The federation."""
        return self.auditor.slug

    def violations(self, run: wire.Run) -> list[str]:
        """Return what is wrong with a secure run that has ended."""
        if run.state is not RunState.COMPLETED:
            return [f"the run is {run.state}: {run.state_reason}"]
        rounds = list(self.client.rounds(self.slug, run.id))
        found = {what: self.auditor.ask(query, run)[0] for what, query in _QUESTIONS.items()}
        return [
            *_violations_of_course(run, rounds),
            *(f"{what}: {value}" for what, value in found.items() if value),
            *self._violations_of_receipts(run, rounds),
            *self._violations_of_sites(run),
            *self._violations_of_bundle(run),
        ]

    def _accounts(self, run: wire.Run) -> list[tuple[UUID, RoundState, SecureAccount | None]]:
        accounts = [
            parse_body(receipt.body.encode()).round
            for receipt in self.client.receipts(self.slug, run.id)
        ]
        return [(it.id, it.state, it.secure) for it in accounts if it is not None]

    def _violations_of_receipts(self, run: wire.Run, rounds: Sequence[wire.Round]) -> Iterator[str]:
        """Hold what the receipts say of sums to the rounds that there were."""
        accounts = self._accounts(run)
        told = Counter(account[0] for account in accounts)
        if told != Counter(item.id for item in rounds):
            yield f"{len(rounds)} rounds have {told.total()} receipts of {len(told)} of them"
        secures = {round_id: (state, secure) for round_id, state, secure in accounts}
        for item in rounds:
            state, secure = secures.get(item.id, (None, None))
            if state is not item.state:
                yield f"{_name(item)} is {item.state}, by its receipt {state}"
            elif state is RoundState.COMPLETED and (secure is None or secure.transcript is None):
                yield f"{_name(item)}: a receipt without a transcript"
            elif state is RoundState.COMPLETED and item.kind is RoundKind.TRAIN:
                assert secure is not None
                if secure.summed is None or len(secure.survivors) < item.threshold:
                    yield f"{_name(item)}: a sum {secure.summed} of {len(secure.survivors)}"

    def _violations_of_sites(self, run: wire.Run) -> Iterator[str]:
        """Hold what sites keep of rounds to what the transcripts say; what they refused is wrong.

        Of old rosters they keep nothing.
        """
        for path in self.sites.glob(f"*/secure/{run.id}/refused-*.json"):
            entry = RefusalEntry.model_validate_json(path.read_bytes())
            yield f"{path.parents[2].name} refused a duty {entry.kind}: {entry.reason}"
        for _, _, secure in self._accounts(run):
            if secure is None or secure.transcript is None:
                continue
            body = self.client.roster(secure.roster).body.encode()
            roster = parse(Roster, body, digest=secure.roster)
            transcript = self._transcript(run, secure)
            uploads = {it.member: it for it in transcript.uploads}
            for position, member in enumerate(roster.members):
                state = open_state_dir(self.sites / member.site_name)
                kept = SecureJournal(state.path).round(transcript.header)
                who = f"round {transcript.header.round_number}, {member.site_name}"
                for what, survivors in (("signed", kept.signed), ("opened", kept.opened)):
                    if survivors not in {None, transcript.survivors}:
                        yield f"{who} {what} {survivors}, the sum is of {transcript.survivors}"
                upload = uploads.get(position)
                if upload and kept.used and kept.used.masked != upload.masked:
                    yield f"{who} masked {kept.used.masked}, the sum is of {upload.masked}"

    def _transcript(self, run: wire.Run, secure: SecureAccount) -> Transcript:
        assert secure.transcript is not None
        digest, size = secure.transcript.digest, secure.transcript.size
        with tempfile.TemporaryDirectory(prefix="hansa-chaos-") as folder:
            file = Path(folder) / "transcript"
            self.client.receipts(self.slug, run.id).download(digest, file, size=size)
            return parse(Transcript, file.read_bytes(), digest=digest)

    def _violations_of_bundle(self, run: wire.Run) -> Iterator[str]:
        """Verify the run as anybody may who knows all keys; what cannot be is wrong too."""
        keys = {it.name: frozenset({it.fingerprint}) for it in self.client.sites(self.slug)}
        trust = Trust(frozenset({self.client.hub().fingerprint}), keys)
        with tempfile.TemporaryDirectory(prefix="hansa-chaos-") as folder:
            bundle = collect(self.client, self.slug, run, Path(folder))
            blobs = HubBlobs(self.client.receipts(self.slug, run.id), bundle, keep=False)
            report = verify_bundle(bundle, trust, blobs=blobs)
        for it in (*report.wrong, *report.unchecked):
            yield f"verification of {it.check}, {it.subject}: {it.message}"


def transcripts_beyond_one(root: Path) -> list[str]:
    """Look at every transcript in the store: there is one at most for a round's digest."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for path in root.glob("*/??/*"):
        with path.open("rb") as file:
            if file.read(len(TRANSCRIPT_BEGINS)) != TRANSCRIPT_BEGINS:
                continue
        transcript = parse(Transcript, path.read_bytes(), digest=path.name)
        found[transcript.header.digest()].add(path.name)
    return [
        f"round digest {digest} has {len(names)} transcripts: {', '.join(sorted(names))}"
        for digest, names in found.items()
        if len(names) > 1
    ]


def second_answers(log: Path) -> list[str]:
    """Return what a site's log says of second answers that it was asked for, and refused."""
    lines = log.read_text(errors="replace").splitlines()
    return [line for line in lines if any(phrase in line for phrase in OWN_WORD)]


def _violations_of_course(run: wire.Run, rounds: Sequence[wire.Round]) -> Iterator[str]:
    """Hold the order of a run's rounds to the plan: burnt ones are held again, the others once."""
    trained = [item for item in rounds if item.kind is RoundKind.TRAIN]
    made = [item.number for item in trained if item.state is RoundState.COMPLETED]
    if made != list(range(1, run.plan.rounds + 1)):
        yield f"trained in rounds {made}, wanted 1 to {run.plan.rounds}"
    for number, tries in groupby(trained, key=lambda item: item.number):
        states = [(item.retry, item.state) for item in tries]
        wanted = [(retry, RoundState.FAILED) for retry in range(len(states) - 1)]
        if states != [*wanted, (len(wanted), RoundState.COMPLETED)]:
            yield f"round {number} was tried as {states}"
    evaluations = len(rounds) - len(trained)
    if evaluations != int(run.plan.evaluation.final):
        yield f"{evaluations} evaluation rounds, wanted {run.plan.evaluation.final}"


def _name(item: wire.Round) -> str:
    return f"round {item.number} (try {item.retry + 1}, {item.kind})"
