"""`verify_bundle`: everything that a run's receipts claim, checked against bytes. No network.

One pass over the chain, in its order; memory is one receipt and a few tiles, whatever the run and
the models. A receipt that cannot be believed does not end the pass: the ones after it are checked
as far as they go, so that the report names all that is wrong at once.
"""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import ValidationError

from hansa.verification.accounts import (
    check_end,
    list_of,
    quorum_problem,
    tell_end,
    tell_round,
)
from hansa.verification.aggregates import (
    StoredFile,
    StoredRound,
    StoredUpdate,
    recomputing_problem,
)
from hansa.verification.bundles import Blobs, Bundle, BundleInfo
from hansa.verification.files import Files
from hansa.verification.lineage import Lineage
from hansa.verification.reports import Check, Ledger, Report
from hansa.verification.secure import SecureRound, as_one_update, check_sum
from hansa.verification.trust import Trust, check_keys
from hansa.verification.updates import check_received
from hansa_core import receipts, wire
from hansa_core.codecs.plans import ExactPlan
from hansa_core.plans import RunPlan
from hansa_core.problems import AggregationError, CoreError, ReceiptError
from hansa_core.receipts import (
    Receipt,
    ReceivedUpdate,
    RoundAccount,
    SealedReceipt,
    SecureAccount,
)
from hansa_core.signing import decode_base64, fingerprint
from hansa_core.states import RoundKind, RoundState, RunState
from hansa_core.strategies import Strategy, strategy_of
from hansa_core.tensor_groups import TensorsPlan

OnReceipt = Callable[[str], None]


def verify_bundle(
    bundle: Bundle,
    trust: Trust,
    *,
    blobs: Blobs | None = None,
    on_receipt: OnReceipt | None = None,
) -> Report:
    """Check a bundle and say what holds, what is wrong and what could not be checked.

    `blobs` is where files come from, if not from the bundle; `on_receipt` is told each sentence of
    the story as it becomes known.

    Raises:
        LocalError: the folder is no bundle.
    """
    walk = _Walk(bundle, bundle.info(), trust, Ledger(), Files(blobs or bundle))
    for sentence in walk.sentences():
        if on_receipt is not None:
            on_receipt(sentence)
    return walk.report()


class _Walk:
    """One pass over a chain."""

    def __init__(
        self, bundle: Bundle, info: BundleInfo, trust: Trust, ledger: Ledger, files: Files
    ) -> None:
        self._bundle = bundle
        self._info = info
        self._trust = trust
        self._ledger = ledger
        self._files = files
        self._plan: RunPlan | None = None
        self._lineage = Lineage(ledger)
        self._position = 0
        self._parent: str | None = None  # SHA-256 of the body before
        self._before: Receipt | None = None
        self._hub_keys: dict[str, None] = {}  # ordered
        self._site_keys: dict[tuple[str, str], None] = {}  # (name, fingerprint), ordered
        self._story: list[str] = []

    def sentences(self) -> Iterator[str]:
        """Check receipt after receipt; yield what each of them tells."""
        for path, stored in self._bundle.receipts():
            self._position += 1
            receipt = self._open(path, stored)
            if receipt is None:
                continue
            sentence = self._check(receipt)
            self._story.append(sentence)
            yield sentence
        self._check_end_of_chain()
        check_keys(self._ledger, self._trust, self._hub_keys, self._site_keys)

    def report(self) -> Report:
        """Return what the pass found."""
        return Report(
            run_id=self._info.run_id,
            run_name=self._info.run_name,
            federation=self._info.federation,
            hub_keys=tuple(self._hub_keys),
            receipts=self._position,
            head=self._parent,
            story=tuple(self._story),
            holds=dict(self._ledger.holds),
            wrong=tuple(self._ledger.wrong),
            unchecked=tuple(self._ledger.unchecked),
        )

    def _open(self, path: Path, stored: wire.Receipt | str) -> Receipt | None:
        """Check a receipt as such: its name, its signature, its place."""
        ledger = self._ledger
        subject = f"receipt {self._position} ({path.name})"
        if isinstance(stored, str):
            ledger.fail(Check.CHAIN, subject, stored)
            self._parent, self._before = None, None
            return None
        body = stored.body.encode()
        receipt: Receipt | None = None
        try:
            receipt = receipts.parse_body(body)
            subject = receipt.subject
        except ReceiptError as error:
            ledger.fail(Check.CHAIN, subject, f"{error}; what it says is not looked at")
        try:
            sealed = SealedReceipt(
                body=body,
                digest=stored.digest,
                signature=decode_base64(stored.signature),
                public_key=decode_base64(stored.public_key),
            )
            signer = fingerprint(sealed.public_key)
        except CoreError as error:
            ledger.fail(Check.SIGNATURE, subject, str(error))
        else:
            ledger.settle(Check.DIGEST, subject, receipts.check_digest(sealed))
            wrong = receipts.check_signature(sealed, receipt)
            if ledger.settle(Check.SIGNATURE, subject, wrong):
                self._hub_keys[signer] = None
        if receipt is not None:
            self._place(receipt, subject)
        self._parent, self._before = hashlib.sha256(body).hexdigest(), receipt
        return receipt

    def _place(self, receipt: Receipt, subject: str) -> None:
        wrong = receipts.chain_problems(
            receipt, position=self._position, parent=self._parent, before=self._before
        )
        if receipt.run.id != self._info.run_id:
            wrong.append(f"it is of run {receipt.run.id}, wanted {self._info.run_id}")
        for problem in wrong:
            self._ledger.fail(Check.CHAIN, subject, problem)
        if not wrong:
            self._ledger.hold(Check.CHAIN)

    def _check(self, receipt: Receipt) -> str:
        """Check what a receipt claims; return it as a sentence."""
        if receipt.origin is not None:
            self._take_plan(receipt, receipt.origin)
            self._lineage.begin(receipt, receipt.origin)
        if (account := receipt.round) is not None:
            made = self._check_round(receipt, account, self._lineage.checkpoints(account))
            self._lineage.step(receipt, account)
            return tell_round(receipt, account, made)
        if (end := receipt.end) is not None:
            check_end(self._ledger, receipt, end, plan=self._plan, lineage=self._lineage)
            return tell_end(receipt, end)
        raise AssertionError("a receipt is of a round or of a run's end")

    def _take_plan(self, receipt: Receipt, origin: receipts.Origin) -> None:
        subject = receipt.subject
        if origin.plan is None:
            self._ledger.skip(Check.PLAN, subject, "the receipt does not carry the plan's bytes")
            return
        found = hashlib.sha256(origin.plan.encode()).hexdigest()
        wrong = f"the plan has SHA-256 {found}, the receipts name {receipt.plan_digest}"
        same = found == receipt.plan_digest
        if not self._ledger.settle(Check.PLAN, subject, None if same else wrong):
            return
        try:
            self._plan = RunPlan.model_validate_json(origin.plan)
        except ValidationError:
            why = "this SDK does not know every field of the plan; use a newer one"
            self._ledger.skip(Check.PLAN, subject, why)

    def _check_round(self, receipt: Receipt, account: RoundAccount, before: tuple[str, ...]) -> str:
        """Check the round's updates and its aggregate; return what became of the aggregate."""
        self._check_quorum(receipt, account)
        used: list[StoredUpdate] = []
        lost: list[str] = []  # sites
        for update in account.updates:
            subject = f"{receipt.subject}, site {update.site.name}"
            self._site_keys[update.site.name, update.site.fingerprint] = None
            check_received(
                self._ledger,
                subject,
                update,
                self._bundle.update(update.task_id),
                run_id=receipt.run.id,
                round_number=account.round_number,
                checkpoints=before,
                plan=self._plan,
            )
            if update.weight is None or update.scale is None:
                continue
            found = self._stored_update(subject, update)
            if found is None:
                lost.append(update.site.name)
            else:
                used.append(found)
        participants = len(used)
        if account.secure is not None:
            used, lost = self._check_sum(receipt, account, account.secure, used, lost)
        made = self._check_aggregate(receipt, account, used, lost, participants)
        slots = account.aggregate.slots if account.aggregate else account.base_slots
        newest = account.aggregate.checkpoint if account.aggregate else account.base
        self._files.release(frozenset({newest.digest, *(it.digest for it in slots.values())}))
        return made

    def _stored_update(self, subject: str, update: ReceivedUpdate) -> StoredUpdate | None:
        """Return an update with its parts, all checked; None where any of it is not to be had."""
        stored = self._bundle.update(update.task_id)
        manifest = _manifest(stored) if isinstance(stored, wire.Update) else None
        file = self._stored(f"{subject}, its update", update.digest, update.size)
        parts: dict[str, StoredFile] = {}
        for name, part in (manifest.parts if manifest else {}).items():
            found = self._stored(f"{subject}, its {name}", part.digest, part.size)
            if found is None:
                return None
            parts[name] = found
        if file is None or update.weight is None or update.scale is None:
            return None
        root = self._plan.strategy.root_site if self._plan else None
        return StoredUpdate(
            file=file,
            weight=update.weight,
            scale=update.scale,
            scalars={name.value: it for name, it in manifest.scalars.items()} if manifest else {},
            parts=parts,
            groups=tuple(manifest.groups) if manifest else (),
            root=root is not None and update.site.name == root,
        )

    def _stored(self, subject: str, digest: str, size: int) -> StoredFile | None:
        path = self._files.checked(self._ledger, subject, digest, size)
        return None if path is None else StoredFile(digest, path)

    def _check_quorum(self, receipt: Receipt, account: RoundAccount) -> None:
        if account.state is RoundState.COMPLETED:
            self._ledger.settle(Check.QUORUM, receipt.subject, quorum_problem(account, self._plan))
        elif account.used or account.aggregate is not None:
            wrong = f"the round is {account.state} and yet claims an aggregate"
            self._ledger.fail(Check.AGGREGATE, receipt.subject, wrong)

    def _check_aggregate(
        self,
        receipt: Receipt,
        account: RoundAccount,
        updates: list[StoredUpdate],
        lost: list[str],
        participants: int,
    ) -> str:
        ledger, aggregate = self._ledger, account.aggregate
        subject = receipt.subject
        if aggregate is None:
            if account.state is RoundState.COMPLETED and account.kind is RoundKind.TRAIN:
                ledger.fail(Check.AGGREGATE, subject, "a completed round without an aggregate")
            return ""
        base = self._stored(
            f"{subject}, its base checkpoint", account.base.digest, account.base.size
        )
        stored = aggregate.checkpoint
        self._files.checked(ledger, f"{subject}, its checkpoint", stored.digest, stored.size)
        slots, missing = self._base_slots(subject, account)
        for name, slot in aggregate.slots.items():
            self._files.checked(ledger, f"{subject}, its {name}", slot.digest, slot.size)
        missing += [*(["the base checkpoint"] if base is None else [])]
        missing += [f"the update of {name}" for name in lost]
        try:
            strategy = strategy_of(aggregate.rule)
        except AggregationError:
            why = f"this SDK does not know the rule {aggregate.rule!r}"
            ledger.skip(Check.AGGREGATE, subject, why)
            return "not recomputed"
        if base is None or missing:
            why = f"it cannot be recomputed without {list_of(missing)}"
            ledger.skip(Check.AGGREGATE, subject, why)
            return "not recomputed"
        plan = self._plan
        round_ = StoredRound(
            base=base,
            updates=updates,
            slots=slots,
            population=account.population,
            tensors=plan.tensors if plan else TensorsPlan(),
            codec=plan.codec if plan else ExactPlan(),
            participants=None if account.secure is None else participants,
        )
        wrong = self._rule_problem(strategy) or recomputing_problem(strategy, round_, aggregate)
        if ledger.settle(Check.AGGREGATE, subject, wrong):
            return "recomputed bit for bit"
        return "NOT what the updates give"

    def _check_sum(
        self,
        receipt: Receipt,
        account: RoundAccount,
        secure: SecureAccount,
        used: list[StoredUpdate],
        lost: list[str],
    ) -> tuple[list[StoredUpdate], list[str]]:
        """Check how a secure round's sum was opened; return it as one update, or what is lost."""
        ledger, subject = self._ledger, receipt.subject
        if account.state is not RoundState.COMPLETED:
            return used, lost
        if self._plan is None:
            ledger.skip(Check.SUM, subject, "the plan, which has the terms of the sum, is unknown")
            return [], [*lost, "the plan"]
        updates = {it.file.digest: it for it in used}
        round_ = SecureRound(receipt, account, secure, self._plan, updates, tuple(lost))
        for name, key in check_sum(ledger, self._files, self._bundle, round_):
            self._site_keys[name, key] = None
        if secure.summed is None:
            return [], lost
        delta = self._stored(f"{subject}, its mean delta", secure.summed.digest, secure.summed.size)
        parts = {
            name: self._stored(f"{subject}, its mean {name}", part.digest, part.size)
            for name, part in secure.summed_parts.items()
        }
        there = {name: file for name, file in parts.items() if file is not None}
        if delta is None or len(there) != len(parts):
            return [], ["the mean delta"]
        return [as_one_update(round_, delta, there)], []

    def _base_slots(
        self, subject: str, account: RoundAccount
    ) -> tuple[dict[str, StoredFile], list[str]]:
        """Return the slots that the round went on from, and the names of those not to be had."""
        found: dict[str, StoredFile] = {}
        missing: list[str] = []
        for name, slot in account.base_slots.items():
            stored = self._stored(f"{subject}, its base's {name}", slot.digest, slot.size)
            if stored is None:
                missing.append(f"its base's {name}")
            else:
                found[name] = stored
        return found, missing

    def _rule_problem(self, strategy: Strategy) -> str | None:
        """Return what is wrong with the rule that a receipt names, or None."""
        if self._plan is None or strategy == self._plan.strategy:
            return None
        seen, wanted = strategy.rule_name(), self._plan.strategy.rule_name()
        return f"it was made by the rule {seen!r}, the plan's is {wanted!r}"

    def _check_end_of_chain(self) -> None:
        ended = self._info.run_state in {
            RunState.COMPLETED,
            RunState.FAILED,
            RunState.CANCELLED,
        }
        if self._before is not None and self._before.end is not None:
            return
        where = f"after receipt {self._position}"
        if not self._position:
            why = "there is no receipt: the hub gave none for this run"
            self._ledger.skip(Check.CHAIN, "the chain", why)
        elif ended:
            state = self._info.run_state
            wrong = f"the run is {state}, but the receipt of its end is missing"
            self._ledger.fail(Check.END, where, wrong)
        else:
            why = f"the run was {self._info.run_state} when this was collected: it has no end yet"
            self._ledger.skip(Check.END, where, why)


def _manifest(stored: wire.Update) -> wire.UpdateManifest | None:
    """Return what a site signed; None where it cannot be read, which is told elsewhere."""
    try:
        return wire.UpdateManifest.model_validate_json(stored.manifest)
    except ValidationError:
        return None
